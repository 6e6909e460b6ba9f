"""Sky maps of a scanning satellite: time-ordered data, scattering covariances, the emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Bound here, at once, since importing the submodule of the same name would bind that instead; it
# does not import torch.
from .system import system

if TYPE_CHECKING:
    from emulators.methods.sky.wavelets.transform import ScatteringCovariance

    from .emulator import ScatteringEmulator
    from .simulator import TodSimulator

__all__ = ["ScatteringCovariance", "ScatteringEmulator", "TodSimulator", "system"]

_HOME = {
    "ScatteringCovariance": "emulators.methods.sky.wavelets.transform",
    "ScatteringEmulator": ".emulator", "TodSimulator": ".simulator",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
