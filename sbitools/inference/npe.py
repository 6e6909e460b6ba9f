"""Neural posterior estimation: maximise E log q(theta | x) over the simulations of a store.

Papamakarios & Murray 2016 (arXiv:1605.06376), Greenberg et al. 2019 (arXiv:1905.07488).
"""

from __future__ import annotations

from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .estimator import Estimator, EstimatorOptions
from .methods import Method
from .options import CommonOptions
from .posterior import Posterior

__all__ = ["METHODS", "NPEOptions"]


class NPEOptions(EstimatorOptions, CommonOptions):
    """Options of neural posterior estimation: the network and its training, in one table."""


def _build(options: EstimatorOptions, parameters: ParameterSpace, spec: FieldSpec) -> Estimator:
    return Estimator(options, len(parameters), spec)


METHODS = {
    "npe": Method(
        "npe", "neural posterior estimation", EstimatorOptions, NPEOptions, _build, Posterior
    )
}
