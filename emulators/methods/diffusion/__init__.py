"""Diffusion models of fields: noise levels, the denoiser's loss, samplers, overlapping windows."""

from __future__ import annotations

from .denoiser import Denoise, Denoiser
from .samplers import SAMPLERS, Sampler, n_calls, sample, states
from .schedules import SCHEDULES, Schedule

__all__ = [
    "SAMPLERS", "SCHEDULES", "Denoise", "Denoiser", "Sampler", "Schedule", "n_calls", "sample",
    "states",
]  # fmt: skip
