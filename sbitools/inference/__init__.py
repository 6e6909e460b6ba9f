"""Density estimators, their training, and the posterior a user samples from."""

from __future__ import annotations

from .npe import NPEOptions, train
from .posterior import Posterior

__all__ = ["NPEOptions", "Posterior", "train"]
