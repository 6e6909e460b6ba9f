"""Density estimators, their training, and the posterior a user samples from."""

from __future__ import annotations

from .methods import METHODS
from .npe import NPEOptions
from .posterior import Posterior
from .train import train

__all__ = ["METHODS", "NPEOptions", "Posterior", "train"]
