"""Neural posterior estimation: maximise E log q(theta | x) over the simulations of a store.

Papamakarios & Murray 2016 (arXiv:1605.06376), Greenberg et al. 2019 (arXiv:1905.07488).
"""

from __future__ import annotations

from typing import Any

from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .ensemble import member_options
from .estimator import Estimator, EstimatorOptions
from .methods import Method
from .mixture import Mixture
from .options import CommonOptions
from .posterior import Posterior
from .vectors import VectorEstimator, fitted_whole

__all__ = ["METHODS", "NPEOptions"]


class NPEOptions(EstimatorOptions, CommonOptions):
    """Options of neural posterior estimation: the network and its training, in one table."""


def _build(options: EstimatorOptions, parameters: ParameterSpace, spec: FieldSpec) -> Any:
    n = len(parameters)
    if fitted_whole(options, spec):
        return VectorEstimator(
            n, spec, hidden=options.flow_hidden, members=options.members,
            components=options.components, seed=options.seed,
        )  # fmt: skip
    if options.ensemble == 1:
        return Estimator(options, n, spec)
    return Mixture([Estimator(one, n, spec) for one in member_options(options)])


METHODS = {
    "npe": Method(
        "npe", "neural posterior estimation", EstimatorOptions, NPEOptions, _build, Posterior
    )
}
