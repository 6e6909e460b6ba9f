"""Sources of simulations that nobody gives a source to: those of simulations, drawn by seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import f as f_distribution
from torch import Tensor

from sbitools.parameters import ParameterSpace
from sbitools.seeds import generator, mix

from .layout import Layout
from .profile import fit_profile
from .terms import condition

__all__ = ["draw", "follows", "most_kept", "varies"]

_KEPT = 1 << 27  # bytes of sources that are kept
_LEAST = 32  # or so many, however large they are
_CHANCE = 1e-3  # of any alarm at all for sources that do not depend on theta
_DRAWN, _MOVED = 31, 32  # salts


def most_kept(nbytes: int) -> int:
    """Sources of so many bytes each that are kept."""
    return max(_LEAST, _KEPT // nbytes)


def draw(kept: Tensor, seeds: Tensor, axes: Sequence[int]) -> Tensor:
    """One of `kept` (n, *shape) for each seed, moved around along `axes` of its shape."""
    rows = mix(seeds, _DRAWN) % len(kept)
    out = kept[rows].clone()
    for i, seed in enumerate(mix(seeds, _MOVED).tolist() if axes else ()):
        rng = generator(seed)
        by = [int(torch.randint(out.shape[1 + a], (), generator=rng)) for a in axes]
        out[i] = out[i].roll(by, list(axes))
    return out


def varies(source: np.ndarray | None, layout: Layout) -> bool:
    """Whether sources (n, *shape) differ by the place."""
    if source is None:
        return False
    folded, held = layout.fold(source).astype(np.float64), np.arange(len(source)) % 2 == 1
    free, ones = [False] * len(layout.space), np.ones((len(source), 1))
    fitted = (fit_profile(folded[:, c], ones, held, free) for c in range(layout.channels))
    return any(any(profile.varies) for profile in fitted)


def follows(source: np.ndarray, theta: Tensor, parameters: ParameterSpace, layout: Layout) -> bool:
    """Whether sources (n, *shape) differ with theta (n, P): mean, spread or roughness of any."""
    axes = tuple(range(2, 2 + len(layout.space)))
    folded = layout.fold(source).astype(np.float64)
    values = [folded.mean(axes), folded.std(axes)]
    for axis in axes:
        if folded.shape[axis] > 1:
            values.append(np.abs(np.diff(folded, axis=axis)).mean(axes))
    every = np.concatenate(values, axis=1)
    size = np.abs(every).max(0)
    every = every[:, every.std(0) > 1e-9 * size]
    told = condition(parameters, theta).numpy()
    n, p = told.shape
    if not p or not every.shape[1] or n < 2 * p + 2:
        return False
    design = np.column_stack([np.ones(n), told])
    fitted = design @ np.linalg.lstsq(design, every, rcond=None)[0]
    left, whole = ((every - fitted) ** 2).sum(0), ((every - every.mean(0)) ** 2).sum(0)
    ratio = (whole - left) / p / np.maximum(left / (n - p - 1), 1e-300)
    return bool((f_distribution.sf(ratio, p, n - p - 1) < _CHANCE / every.shape[1]).any())
