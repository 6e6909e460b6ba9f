"""Repairs by name."""

from __future__ import annotations

__all__ = ["METHODS"]

METHODS = ("recalibrate", "reweight", "fine_tune")
