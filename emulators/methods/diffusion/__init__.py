"""Diffusion models of fields: an emulator of any field on a grid, and the parts it is made of."""

from __future__ import annotations

from .denoiser import Denoise, Denoiser

# Bound here, at once, since importing the submodule of the same name would bind that instead.
from .method import method
from .samplers import SAMPLERS, Sampler, n_calls, sample, states
from .schedules import SCHEDULES, Schedule

__all__ = [
    "SAMPLERS", "SCHEDULES", "Denoise", "Denoiser", "Sampler", "Schedule", "method", "n_calls",
    "sample", "states",
]  # fmt: skip
