"""Tests of accuracy with random points: coverage of balls around random references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.draws import CalibrationDraws, as_draws
from sbitools.calibration.statistics.bands import ecdf_test
from sbitools.calibration.statistics.distances import squared_distances

from .gate import checked
from .ranks import band_at, ecdf_details

if TYPE_CHECKING:
    from sbitools.parameters import ParameterSpace

__all__ = ["tarp", "tarp_distances", "tarp_ranks"]

_TIES = 4


@checked
def tarp(
    draws: CalibrationDraws | np.ndarray,
    theta: np.ndarray | None = None,
    *,
    references: np.ndarray | Literal["prior", "posterior"] = "prior",
    prior: ParameterSpace | None = None,
    names: Sequence[str] = (),
    group: np.ndarray | None = None,
    false_alarm: float = 0.01,
    seed: int | None = None,
) -> Check:
    """TARP: the share of draws nearer to a reference point than the truth is uniform.

    A ball around the reference that reaches to the truth has the credibility given by the share of
    draws inside. References may depend on x, never on the truth. The test is the exact test of
    uniform ranks of `ranks.sbc` on the N values, not a comparison of two curves, which has no
    power. It sees errors of the joint posterior that marginal ranks miss; it is weak against a
    constant shift, which marginal ranks see at once: use both.

    Distances are Euclidean in the prior's cumulative probabilities (each coordinate in [0, 1]), or
    without a prior in units of the spread of each test's truth and draws.

    Effect: the largest ECDF deviation. ``details["atc"]`` is the area between the curve and the
    diagonal above level 1/2: below zero for an over-confident posterior.

    Args:
        draws: posterior draws, shape (N, L, P), or `CalibrationDraws`.
        theta: true parameters, shape (N, P).
        references: ``"prior"``: uniform in the coordinates above (without a prior, in the box of
            +-3 sd around the mean of truth and draws); ``"posterior"``: the first draw of each
            test, which is then left out; or points in units of theta, shape (N, P).
        prior: of theta, if `draws` does not carry it.
        names: of the parameters.
        group: tests of one group share a volume; the p-value uses one random member of each.
        false_alarm: of the check.
        seed: of references, broken ties and chosen members.

    Raises:
        ShapeError: if shapes disagree or a value is not finite.

    References:
        | Sampling-based accuracy testing of posterior estimators for general inference
          (Lemos, Coogan, Hezaveh & Perreault-Levasseur 2023, arXiv:2302.03026), algorithm 2
    """
    d = as_draws(draws, theta, names=names, group=group, prior=prior, seed=seed)
    ranks, n_draws = tarp_ranks(d, references)
    test = ecdf_test(ranks[d.members], n_draws)
    reduced = d if n_draws == d.n_draws else _without_first(d)
    details = ecdf_details(reduced, ranks, [test], false_alarm, ["distance"])
    above = test.z > 0.5
    kind = references if isinstance(references, str) else "given"
    return Check(
        name="tarp", kind="ecdf", statistic=test.gamma, p_value=test.p_value,
        effect=test.deviation, band=band_at(details, test), passed=test.p_value >= false_alarm,
        false_alarm=false_alarm,
        summary=f"largest ECDF deviation of distance ranks {test.deviation:+.3f}",
        note=d.note(),
        details=details | {
            "references": kind, "labels": ["distance to random points"],
            "xlabel": "credibility of the ball",
            "atc": float(np.trapezoid((test.ecdf - test.z)[above], test.z[above])),
        },
    )  # fmt: skip


def tarp_ranks(
    d: CalibrationDraws, references: np.ndarray | Literal["prior", "posterior"] = "prior"
) -> tuple[np.ndarray, int]:
    """(ranks of the truth's distance to the reference, (N,); number of draws behind each)."""
    random = isinstance(references, str) and references == "prior"
    reach, distance = d.distances if random else tarp_distances(d, references)
    ties = (distance == reach[:, None]).sum(1)
    ranks = (distance < reach[:, None]).sum(1) + d.rng(_TIES).integers(0, ties + 1)
    return ranks, distance.shape[1]


def tarp_distances(
    d: CalibrationDraws, references: np.ndarray | str
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances to the reference of truths, (N,), and of draws, (N, L)."""
    return squared_distances(d.theta, d.draws, d.prior, references, d.seed)


def _without_first(d: CalibrationDraws) -> CalibrationDraws:
    return CalibrationDraws(d.theta, d.draws[:, 1:], group=d.group, names=d.names, seed=d.seed)
