"""Distances of truths and draws to points, in units of the prior or of their own spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sbitools.errors import ShapeError
from sbitools.seeds import derive

from .coordinates import prior_probability

if TYPE_CHECKING:
    from sbitools.parameters import ParameterSpace

__all__ = ["squared_distances"]

_REFERENCES = 3


def squared_distances(
    theta: np.ndarray,
    draws: np.ndarray,
    prior: ParameterSpace | None,
    references: np.ndarray | str,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances to a reference point of truths, (N,), and of draws, (N, L).

    Args:
        theta: shape (N, P).
        draws: shape (N, L, P).
        prior: of theta, if it is known.
        references: ``"prior"``, ``"posterior"`` or points, see `tarp.tarp`.
        seed: of random points.

    Raises:
        ShapeError: for other references, or points of another shape.
    """
    truth, points, centre = _coordinates(theta, draws, prior, references, seed)
    distance = np.zeros(points.shape[:2])
    for i in range(points.shape[2]):  # one column at a time: no temporary of (N, L, P)
        distance += (points[..., i] - centre[:, None, i]) ** 2
    # The same sums in the same order, so that equal points have equal distances.
    reach = np.zeros(len(truth))
    for i in range(truth.shape[1]):
        reach += (truth[:, i] - centre[:, i]) ** 2
    return reach, distance


def _coordinates(
    theta: np.ndarray, draws: np.ndarray, prior: ParameterSpace | None,
    references: np.ndarray | str, seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """(truth, draws, references) in the coordinates distances are measured in."""
    if isinstance(references, str) and references not in ("prior", "posterior"):
        raise ShapeError(
            "references", expected="'prior', 'posterior' or an array", got=repr(references),
            fix="choose one of them",
        )  # fmt: skip
    given = None if isinstance(references, str) else np.asarray(references, dtype=np.float64)
    if given is not None and given.shape != theta.shape:
        raise ShapeError(
            "references", expected=f"shape {theta.shape}", got=f"shape {given.shape}",
            fix="one point per test",
        )  # fmt: skip
    if prior is not None:
        truth, points = (prior_probability(prior, v) for v in (theta, draws))
        centre = prior_probability(prior, given) if given is not None else None
    else:
        # Scales treat the truth as one more draw: ranks are exact because truth and draws are
        # exchangeable, which a scale of the draws alone would break.
        n = draws.shape[1] + 1
        mean = (draws.sum(1) + theta) / n
        off = theta - mean
        sd = np.sqrt((((draws - mean[:, None]) ** 2).sum(1) + off**2) / n)
        sd = np.where(sd > 0, sd, 1.0)
        truth = (theta - mean) / (6 * sd) + 0.5
        points = (draws - mean[:, None]) / (6 * sd[:, None]) + 0.5
        centre = (given - mean) / (6 * sd) + 0.5 if given is not None else None
    if isinstance(references, str) and references == "posterior":
        return truth, points[:, 1:], points[:, 0]
    if centre is None:
        centre = np.random.default_rng(derive(seed, _REFERENCES)).random(truth.shape)
    return truth, points, centre
