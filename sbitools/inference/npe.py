"""Neural posterior estimation: maximise E log q(theta | x) over the simulations of a store.

Papamakarios & Murray 2016 (arXiv:1605.06376), Greenberg et al. 2019 (arXiv:1905.07488).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sbitools.densities.mixture import Mixture
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .ensemble import fit_ensemble, member_options
from .estimator import Estimator, EstimatorOptions
from .job import Job, fit_network
from .methods import Method, no_turns_of_vectors
from .options import CommonOptions
from .posterior import Posterior
from .vectors import VectorEstimator, fitted_whole
from .vectors.training import UNUSED, fit_vectors, vector_options

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


def _fit(job: Job, estimator: Any, run_dir: Path, resume: bool, on_epoch: Any) -> Any:
    if isinstance(estimator, VectorEstimator):
        return fit_vectors(job, estimator, run_dir, resume, on_epoch)
    if isinstance(estimator, Mixture):
        return fit_ensemble(job, estimator, run_dir, resume, on_epoch)
    return fit_network(job, estimator, run_dir, resume, on_epoch)


def _unused(options: NPEOptions, spec: FieldSpec) -> dict[str, str]:
    if not fitted_whole(options, spec):
        return no_turns_of_vectors(options, spec)
    return dict.fromkeys(UNUSED, "name a flow, e.g. flow='zuko_nsf'") | {"symmetry": ""}


METHODS = {
    "npe": Method(
        "npe", "neural posterior estimation", EstimatorOptions, NPEOptions, _build, Posterior,
        _fit, adapt=vector_options, unused=_unused,
    )
}  # fmt: skip
