"""Conditional densities of short vectors and their fits: below inference and emulators."""

from __future__ import annotations

from .mixture import Mixture, select_members, stacking_weights
from .vector import VectorDensity

__all__ = ["Mixture", "VectorDensity", "select_members", "stacking_weights"]
