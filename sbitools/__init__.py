"""Simulation-based inference from a few expensive simulations.

A few expensive simulations -> a field-level emulator -> many cheap simulations -> an amortised
posterior -> calibration against the expensive simulator -> a report.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

# What is decided silently is told to the logger "sbitools" and its children, e.g.
# "sbitools.inference.train"; it is heard by those who ask: logging.basicConfig(level="INFO").
logging.getLogger(__name__).addHandler(logging.NullHandler())

# Names are loaded where they are first used, so that `sbitools --help` need not wait for torch.
_HOME = {
    "CommandSimulator": "campaign.command",
    "FieldSpec": "simulator",
    "ForeignPosterior": "bridge",
    "FunctionSimulator": "simulator",
    "Observation": "observation",
    "Parameter": "parameters",
    "ParameterSpace": "parameters",
    "Posterior": "inference",
    "SimulationStore": "store",
    "Simulator": "simulator",
    "calibrate": "calibration",
    "repair": "repairs",
    "simulate": "campaign",
    "train": "inference",
    "train_models": "inference",
    "train_rounds": "inference",
}
_MODULES = (
    "arviz", "bridge", "calibration", "campaign", "checkpoint", "config", "embeddings", "errors",
    "inference", "networks", "observation", "parameters", "priors", "repairs", "report", "seeds",
    "simulator", "statistics", "store", "systems", "training",
)  # fmt: skip

# Without the modules: "from sbitools import *" would hide arviz, statistics, or a script's store.
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from .bridge import ForeignPosterior
    from .calibration import calibrate
    from .campaign import simulate
    from .campaign.command import CommandSimulator
    from .inference import Posterior, train, train_models, train_rounds
    from .observation import Observation
    from .parameters import Parameter, ParameterSpace
    from .repairs import repair
    from .simulator import FieldSpec, FunctionSimulator, Simulator
    from .store import SimulationStore


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'sbitools' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_HOME, *_MODULES, "__version__"])
