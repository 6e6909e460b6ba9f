"""Calibration: is a posterior right, and is it right about the reference simulator?

Every check takes posterior draws (tests, draws, parameters) and true parameters, and returns a
`Check` with a p-value, an effect size and a band. `calibrate` draws once and runs them all.
"""

from __future__ import annotations

# Functions carry the names of their modules, so they are bound here, after the modules.
from .attribution import attribute
from .bands import simultaneous_band
from .calibrate import calibrate, calibrate_draws
from .check import Check
from .conditional import conditional
from .contraction import contraction
from .coverage import coverage
from .discrete import discrete
from .draws import CalibrationDraws, Excluded
from .information import information, information_lost
from .joint import joint_null
from .latent import latent
from .local import local_c2st, local_check
from .misspecification import familiar, misspecification, mmd
from .observed_tests import ObservedTests, look
from .power import needed_tests, power
from .predictive import predictive, predictive_check
from .ranks import sbc
from .recovery import recovery
from .result import CalibrationResult
from .tarp import tarp
from .transfer import transfer

__all__ = [
    "CalibrationDraws",
    "CalibrationResult",
    "Check",
    "Excluded",
    "ObservedTests",
    "attribute",
    "calibrate",
    "calibrate_draws",
    "conditional",
    "contraction",
    "coverage",
    "discrete",
    "familiar",
    "information",
    "information_lost",
    "joint_null",
    "latent",
    "local_c2st",
    "local_check",
    "look",
    "misspecification",
    "mmd",
    "needed_tests",
    "power",
    "predictive",
    "predictive_check",
    "recovery",
    "sbc",
    "simultaneous_band",
    "tarp",
    "transfer",
]
