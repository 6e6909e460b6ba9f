"""Calibration: is a posterior right, and is it right about the reference simulator?

Every check takes posterior draws (tests, draws, parameters) and true parameters, and returns a
`Check` with a p-value, an effect size and a band. `calibrate` draws once and runs them all.
"""

from __future__ import annotations

# Some functions carry the names of their modules, so they are bound here, after the modules.
from .calibrate import calibrate, calibrate_draws
from .check import Check
from .checks.attribution import attribute
from .checks.conditional import conditional
from .checks.contraction import contraction
from .checks.coverage import coverage
from .checks.discrete import discrete
from .checks.information import information, information_lost
from .checks.latent import latent
from .checks.local import local_c2st, local_check
from .checks.misspecification import familiar, misspecification, mmd
from .checks.models import models
from .checks.predictive import predictive, predictive_check
from .checks.ranks import sbc
from .checks.recovery import recovery
from .checks.tarp import tarp
from .checks.transfer import transfer
from .drawing.draws import CalibrationDraws, Excluded
from .drawing.observed_tests import ObservedTests, look
from .power import needed_tests, power
from .result import CalibrationResult
from .statistics.bands import simultaneous_band
from .statistics.joint import joint_null

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
    "models",
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
