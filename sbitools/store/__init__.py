"""The simulation store: simulations on disk, in immutable parts with their provenance."""

from __future__ import annotations

from .contents import Failure
from .store import SimulationStore

__all__ = ["Failure", "SimulationStore"]
