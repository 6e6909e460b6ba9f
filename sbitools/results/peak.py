"""The maximum of a posterior density in theta, by Newton steps from the best of its draws.

The search runs in unconstrained u, where no bound is in the way, but what is maximised is the
density of theta, p(theta | x) = q(u | x) |du/dtheta|: the peak of q(u | x) lies elsewhere.

Derivatives are central differences, so that any posterior can be asked, and all points that a
step needs are asked for at once. Networks compute in float32: differences are taken over three to
thirty per cent of a width, never less.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ConvergenceWarning, PosteriorError
from sbitools.gate.plain import whole
from sbitools.seeds import check_seed

from .asked import AskedPosterior, as_batch

__all__ = ["peak"]

_FEWEST = 20  # draws
_STARTS = 3  # the best draw, and the best of those that are far from it
_APART = 3.0  # standard deviations
# Differences, in widths: those of the draws first, then those of the density where it has come to.
_STAGES = (0.3, 0.1, 0.03)
_STEPS = 30  # in each stage, at most
_FRACTIONS = np.array([1.0, 0.5, 0.25, 0.05, 0.0])
# Last step, in widths, of a search that has arrived, and of one that has not.
_ENOUGH, _LOST = 1e-3, 0.02
_NOISE = 1e-6  # of a log density, relative: what float32 cannot tell apart
_CROSSED = 20  # parameters, up to which second derivatives are taken between all pairs
_WALL = 30.0  # nats below, where the density is zero
_FLATTEST = 0.05  # curvature that a step is computed with, at least


def peak(posterior: AskedPosterior, x: object, *, n: int = 2000, seed: int = 0) -> Tensor:
    """The theta of highest posterior density.

    It is found to 0.01 posterior standard deviations where the density is smooth on that scale.
    The search keeps to the range of the draws: a density that rises up to a bound of the prior has
    its peak found at the outermost draw, about 1 / `n` of the mass from the bound. Of several
    peaks it is the highest of those that draws lead to. Categorical parameters take the codes of
    draws.

    Args:
        posterior: that has a density, up to a constant for each x.
        x: observed fields (B, *shape), or one field.
        n: draws for each observation, among which the search starts.
        seed: of the draws.

    Returns:
        float64 of shape (B, P), or (P,) for one field, inside the prior's support.

    Raises:
        ObservationError: if x does not fit.
        PosteriorError: if no draw has a finite density, or n is below 20.

    Warns:
        ConvergenceWarning: if a search has not arrived.
    """
    n, seed = whole(n, "n of map", least=_FEWEST, error=PosteriorError), check_seed(seed)
    fields, alone = as_batch(posterior, x)
    climb = _Climb(posterior, fields, n, seed)
    for i, width in enumerate(_STAGES):
        climb.stage(width, rescale=i > 0)
    best = climb.value.argmax(1)
    rows = np.arange(len(fields))
    lost = np.flatnonzero(climb.last[rows, best] > _LOST)
    if len(lost):
        warnings.warn(
            f"the search for the peak has not arrived for observations {lost[:10].tolist()}: the "
            "density is rough, or has no peak inside the prior", ConvergenceWarning, stacklevel=3,
        )  # fmt: skip
    theta = posterior.parameters.from_unconstrained(torch.from_numpy(climb.u[rows, best]))
    return theta[0] if alone else theta


class _Climb:
    """Searches from a few starts for each observation, all of them at once.

    Attributes:
        u: where they are, (B, S, P).
        value: log density of theta there, (B, S).
        scale: widths, (B, S, F), of the F columns that move.
        last: length of the last step, in widths, (B, S).
    """

    def __init__(self, posterior: AskedPosterior, x: Tensor, n: int, seed: int) -> None:
        self.posterior, self.x, space = posterior, x, posterior.parameters
        draws, log_p = posterior.sample_and_log_prob(x, n, seed=seed)
        u = np.asarray(space.to_unconstrained(torch.as_tensor(draws)), dtype=np.float64)
        value = np.asarray(torch.as_tensor(log_p).cpu(), dtype=np.float64)
        value = np.where(np.isfinite(value), value, -np.inf)
        hopeless = np.flatnonzero(np.isneginf(value).all(1))
        if len(hopeless):
            raise PosteriorError(
                "map", expected="a finite density at a draw",
                got=f"none for observations {hopeless[:10].tolist()}",
                fix="these fields are far from the training set: check their units and content",
            )  # fmt: skip
        self.free = [i for i, p in enumerate(space) if not p.categories]
        codes = [i for i, p in enumerate(space) if p.categories]
        moving = u[..., self.free]
        spread = np.maximum(moving.std(1, keepdims=True), 1e-12)
        starts = [_starts(v, m / s, c) for v, m, s, c in zip(value, moving, spread, u[..., codes],
                                                            strict=True)]  # fmt: skip
        rows = np.arange(len(u))[:, None]
        self.u, self.value = u[rows, starts], value[rows, starts]
        self.low, self.high = moving.min(1, keepdims=True), moving.max(1, keepdims=True)
        self.scale = np.broadcast_to(spread, (len(u), _STARTS, len(self.free))).copy()
        self.last = np.zeros(self.value.shape)

    def density(self, moving: np.ndarray) -> np.ndarray:
        """Log density (B, S, K) of theta, for moving columns of u (B, S, K, F)."""
        u = np.repeat(self.u[:, :, None], moving.shape[2], axis=2)
        u[..., self.free] = moving
        theta = self.posterior.parameters.from_unconstrained(torch.from_numpy(u))
        flat = self.posterior.log_prob(theta.flatten(1, 2), self.x)
        value = np.asarray(torch.as_tensor(flat).cpu(), dtype=np.float64).reshape(u.shape[:3])
        return np.where(np.isfinite(value), value, -np.inf)

    def stage(self, width: float, rescale: bool) -> None:
        """Newton steps with differences over `width`, until none is long."""
        if not self.free:
            return
        if rescale:
            curvature = np.diagonal(self._derivatives(width)[1], axis1=-2, axis2=-1)
            # No width grows or shrinks by more than ten: where the density is flat, or rough.
            self.scale *= np.clip(np.abs(curvature), 1e-2, 1e2) ** -0.5
        reach, going = np.ones(self.value.shape), np.ones(self.value.shape, dtype=bool)
        for _ in range(_STEPS):
            step, length = self._step(*self._derivatives(width), reach)
            step, length = step * going[..., None], length * going
            here = self.u[..., None, :][..., self.free]
            tried = here + _FRACTIONS[:, None] * (step * self.scale)[:, :, None]
            tried = np.clip(tried, self.low[:, :, None], self.high[:, :, None])
            found = self.density(tried)
            best = found.max(-1, keepdims=True)
            # The longest step among those that cannot be told from the best one.
            pick = (found >= best - _NOISE * (1 + np.abs(best))).argmax(-1)[..., None]
            self.u[..., self.free] = np.take_along_axis(tried, pick[..., None], 2)[:, :, 0]
            self.value = np.take_along_axis(found, pick, 2)[..., 0]
            fraction = _FRACTIONS[pick[..., 0]]
            reach = np.where(fraction == 1, 2 * reach, np.maximum(0.25 * reach, 1e-2))
            moved = np.abs(self.u[..., self.free] - here[:, :, 0]) / self.scale
            self.last = np.where(going, moved.max(-1), self.last)
            going &= (self.last > _ENOUGH) & (fraction > 0)
            if not going.any():
                break

    def _derivatives(self, width: float) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (B, S, F) and second derivatives (B, S, F, F) by u / scale."""
        f = len(self.free)
        pairs = np.stack(np.triu_indices(f, 1), 1) if f <= _CROSSED else np.empty((0, 2), int)
        unit = np.eye(f)
        both = unit[pairs[:, 0]] + unit[pairs[:, 1]]
        moves = width * np.concatenate([np.zeros((1, f)), unit, -unit, both, -both])
        here = self.u[..., None, :][..., self.free]
        value = self.density(here + moves * self.scale[:, :, None])
        centre = value[..., :1]
        value = np.maximum(value, centre - _WALL) - centre
        plus, minus = value[..., 1 : 1 + f], value[..., 1 + f : 1 + 2 * f]
        gradient = (plus - minus) / (2 * width)
        diagonal = (plus + minus) / width**2
        second = diagonal[..., None] * unit
        if len(pairs):
            i, j = pairs.T
            together = value[..., 1 + 2 * f :].reshape(*value.shape[:2], 2, -1).sum(2) / width**2
            second[..., i, j] = 0.5 * (together - diagonal[..., i] - diagonal[..., j])
            second[..., j, i] = second[..., i, j]
        return gradient, second

    def _step(
        self, gradient: np.ndarray, second: np.ndarray, reach: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """A Newton step uphill (B, S, F) in widths, no longer than `reach`, and its length."""
        here = self.u[..., self.free]
        stuck = (here <= self.low) & (gradient < 0) | (here >= self.high) & (gradient > 0)
        gradient = np.where(stuck, 0.0, gradient)
        fixed = stuck[..., None] | stuck[..., None, :]
        second = np.where(fixed, -np.eye(second.shape[-1]), second)
        curvature, axes = np.linalg.eigh(second)
        along = np.einsum("...ij,...i->...j", axes, gradient)
        along /= np.maximum(np.abs(curvature), _FLATTEST)
        step = np.einsum("...ij,...j->...i", axes, along)
        length = np.linalg.norm(step, axis=-1)
        step *= np.minimum(1.0, reach / np.maximum(length, 1e-300))[..., None]
        return step, np.minimum(length, reach)


def _starts(value: np.ndarray, place: np.ndarray, codes: np.ndarray) -> list[int]:
    """The best of the draws, and the best of those far from the ones before.

    Args:
        value: log densities (n,).
        place: moving columns in standard deviations, (n, F).
        codes: of categorical columns, (n, C).
    """
    chosen, left = [int(value.argmax())], value.copy()
    while len(chosen) < _STARTS:
        same = (codes == codes[chosen[-1]]).all(1)
        near = (np.abs(place - place[chosen[-1]]) <= _APART).all(1)
        left[same & near] = -np.inf
        best = int(left.argmax())
        chosen.append(best if np.isfinite(left[best]) else chosen[0])
    return chosen
