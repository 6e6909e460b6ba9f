"""Repairs: an emulator-trained posterior mended with few simulations of the reference.

`repair` fine-tunes, recalibrates or reweights, and judges each by simulations it did not see.
`learning_curve` and `augmentation_factor` say what simulations are worth.
"""

from __future__ import annotations

from .augmentation import AugmentationFactor, LearningCurve, augmentation_factor, learning_curve
from .conformal import ConformalLevel, conformal_level
from .fine_tune import fine_tune
from .judgement import Judgement
from .posterior import RepairedPosterior
from .repair import judgement, repair

__all__ = [
    "AugmentationFactor",
    "ConformalLevel",
    "Judgement",
    "LearningCurve",
    "RepairedPosterior",
    "augmentation_factor",
    "conformal_level",
    "fine_tune",
    "judgement",
    "learning_curve",
    "repair",
]
