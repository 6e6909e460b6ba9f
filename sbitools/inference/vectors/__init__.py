"""Posteriors of short data vectors: no embedding, and strong from a thousand simulations on."""

from __future__ import annotations

from .estimator import VectorEstimator, fitted_whole

__all__ = ["VectorEstimator", "fitted_whole"]
