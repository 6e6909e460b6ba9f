"""The names of the stages, in the order of the chain: what folders and records are called."""

from __future__ import annotations

__all__ = ["NAMES"]

NAMES = (
    "reference/train", "reference/validation", "reference/test", "emulator", "validation",
    "emulated/train", "emulated/test", "posterior", "choice", "calibration", "repair",
    "observation", "report",
)  # fmt: skip
