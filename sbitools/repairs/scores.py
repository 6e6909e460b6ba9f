"""Normal scores of a posterior's marginals: see `sbitools.inference.repaired.scores`."""

from __future__ import annotations

from sbitools.inference.repaired.scores import MarginalScores

__all__ = ["MarginalScores"]
