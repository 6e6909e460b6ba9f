"""Repairs by name: classes of posteriors that a checkpoint may name."""

from __future__ import annotations

from .posterior import RepairedPosterior
from .recalibrate import RecalibratedPosterior
from .reweight import ReweightedPosterior

__all__ = ["METHODS", "REPAIRED"]

REPAIRED: dict[str, type[RepairedPosterior]] = {
    kind.method: kind for kind in (RecalibratedPosterior, ReweightedPosterior)
}

METHODS = ("recalibrate", "reweight", "fine_tune")
