"""Points of the unit cube that designs are made of."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sbitools.seeds import derive

__all__ = ["Design", "unit_cube"]

Design = Literal["random", "sobol", "latin_hypercube"]

# Seeds of theta must not coincide with those of the simulations of the same campaign.
_THETA_KEY = (1 << 32) - 1


def unit_cube(n: int, d: int, seed: int, kind: Design) -> np.ndarray:
    """`n` points in the open cube, float64, (n, d)."""
    from scipy.stats import qmc

    rng = np.random.default_rng(derive(seed, _THETA_KEY))
    if kind == "random":
        points = rng.random((n, d))
    elif kind == "sobol":
        doublings = max(n - 1, 0).bit_length()  # Sobol sets are balanced at powers of two
        points = qmc.Sobol(d, rng=rng, bits=52).random_base2(doublings)[:n]
    else:
        points = qmc.LatinHypercube(d, rng=rng).random(n) if n else np.empty((0, d))
    return np.clip(points, 2.0**-53, 1 - 2.0**-53)
