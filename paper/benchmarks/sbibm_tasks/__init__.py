"""The ten tasks of the benchmark of simulation-based inference, from their definitions.

Lueckmann, Boelts, Greenberg, Goncalves & Macke 2021, "Benchmarking simulation-based inference"
(arXiv:2101.04653), appendix T. Each task is a simulator for `sbitools.simulate`, with the log
likelihood and draws of the posterior for any observation.
"""

from __future__ import annotations

from collections.abc import Callable

from .dynamics import SIR, LotkaVolterra
from .gaussian import GaussianLinear, GaussianLinearUniform, GaussianMixture
from .glm import BernoulliGLM, BernoulliGLMRaw
from .slcp import SLCP, SLCPDistractors
from .task import Task
from .two_moons import TwoMoons

__all__ = ["TASKS", "Task", "get_task"]

TASKS: dict[str, Callable[[], Task]] = {
    "gaussian_linear": GaussianLinear,
    "gaussian_linear_uniform": GaussianLinearUniform,
    "gaussian_mixture": GaussianMixture,
    "two_moons": TwoMoons,
    "slcp": SLCP,
    "slcp_distractors": SLCPDistractors,
    "bernoulli_glm": BernoulliGLM,
    "bernoulli_glm_raw": BernoulliGLMRaw,
    "sir": SIR,
    "lotka_volterra": LotkaVolterra,
}


def get_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}; got {name!r}")
    return TASKS[name]()
