"""A log weight that is linear in few functions of scores and features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Tilt", "basis"]

# Scores beyond are weighted like scores there: no weight grows without bound.
_BOUND = 3.0


@dataclass(frozen=True)
class Tilt:
    """f(s, features), the log of a weight up to a constant.

    Args:
        coefficients: shape (K,).
        centre: of the features, shape (F,).
        axes: leading directions of the features, each of unit variance, shape (F, C).
    """

    coefficients: np.ndarray
    centre: np.ndarray
    axes: np.ndarray

    def __call__(self, scores: np.ndarray, features: np.ndarray) -> np.ndarray:
        """f (B, n) of scores (B, n, P) and features (B, F)."""
        return basis(scores, self.components(features)) @ self.coefficients

    def log_mean(self, scores: np.ndarray, features: np.ndarray) -> np.ndarray:
        """log mean of exp f over draws, shape (B,)."""
        values = self(scores, features)
        top = values.max(1)
        return top + np.log(np.exp(values - top[:, None]).mean(1))

    def components(self, features: np.ndarray) -> np.ndarray:
        """The features' leading components (B, C), bounded."""
        found = (np.asarray(features, dtype=np.float64) - self.centre) @ self.axes
        return np.clip(found, -_BOUND, _BOUND)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arguments of the constructor."""
        return {"coefficients": self.coefficients, "centre": self.centre, "axes": self.axes}


def basis(scores: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Functions of scores (B, n, P) and components (B, C) that f is linear in: (B, n, K)."""
    s = np.clip(scores, -_BOUND, _BOUND).astype(np.float64)
    first, second = np.triu_indices(s.shape[-1])
    # Halved, so that one width of the prior serves: with a coefficient of 1/4 for s^2 itself the
    # weights of normal draws lose their variance.
    products = 0.5 * s[..., first] * s[..., second]
    mixed = (s[..., :, None] * components[:, None, None, :]).reshape(*s.shape[:2], -1)
    return np.concatenate([s, products, mixed], axis=-1)
