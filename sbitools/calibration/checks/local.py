"""Local classifier two-sample test: is the posterior right at this one observation?

Calibration is an average over the prior; a posterior may pass it and be wrong where it is used.
For each test, the truth and its posterior draws are exchangeable if the posterior is right, so a
classifier that tells them apart from (theta, x) shows an error, and its output at the draws of one
x_o shows the error there.

The classifier here is a ratio r(theta | x) = p(theta | x) / q(theta | x) fitted by least squares
to the tests nearest to x_o, in coordinates whitened by each test's own draws. Least squares is
linear in the labels, so that the null (a draw plays the truth) costs no further training.

References:
    | L-C2ST: local diagnostics for posterior approximations in simulation-based inference
      (Linhart, Gramfort & Rodrigues 2023, arXiv:2306.03580)
    | Global and local two-sample tests via regression (Kim, Lee & Lei 2019, arXiv:1812.08927)
    | Density ratio estimation by least squares (Kanamori, Hido & Sugiyama 2009), section 2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.draws import CalibrationDraws
from sbitools.calibration.drawing.given import observed_field
from sbitools.calibration.statistics.coordinates import prior_probability
from sbitools.errors import ShapeError
from sbitools.seeds import derive

from .gate import checked

__all__ = ["combined", "local_c2st", "local_check"]

_NULLS, _BASIS, _CHOICE, _AT_X = 81, 82, 83, 84  # keys of the random numbers
_RIVALS = 16  # draws of each test that may play the truth
_NEAR = ((0.1, 50), (0.3, 100))  # share of the tests, and number at least: two ranges are tried
_MIN_TESTS = 50
_WAVES = (0, 48)  # random cosines of the whitened theta, beside first and second powers
_DF = 0.1  # effective parameters of the classifier, per test it is fitted to
_BINS = 10  # of each parameter, for the plot
_SOFT = 5.0  # whitened theta is bent towards this, so that an outlier is one test among others


@dataclass(frozen=True)
class _Fit:
    """The tests near x_o, ready for any choice of which member of a test plays the truth.

    `at_x` turns the sum of the chosen members' basis values into r - 1 at the draws of x_o.
    """

    values: np.ndarray  # (n, members, D): basis, centred within each test, weighted
    at_x: np.ndarray  # (D, J)
    used: np.ndarray  # (n,) which tests
    weight: np.ndarray  # (n,) sums to 1

    def ratio(self, chosen: np.ndarray) -> np.ndarray:
        """r - 1 at the draws of x_o, (B, J), for members (B, N) that play the truth."""
        rows = np.arange(len(self.used))
        sums = np.stack([self.values[rows, c].sum(0) for c in chosen[:, self.used]])
        return sums @ self.at_x


@checked
def local_c2st(
    draws: CalibrationDraws,
    at_x: np.ndarray,
    summary_at_x: np.ndarray | None = None,
    *,
    summary: np.ndarray | None = None,
    n_nulls: int = 999,
    false_alarm: float = 0.01,
    seed: int | None = None,
) -> Check:
    """Local two-sample test of the posterior at one observation x_o.

    Statistic: mean square of r - 1 over the posterior draws at x_o, where r is the true over the
    estimated density; the most significant of two ranges of tests around x_o and
    two sets of functions of theta is taken. p-value:
    its rank among relabelled tests, in which a random draw plays the truth. It is exact, at any
    number of tests and draws, if the posterior is right everywhere; if it is wrong elsewhere and
    right at x_o, the tests nearby decide. Effect: the accuracy of the classifier at x_o,
    1/2 + <|r - 1|>/4: 0.5 if nothing can be told apart. Band: where 1 - `false_alarm` of exact
    posteriors lie; an estimate from few tests is above 0.5 by its noise.

    Args:
        draws: calibration draws of N >= 50 tests.
        at_x: posterior draws at x_o, shape (J, P).
        summary_at_x: features or a short x of x_o, shape (F,). None: near is judged by the
            posterior's mean and width alone.
        summary: the same of the tests, shape (N, F); ``draws.summary`` if None.
        n_nulls: number of relabellings; no p-value is below 1 / (n_nulls + 1).
        false_alarm: of the check.
        seed: of everything random; the draws' own if None.

    Raises:
        ShapeError: if shapes disagree, a value is not finite, or there are fewer than 50 tests.
    """
    d = draws
    if summary is None and summary_at_x is not None:
        summary = d.summary
    at_x, summary, summary_at_x = _checked(d, at_x, summary, summary_at_x)
    rng = d.rng if seed is None else CalibrationDraws(d.theta, d.draws, seed=seed).rng
    members = d.members
    pool = np.concatenate([d.theta[members, None], d.draws[members]], 1)
    pool, there = _unbounded(d, pool), _unbounded(d, at_x)
    z, mean, width = _whitened(pool)
    z_x, mean_x, width_x = (v[0] for v in _whitened(there[None]))
    place = _places(mean, width, mean_x, width_x, summary, summary_at_x, members)
    # A few members of each test: the truth first, then draws that may play it.
    picked = rng(_CHOICE).permutation(d.n_draws)[:_RIVALS] + 1
    few = z[:, np.concatenate([[0], picked])]
    sizes = sorted({min(len(z), max(int(share * len(z)), least)) for share, least in _NEAR})
    fits = [_fit(few, z_x, place, s, waves, rng(_BASIS)) for s in sizes for waves in _WAVES]
    chosen = rng(_NULLS).integers(0, few.shape[1], (n_nulls + 1, len(z)))
    chosen[0] = 0  # the truth plays itself
    ratios = [fit.ratio(chosen) for fit in fits]
    p_value, best, statistic = combined(np.stack([(r**2).mean(1) for r in ratios]))
    accuracy = 0.5 + np.abs(ratios[best]).mean(1) / 4
    accuracy = np.minimum(accuracy, 1.0)
    band = 0.5, float(np.quantile(accuracy[1:], 1 - false_alarm))
    passed = p_value >= false_alarm
    rows = _rows(d.names, z[:, 0], pool, fits[best])
    return Check(
        name="local c2st", kind="local", statistic=statistic, p_value=p_value,
        effect=float(accuracy[0]), band=band, passed=passed, false_alarm=false_alarm,
        summary=_sentence(float(accuracy[0]), band[1], passed, rows),
        note=_note(d, len(fits[best].used)),
        details={"parameters": rows, "names": list(d.names), "labels": list(d.labels),
                 "n_tests": len(z), "n_near": len(fits[best].used),
                 **_curves(at_x, ratios[-1])},
    )  # fmt: skip


def local_check(
    posterior: Any,
    store: Any,
    x: Any,
    *,
    n_draws: int = 200,
    n_at_x: int = 2000,
    seed: int = 0,
    **options: Any,
) -> Check:
    """`local_c2st` of a posterior at x, with the simulations of a store as tests.

    Args:
        posterior: from `sbitools.train`.
        store: simulations the posterior was not trained on.
        x: one observed field, shape (1, *posterior.observed.shape).
        n_draws: posterior draws of each test.
        n_at_x: posterior draws at x.
        seed: of draws, noise and relabellings.
        options: for `local_c2st`.

    Raises:
        ShapeError: if x is not one field, or there are fewer than 50 independent tests.
        StoreError: if the store does not fit the posterior.
        ObservationError: if x does not fit the posterior.
    """
    x = observed_field(posterior, x)
    if len(x) != 1:
        raise ShapeError(
            "x", expected="one observation, with a batch axis", got=f"{len(x)} rows",
            fix="test one at a time: x[i : i + 1]",
        )  # fmt: skip
    at_x = posterior.sample(x, n_at_x, seed=derive(seed, _AT_X))[0].cpu().numpy()
    draws = CalibrationDraws.from_posterior(posterior, store, n_draws, seed=seed, log_prob=False)
    here = None
    if draws.summary is not None:
        here = posterior.features(x).cpu().numpy().reshape(-1)
    return local_c2st(draws, at_x, here, **options)


def _checked(
    d: CalibrationDraws, at_x: np.ndarray, summary: Any, summary_at_x: Any
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    at_x = np.asarray(at_x, dtype=np.float64)
    n, p = d.theta.shape
    if at_x.ndim != 2 or at_x.shape[1] != p or len(at_x) < 2 * _BINS:
        raise ShapeError(
            "at_x", expected=f"{2 * _BINS} posterior draws or more, shape (draws, {p})",
            got=f"shape {at_x.shape}", fix="pass posterior.sample(x, 1000)[0]",
        )  # fmt: skip
    if len(d.members) < _MIN_TESTS:
        raise ShapeError(
            "draws", expected=f"{_MIN_TESTS} independent tests or more", got=f"{len(d.members)}",
            fix="test with more simulations",
        )  # fmt: skip
    if (summary is None) != (summary_at_x is None):
        raise ShapeError(
            "summary", expected="that of the tests and that of x_o, or neither", got="one of them",
            fix="pass summary and summary_at_x",
        )  # fmt: skip
    if summary is not None:
        summary = np.asarray(summary, dtype=np.float64)
        summary_at_x = np.asarray(summary_at_x, dtype=np.float64)
        if summary.shape != (n, summary_at_x.size) or summary_at_x.ndim != 1:
            raise ShapeError(
                "summary", expected=f"shapes ({n}, F) and (F,)",
                got=f"{summary.shape} and {summary_at_x.shape}", fix="one row per test",
            )  # fmt: skip
    for name, value in (("at_x", at_x), ("summary", summary), ("summary_at_x", summary_at_x)):
        if value is not None and not np.isfinite(value).all():
            raise ShapeError(
                name, expected="finite values", got="NaN or infinity", fix="leave these tests out"
            )
    return at_x, summary, summary_at_x


def _unbounded(d: CalibrationDraws, theta: np.ndarray) -> np.ndarray:
    """Coordinates in which the prior is standard normal; theta itself without a prior."""
    from scipy.special import ndtri

    if d.prior is None or any(p.categories for p in d.prior):
        return theta
    return ndtri(np.clip(prior_probability(d.prior, theta), 1e-12, 1 - 1e-12))


def _whitened(pool: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each test's members (N, L + 1, P) with mean 0 and covariance 1, and its mean and log sd.

    The truth is one of the members: whatever is done to all of them alike leaves them
    exchangeable.
    """
    mean = pool.mean(1, keepdims=True)
    centred = pool - mean
    covariance = np.einsum("nlp,nlq->npq", centred, centred) / pool.shape[1]
    sd = np.sqrt(np.maximum(np.einsum("npp->np", covariance), 1e-24))
    correlation = covariance / (sd[:, :, None] * sd[:, None]) + 1e-6 * np.eye(pool.shape[2])
    root = np.linalg.cholesky(correlation)
    z = np.linalg.solve(root, np.swapaxes(centred / sd[:, None], 1, 2))
    return np.swapaxes(z, 1, 2), mean[:, 0], np.log(sd)


def _places(
    mean: np.ndarray, width: np.ndarray, mean_x: np.ndarray, width_x: np.ndarray,
    summary: np.ndarray | None, summary_at_x: np.ndarray | None, members: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Squared distance of each test from x_o: equal parts of posterior mean, width, summary."""
    pairs = [(mean, mean_x), (width, width_x)]
    if summary is not None and summary_at_x is not None:
        pairs.append((summary[members], summary_at_x))
    total = np.zeros(len(mean))
    for values, here in pairs:
        low, high = np.quantile(values, (0.16, 0.84), axis=0)
        unit = np.maximum((high - low) / 2, 1e-3 * values.std(0))
        # A column that hardly varies says nothing about what is near.
        unit = np.where(unit > 1e-6 * (1 + np.abs(values).mean(0)), unit, np.inf)
        total += (np.clip((values - here) / unit, -10, 10) ** 2).mean(1)
    return total


def _fit(
    few: np.ndarray, z_x: np.ndarray, place: np.ndarray, size: int, n_waves: int,
    rng: np.random.Generator,
) -> _Fit:  # fmt: skip
    """Least-squares ratio on the `size` tests nearest to x_o."""
    used = np.argsort(place, kind="stable")[:size]
    reach = place[used[-1]] * (1 + 1e-9) + 1e-12
    weight = 1 - 0.75 * place[used] / reach  # nearer tests count more, all of them something
    weight /= weight.sum()
    waves = rng.normal(size=(few.shape[2], n_waves)), rng.uniform(0, 2 * np.pi, n_waves)
    values = _basis(few[used], *waves)
    values -= values.mean(1, keepdims=True)
    here = _basis(z_x, *waves)
    here -= here.mean(0)
    unit = np.sqrt((values**2).mean((0, 1))) + 1e-9
    values, here = values / unit, here / unit
    scatter = np.einsum("n,nmd,nme->de", weight, values, values, optimize=True) / few.shape[1]
    solve = _regularised(scatter, _DF / (weight**2).sum())
    # truth minus the mean of the others, from values that are centred on all of them
    factor = few.shape[1] / (few.shape[1] - 1)
    return _Fit(values * (factor * weight)[:, None, None], solve @ here.T, used, weight)


def _basis(z: np.ndarray, directions: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """First and second powers and random cosines of whitened theta, (..., P) to (..., D)."""
    z = _SOFT * np.tanh(z / _SOFT)
    i, j = np.triu_indices(z.shape[-1])
    scale = 1.5 / np.sqrt(z.shape[-1])
    waves = np.cos(scale * z @ directions + phases)
    return np.concatenate([z, z[..., i] * z[..., j], waves], axis=-1)


def _regularised(scatter: np.ndarray, freedom: float) -> np.ndarray:
    """(scatter + a)^-1 with the ridge a that leaves `freedom` effective parameters."""
    size, axes = np.linalg.eigh(scatter)
    size = np.maximum(size, 0.0)
    low, high = np.log(1e-6), np.log(1e6)
    for _ in range(60):
        middle = (low + high) / 2
        more = (size / (size + np.exp(middle))).sum() > freedom
        low, high = (middle, high) if more else (low, middle)
    return (axes / (size + np.exp(high))) @ axes.T


def combined(statistics: np.ndarray) -> tuple[float, int, float]:
    """p-value of the smallest of K p-values, (K, 1 + nulls) with the data first.

    The nulls give both: each one's p-values are its ranks among all, and the smallest of them is
    ranked again (Schrab et al. 2021, arXiv:2110.15073, in its exact form).
    """
    n = statistics.shape[1]
    order = np.sort(statistics, axis=1)
    ranks = np.stack([
        n - np.searchsorted(o, s, side="left") for o, s in zip(order, statistics, strict=True)
    ])  # fmt: skip
    smallest = ranks.min(0)
    best = int(ranks[:, 0].argmin())
    return float((smallest <= smallest[0]).sum() / n), best, float(statistics[best, 0])


def _rows(
    names: tuple[str, ...], z: np.ndarray, pool: np.ndarray, fit: _Fit
) -> list[dict[str, Any]]:
    """Per parameter: bias and width of the posterior in the tests near x_o."""
    near, weight = pool[fit.used], fit.weight[:, None]
    score = (near[:, 0] - near[:, 1:].mean(1)) / np.maximum(near[:, 1:].std(1), 1e-12)
    mean, square = (weight * score).sum(0), (weight * score**2).sum(0)
    error = 1 / np.sqrt(1 / (fit.weight**2).sum())
    return [
        {"name": name, "effect": float(m), "mean_z": float(m),
         "sd_z": float(max(s - m**2, 0.0) ** 0.5),
         "error": float(error)}
        for name, m, s in zip(names, mean, square, strict=True)
    ]  # fmt: skip


def _curves(at_x: np.ndarray, ratio: np.ndarray) -> dict[str, np.ndarray]:
    """r along each parameter in bins of equal probability, with the 95 % range of the nulls."""
    order = np.argsort(at_x, axis=0, kind="stable")
    theta, curves = [], []
    for column in range(at_x.shape[1]):
        bins = np.array_split(order[:, column], _BINS)
        theta.append([float(np.median(at_x[b, column])) for b in bins])
        curves.append(np.stack([1 + ratio[:, b].mean(1) for b in bins], 1))
    lower, upper = np.quantile(np.stack(curves)[:, 1:], (0.025, 0.975), axis=1)
    return {"theta": np.array(theta), "ratio": np.stack(curves)[:, 0], "lower": lower,
            "upper": upper}  # fmt: skip


def _sentence(accuracy: float, limit: float, passed: bool, rows: list[dict[str, Any]]) -> str:
    text = f"a classifier is right in {100 * accuracy:.1f} % of cases at this observation"
    if passed:
        return f"{text} (chance: up to {100 * limit:.1f} %)"
    bias = max(rows, key=lambda r: abs(r["mean_z"]))
    width = max(rows, key=lambda r: abs(np.log(max(r["sd_z"], 1e-6))))
    kind = "narrow" if width["sd_z"] > 1 else "wide"
    return (
        f"{text}; nearby, the truth of {bias['name']} is {bias['mean_z']:+.2f} sigma from the "
        f"posterior mean, and {width['name']} is too {kind} by a factor "
        f"{max(width['sd_z'], 1 / max(width['sd_z'], 1e-6)):.2f}"
    )


def _note(d: CalibrationDraws, near: int) -> str:
    own = f"judged by the {near} tests nearest to the observation"
    return "; ".join(filter(None, [own, d.note()]))
