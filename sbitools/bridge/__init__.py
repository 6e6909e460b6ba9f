"""The bridge to `sbi`: its posteriors, priors and training sets are taken and given.

A posterior that `sbi` trained is calibrated, repaired and reported like one of ours
(`ForeignPosterior`); priors cross in both directions (`parameters_from`, `prior_for_sbi`); a store
gives `sbi` what it trains on (`theta_and_x`). `sbi` itself is imported where it is used, and
nowhere else.

Example:
    >>> theta, x = bridge.theta_and_x(store)  # doctest: +SKIP
    >>> theirs = NPE(bridge.prior_for_sbi(store.parameters))  # doctest: +SKIP
    >>> theirs.append_simulations(theta, x).train()  # doctest: +SKIP
    >>> posterior = bridge.ForeignPosterior(
    ...     theirs.build_posterior(), store.parameters, store.output, trained_on=store
    ... )  # doctest: +SKIP
    >>> sbitools.calibrate(posterior, tests, reference=truth).verdict  # doctest: +SKIP
"""

from __future__ import annotations

from .parameters import parameters_from
from .posterior import ForeignPosterior
from .prior import SpacePrior, prior_for_sbi
from .simulations import theta_and_x

__all__ = ["ForeignPosterior", "SpacePrior", "parameters_from", "prior_for_sbi", "theta_and_x"]
