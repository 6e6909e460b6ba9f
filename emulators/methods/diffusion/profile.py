"""The mean and the spread of cells, where these depend on the place and not on theta alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .terms import choose

__all__ = ["Profile", "fit_profile"]

_SURE = 4.0  # errors: cells of one field are not independent, and structure is the exception
_FEWEST = 8  # simulations that a mean of each cell takes
_CELLS = 1 << 26  # of all simulations together, that means of single cells are looked for in


@dataclass(frozen=True)
class Profile:
    """Mean and spread, of one channel.

    Args:
        mean: coefficients of the mean of a field, (T,).
        log_size: coefficients of the logarithm of its spread, (T,).
        place: mean of cells less that of the field, in units of its spread; broadcast to *n.
        spread: of cells in that unit, broadcast to *n.
    """

    mean: np.ndarray
    log_size: np.ndarray
    place: np.ndarray
    spread: np.ndarray

    @property
    def varies(self) -> tuple[bool, ...]:
        """Whether cells differ along each axis."""
        return tuple(n > 1 for n in self.place.shape)

    def forward(self, x: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """A field (*n), its terms (T,), to one of zero mean and unit spread everywhere."""
        return ((x - terms @ self.mean) * np.exp(-(terms @ self.log_size)) - self.place) / (
            self.spread
        )

    def inverse(self, y: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """Inverse of `forward`."""
        return (y * self.spread + self.place) * np.exp(terms @ self.log_size) + terms @ self.mean

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: getattr(self, k).tolist() for k in ("mean", "log_size", "place", "spread")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        """Inverse of `to_dict`."""
        return cls(**{k: np.array(v, dtype=float) for k, v in values.items()})


def fit_profile(
    x: np.ndarray, terms: np.ndarray, held: np.ndarray, free: Sequence[bool],
    beside: np.ndarray | None = None,
) -> Profile:  # fmt: skip
    """Of fields of one channel: as few axes along which cells differ as held-out fields allow.

    Args:
        x: (n, *space).
        terms: functions of theta, (n, T).
        held: which of them are held out, (n,) of truth values.
        free: axes along which fields are statistically the same everywhere, as is stated.
        beside: what means follow from besides, of zero mean, (n, F): it is not to be taken for an
            effect of theta.
    """
    axes = tuple(range(1, x.ndim))
    means, sizes = x.mean(axes), x.std(axes)
    unit = float(sizes.mean()) or 1.0
    t = terms.shape[1]
    known = terms if beside is None or 2 * (t + beside.shape[1]) > len(x) else (
        np.concatenate([terms, beside], 1)
    )  # fmt: skip
    mean = np.linalg.lstsq(known, means, rcond=None)[0][:t]
    log_size = np.linalg.lstsq(terms, np.log(np.maximum(sizes, 1e-6 * unit)), rcond=None)[0]
    flat = [1] * (x.ndim - 1)
    uniform = Profile(mean, log_size, np.zeros(flat), np.ones(flat))
    if len(x) < _FEWEST or x.size > _CELLS:
        return uniform
    lead = (-1, *flat)
    y = (x - (terms @ mean).reshape(lead)) * np.exp(-(terms @ log_size)).reshape(lead)
    same = tuple(a for a, f in zip(axes, free, strict=True) if f)
    tried = [tuple(a for a in axes if a != one) for one in axes if one not in same]
    tried = [axes, *tried, same] if len(axes) > 1 and len(same) < len(axes) else [axes, *tried]
    tried = list(dict.fromkeys(tried))
    best = choose(tried, lambda over: _scores(y, held, over), _SURE)
    place, spread = _place(y, best)
    return Profile(mean, log_size, place, spread)


def _place(y: np.ndarray, over: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    if len(over) == y.ndim - 1:
        flat = [1] * (y.ndim - 1)
        return np.zeros(flat), np.ones(flat)
    place = y.mean((0, *over), keepdims=True)[0]
    spread = np.sqrt(((y - place) ** 2).mean((0, *over), keepdims=True)[0])
    return place, np.maximum(spread, 1e-3)


def _scores(y: np.ndarray, held: np.ndarray, over: Sequence[int]) -> np.ndarray:
    """Log density of each held-out field, cell by cell."""
    place, spread = _place(y[~held], over)
    square = ((y[held] - place) / spread) ** 2 + 2 * np.log(spread)
    return -0.5 * square.reshape(len(square), -1).mean(1)
