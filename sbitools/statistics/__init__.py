"""Summary statistics of fields, and the noise floor of their comparison."""

from __future__ import annotations

from .grid import (
    Spectrum,
    cross_correlation,
    cross_power,
    pdf,
    power_spectrum,
    transfer_function,
)
from .noise_floor import NoiseFloor, noise_floor

__all__ = [
    "NoiseFloor",
    "Spectrum",
    "cross_correlation",
    "cross_power",
    "noise_floor",
    "pdf",
    "power_spectrum",
    "transfer_function",
]
