"""The observation model: what an instrument makes of a simulated field.

One object serves training (where its noise is redrawn at every step), calibration and sampling, so
that a posterior is always asked about data of the kind it was trained on. Steps are applied in
order; each is named in a registry, so that an observation model is plain values in a file.
"""

from .curves import Asinh, Log
from .observation import Observation
from .part import Part
from .spectral_noise import SpectralNoise
from .step import Step
from .steps import Coarsen, Mask, Noise, Scale, Smooth

__all__ = [
    "Asinh", "Coarsen", "Log", "Mask", "Noise", "Observation", "Part", "Scale", "Smooth",
    "SpectralNoise", "Step",
]  # fmt: skip
