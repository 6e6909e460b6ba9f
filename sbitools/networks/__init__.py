"""Layers that embeddings and emulators share."""

from __future__ import annotations

from .periodic import PeriodicPad1d, PeriodicPad2d, PeriodicPad3d, circular_pad
from .styled import StyledConv3d, StyledResidual3d

__all__ = [
    "PeriodicPad1d", "PeriodicPad2d", "PeriodicPad3d", "StyledConv3d", "StyledResidual3d",
    "circular_pad",
]  # fmt: skip
