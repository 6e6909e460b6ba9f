"""The 21cm signal of hydrogen: 21cmFAST, a diffusion model of its fields, and an instrument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Bound here, at once, since importing the submodule of the same name would bind that instead; it
# does not import torch.
from .system import system

if TYPE_CHECKING:
    from .distillation import distill
    from .emulator import ReionizationEmulator
    from .simulator import ReionizationSimulator

__all__ = ["ReionizationEmulator", "ReionizationSimulator", "distill", "system"]

_HOME = {
    "ReionizationEmulator": "emulator", "ReionizationSimulator": "simulator",
    "distill": "distillation",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
