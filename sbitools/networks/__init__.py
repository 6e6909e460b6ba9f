"""Layers that embeddings and emulators share."""

from __future__ import annotations

from .periodic import PeriodicPad1d, PeriodicPad2d, PeriodicPad3d, circular_pad

__all__ = ["PeriodicPad1d", "PeriodicPad2d", "PeriodicPad3d", "circular_pad"]
