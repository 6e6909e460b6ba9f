"""Posteriors that `sbitools.repair` made of others; how they are fitted: `sbitools.repairs`."""

from __future__ import annotations

from .posterior import KIND, RepairedPosterior
from .recalibrated import RecalibratedPosterior
from .reweighted import ReweightedPosterior
from .saved import load_repaired

__all__ = [
    "KIND", "RecalibratedPosterior", "RepairedPosterior", "ReweightedPosterior", "load_repaired",
]  # fmt: skip
