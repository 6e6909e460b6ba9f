"""NPE of sbi by its defaults, on simulations of a store."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any, Literal

from sbitools import ForeignPosterior, bridge
from sbitools.seeds import seeded_globals

__all__ = ["sbi_npe"]


def sbi_npe(store: Any, model: Literal["maf", "nsf"] = "maf") -> ForeignPosterior:
    """Its densities are divided by the share of its draws inside the prior.

    Args:
        store: of simulations, all of which are taken.
        model: name of the density estimator; sbi's own default if not given.
    """
    from sbi.inference import NPE

    theta, x = bridge.theta_and_x(store)
    with seeded_globals(1), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inference = NPE(
            bridge.prior_for_sbi(store.parameters), density_estimator=model,
            show_progress_bars=False,
        )  # fmt: skip
        inference.append_simulations(theta, x).train()
        return ForeignPosterior(inference.build_posterior(), store.parameters, store.output)
