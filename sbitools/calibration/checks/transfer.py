"""Transfer: does what was checked on emulated tests hold on reference tests?

Two sets of tests of one posterior are compared. The null hypothesis is that a test's result has
the same distribution in both; it needs no exact posterior, so a posterior that is a little wrong
on both sets still shows whether the emulator made it worse.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import ndtri

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.draws import CalibrationDraws
from sbitools.calibration.statistics.bootstrap import bootstrap_means
from sbitools.seeds import derive

from .coverage import LEVELS
from .gate import checked
from .tarp import tarp_ranks

__all__ = ["transfer"]

_PERMUTATIONS, _BOOTSTRAP, _JITTER = 8, 9, 10
_N_PERMUTATIONS = 9999

# How often a 95 % band of a whole line may miss the true difference.
_MISSED = 0.05


@checked
def transfer(
    emulated: CalibrationDraws, reference: CalibrationDraws, *, false_alarm: float = 0.01
) -> list[Check]:
    """Differences between the checks of two sets of tests, each tested, each with its size.

    - ``transfer ranks``: two-sample Anderson-Darling test of the ranks of every parameter, by
      permutation (Bonferroni over parameters). Effect: largest difference of the two ECDFs.
    - ``transfer coverage``: the same on credibilities of highest density. Effect: difference of
      the actual coverage at 68 %.
    - ``transfer tarp``: the same on distances to random points.
    - ``transfer bias``: difference of mean normal scores (the normal quantile of a rank), Welch's
      test, Bonferroni. Effect: difference of mean z, in posterior sigmas.
    - ``transfer width``: difference of log sd of normal scores by bootstrap, Bonferroni. Effect:
      ratio of sd z minus 1; above zero, errors are more underestimated on the reference.
    - ``transfer log_prob``: difference of mean log densities of the truth in nats, by bootstrap.

    Effects come with 95 % bands that hold for all parameters at once (Bonferroni): for ranks and
    tarp those of Kolmogorov and Smirnov, which hold for the whole curve; bootstrap bands for the
    others. All tests use one random member of each group.

    Args:
        emulated: tests from the simulator the posterior was trained on.
        reference: tests from the reference simulator.
        false_alarm: of each check.

    Returns:
        The checks; those of densities only if both sets have them.
    """
    pair = (emulated, reference)
    checks = [f(pair, false_alarm) for f in (_ranks, _tarp, _bias, _width)]
    if all(d.hpd_ranks is not None for d in pair):
        checks.insert(1, _coverage(pair, false_alarm))
        checks.append(_log_prob(pair, false_alarm))
    return checks


_Pair = tuple[CalibrationDraws, CalibrationDraws]


def _ranks(pair: _Pair, false_alarm: float) -> Check:
    names = pair[0].names
    rows = []
    for i, name in enumerate(names):
        u = [_probabilities(d, d.ranks[:, i], i) for d in pair]
        rows.append({"name": name, **_two_sample(u, len(names))})
    p_value = min(1.0, len(rows) * min(row["p_value"] for row in rows))
    worst = max(rows, key=lambda row: abs(row["effect"]))
    return _check(
        "transfer ranks", max(row["statistic"] for row in rows), p_value, worst["effect"],
        worst["band"], false_alarm, pair, rows,
        f"ranks of {worst['name']}: ECDFs differ by {worst['effect']:+.3f}",
    )  # fmt: skip


def _coverage(pair: _Pair, false_alarm: float) -> Check:
    u = [_probabilities(d, np.asarray(d.hpd_ranks), len(pair[0].names)) for d in pair]
    row = {"name": "density", **_two_sample(u)}
    level = LEVELS[1]
    inside = [(values <= level).astype(float)[:, None] for values in u]
    effect, band = _difference(inside, pair)
    return _check(
        "transfer coverage", row["statistic"], row["p_value"], effect, band, false_alarm, pair,
        [row],
        f"coverage at 68 % differs by {100 * effect:+.1f} points (reference minus emulated)",
    )  # fmt: skip


def _tarp(pair: _Pair, false_alarm: float) -> Check:
    key = len(pair[0].names) + 1
    u = [_probabilities(d, tarp_ranks(d)[0], key) for d in pair]
    row = {"name": "distance", **_two_sample(u)}
    return _check(
        "transfer tarp", row["statistic"], row["p_value"], row["effect"], row["band"],
        false_alarm, pair, [row], f"distance ranks: ECDFs differ by {row['effect']:+.3f}",
    )  # fmt: skip


def _bias(pair: _Pair, false_alarm: float) -> Check:
    scores = [_scores(d) for d in pair]
    rows = []
    for i, name in enumerate(pair[0].names):
        statistic, p_value = _welch(scores[1][:, i], scores[0][:, i])
        z = [-d.z_scores[d.members, i : i + 1] for d in pair]
        effect, band = _difference(z, pair, len(pair[0].names))
        row = {"name": name, "statistic": statistic, "p_value": p_value}
        rows.append({**row, "effect": effect, "band": band})
    worst = max(rows, key=lambda row: abs(row["effect"]))
    return _check(
        "transfer bias", max(abs(row["statistic"]) for row in rows),
        min(1.0, len(rows) * min(row["p_value"] for row in rows)), worst["effect"], worst["band"],
        false_alarm, pair, rows,
        f"bias of {worst['name']} changes by {worst['effect']:+.2f} posterior sigma",
    )  # fmt: skip


def _width(pair: _Pair, false_alarm: float) -> Check:
    rows = []
    for i, name in enumerate(pair[0].names):
        tested, samples = _log_sd([_scores(d)[:, i] for d in pair], pair)
        shown, spread = _log_sd([d.z_scores[d.members, i] for d in pair], pair)
        band = tuple(float(v) for v in np.expm1(_central(spread, len(pair[0].names))))
        statistic = _ratio(tested, float(samples.std()))
        rows.append({
            "name": name, "statistic": statistic, "p_value": _normal_tail(statistic),
            "effect": float(np.expm1(shown)), "band": band,
        })  # fmt: skip
    worst = max(rows, key=lambda row: abs(row["effect"]))
    return _check(
        "transfer width", max(abs(row["statistic"]) for row in rows),
        min(1.0, len(rows) * min(row["p_value"] for row in rows)), worst["effect"], worst["band"],
        false_alarm, pair, rows,
        f"errors of {worst['name']} in posterior sigmas change by {100 * worst['effect']:+.0f} % "
        "on the reference",
    )  # fmt: skip


def _log_prob(pair: _Pair, false_alarm: float) -> Check:
    values = [np.asarray(d.log_prob_true)[d.members] for d in pair]
    # A truth of density zero has no finite mean; it counts as the lowest finite value seen.
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    lowest = float(finite.min()) if len(finite) else 0.0
    lost = sum(int((~np.isfinite(v)).sum()) for v in values)
    columns = [np.maximum(v, lowest)[:, None] for v in values]
    effect, band = _difference(columns, pair)
    samples = _resampled(columns, pair)
    error = float((samples[1] - samples[0]).std())
    statistic = _ratio(effect, error)
    check = _check(
        "transfer log_prob", statistic, _normal_tail(statistic), effect, band, false_alarm, pair,
        [{"name": "log_prob", "effect": effect, "error": error, "outside_support": lost}],
        f"log density of the truth differs by {effect:+.2f} nats (reference minus emulated)",
    )  # fmt: skip
    return check


def _check(
    name: str, statistic: float, p_value: float, effect: float, band: tuple[float, float],
    false_alarm: float, pair: _Pair, rows: list[dict[str, Any]], summary: str,
) -> Check:  # fmt: skip
    sizes = [len(d.members) for d in pair]
    notes = [f"{sizes[0]} emulated and {sizes[1]} reference tests"]
    notes += [d.note() for d in pair if d.note()]
    return Check(
        name=name, kind="difference", statistic=float(statistic), p_value=p_value, effect=effect,
        band=band, passed=p_value >= false_alarm, false_alarm=false_alarm, summary=summary,
        note="; ".join(notes), details={"parameters": rows, "names": [r["name"] for r in rows]},
    )  # fmt: skip


def _probabilities(d: CalibrationDraws, ranks: np.ndarray, key: int) -> np.ndarray:
    """Ranks of the independent tests as continuous numbers in (0, 1).

    So sets with different numbers of draws are comparable.
    """
    jitter = d.rng(_JITTER, key).random(d.n_tests)
    return ((ranks + jitter) / (d.n_draws + 1))[d.members]


def _scores(d: CalibrationDraws) -> np.ndarray:
    """Normal scores of the independent tests, (n, P): exactly N(0, 1) for an exact posterior."""
    u = [_probabilities(d, d.ranks[:, i], i) for i in range(d.ranks.shape[1])]
    # The sign is that of posterior minus truth.
    return -ndtri(np.clip(np.stack(u, axis=1), 1e-12, 1 - 1e-12))


def _two_sample(u: list[np.ndarray], n_rows: int = 1) -> dict[str, Any]:
    """Anderson-Darling statistic, permutation p-value, and the largest ECDF difference.

    Its band is that of Kolmogorov and Smirnov for two samples, simultaneous over the whole curve
    and over `n_rows` such curves: sqrt(log(2 / alpha) / 2) is 1.358 for one curve at 5 %.
    """
    n0, n = len(u[0]), len(u[0]) + len(u[1])
    first = (np.argsort(np.concatenate(u), kind="stable") < n0).astype(np.uint8)
    observed, excess = _anderson_darling(first[None])
    curve = -excess[0] * n / (n0 * (n - n0))  # reference minus emulated ECDF
    worst = float(curve[np.abs(curve).argmax()])
    # A permutation that only rounds differently counts as a tie.
    hits = int((_permutations(n0, n) >= observed[0] * (1 - 1e-9)).sum())
    half = np.sqrt(0.5 * np.log(2 * n_rows / _MISSED) * (1 / n0 + 1 / (n - n0)))
    return {
        "statistic": float(observed[0]), "p_value": (hits + 1) / (_N_PERMUTATIONS + 1),
        "effect": worst, "band": (worst - float(half), worst + float(half)),
    }  # fmt: skip


@lru_cache(maxsize=8)
def _permutations(n0: int, n: int) -> np.ndarray:
    """Statistics of random memberships of n0 of n members: the null needs the sizes alone."""
    rng = np.random.default_rng(derive(_PERMUTATIONS, n0, n))
    statistics, rows = [], max(1, 1_000_000 // n)
    for start in range(0, _N_PERMUTATIONS, rows):
        some = np.zeros((min(rows, _N_PERMUTATIONS - start), n), dtype=np.uint8)
        some[:, :n0] = 1
        rng.permuted(some, axis=1, out=some)
        statistics.append(_anderson_darling(some)[0])
    return np.concatenate(statistics)


def _anderson_darling(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistic (rows,), and members of the first set in excess of their share (rows, n - 1).

    Scholz & Stephens (1987, "K-sample Anderson-Darling tests"), equation 3 for two samples.

    Args:
        first: 1 where the member in this place of the sorted union is of the first set, (rows, n).
    """
    n, n0 = first.shape[1], int(first[0].sum())
    k = np.arange(1, n)
    excess = np.cumsum(first, axis=1, dtype=np.int32)[:, :-1] - k * (n0 / n)
    return excess**2 @ (n**2 / (n0 * (n - n0) * k * (n - k))), excess


def _resampled(values: list[np.ndarray], pair: _Pair) -> list[np.ndarray]:
    """Bootstrap means of (n, K) values of the independent tests of each set."""
    return [
        bootstrap_means(v, np.arange(len(v)), d.rng(_BOOTSTRAP, i))
        for i, (v, d) in enumerate(zip(values, pair, strict=True))
    ]


def _difference(
    values: list[np.ndarray], pair: _Pair, n_rows: int = 1
) -> tuple[float, tuple[float, float]]:
    """Reference minus emulated mean of (n, 1) values, with its 95 % bootstrap band."""
    samples = _resampled(values, pair)
    low, high = _central(samples[1] - samples[0], n_rows)
    return float(values[1].mean() - values[0].mean()), (float(low), float(high))


def _central(samples: np.ndarray, n_rows: int) -> np.ndarray:
    """Ends of the band that holds for each of `n_rows` parameters at once (Bonferroni)."""
    tail = _MISSED / (2 * n_rows)
    return np.quantile(samples, (tail, 1 - tail))


def _log_sd(values: list[np.ndarray], pair: _Pair) -> tuple[float, np.ndarray]:
    """log (sd of reference / sd of emulated), and its bootstrap samples."""

    def log_sd(means: np.ndarray) -> np.ndarray:
        return 0.5 * np.log(
            np.maximum(means[:, 1] - means[:, 0] ** 2, 1e-24 * means[:, 1] + 1e-150)
        )

    terms = [np.stack([v, v**2], axis=1) for v in values]
    samples = [log_sd(m) for m in _resampled(terms, pair)]
    point = [log_sd(t.mean(0, keepdims=True))[0] for t in terms]
    return float(point[1] - point[0]), samples[1] - samples[0]


def _welch(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Statistic and p-value of Welch's test; a set of one test says nothing: (0, 1)."""
    from scipy.stats import ttest_ind

    if min(len(a), len(b)) < 2:
        return 0.0, 1.0
    test: Any = ttest_ind(a, b, equal_var=False)
    return float(test.statistic), max(1e-12, float(test.pvalue))


def _ratio(effect: float, error: float) -> float:
    """Effect in units of its error; 0 if too few tests leave no error to measure it by."""
    return effect / error if error > 1e-12 * abs(effect) else 0.0


def _normal_tail(statistic: float) -> float:
    from scipy.special import erfc

    return float(max(1e-12, erfc(abs(statistic) / np.sqrt(2))))
