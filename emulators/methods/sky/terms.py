"""Functions of theta that the numbers of a model are sums of."""

from __future__ import annotations

import numpy as np
from scipy.special import eval_legendre

__all__ = ["DEGREE", "curved", "degrees", "linear"]

DEGREE = 4
"""The powers of an Ornstein-Uhlenbeck process in octaves, as functions of its correlation time
over two decades, are followed to 2 % rms by degree 4, to 10 % by degree 2."""


def linear(place: np.ndarray) -> np.ndarray:
    """1 and theta, (1 + P,)."""
    return np.concatenate([[1.0], place])


def curved(place: np.ndarray) -> np.ndarray:
    """1 and Legendre polynomials of every parameter, degree by degree, (1 + P `DEGREE`,)."""
    return np.concatenate([[1.0], *(eval_legendre(k, place) for k in range(1, DEGREE + 1))])


def degrees(n_terms: int) -> np.ndarray:
    """Degree of each of `n_terms` curved terms, the constant left out, (n_terms - 1,)."""
    return np.repeat(np.arange(1, DEGREE + 1), (n_terms - 1) // DEGREE)
