"""Reweighting: the classifier that knows reference truths from a posterior's draws, fitted."""

from __future__ import annotations

from sbitools.inference.repaired.reweighted import ReweightedPosterior

from .evidence import Evidence
from .tilt import fit_tilt

__all__ = ["ReweightedPosterior", "reweight"]


def reweight(evidence: Evidence, seed: int = 0) -> ReweightedPosterior:
    """Fit the weights to reference truths; see `ReweightedPosterior`.

    Args:
        evidence: reference simulations as the posterior sees them.
        seed: of the folds that choose the classifier's penalty.
    """
    tilt = fit_tilt(evidence, seed)
    return ReweightedPosterior(evidence.posterior, tilt, **evidence.provenance())
