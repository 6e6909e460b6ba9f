"""Misspecification: is an observation like the simulations?

A posterior is about the x that a simulator makes; for another x it answers as well, and means
nothing. Two questions are asked of one observation, or of several from one source, in the data
themselves and in what the network sees of them: how far out is each (`familiar`), and could all
together be simulations (`mmd`)? One observation has an exact p-value in both, at any number of
simulations.

References:
    | Detecting model misspecification in amortized Bayesian inference with neural networks
      (Schmitt et al. 2023, arXiv:2112.08866)
    | Equivalence of distance-based and RKHS-based statistics in hypothesis testing
      (Sejdinovic et al. 2013, arXiv:1207.6076)
    | Exact and efficient permutation tests: p-values should never be zero
      (Phipson & Smyth 2010, arXiv:1603.05766)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.given import observed_field
from sbitools.calibration.drawing.stores import as_posterior, check_specification
from sbitools.errors import ShapeError, StoreError
from sbitools.gate.plain import whole
from sbitools.observation.familiarity import Familiarity, data_statistics
from sbitools.seeds import check_seed, derive
from sbitools.store.access import as_store, chosen

from .gate import checked

__all__ = ["describe", "familiar", "misspecification", "mmd"]

_ROWS, _LABELS, _NOISE, _FIT = 91, 92, 93, 94  # keys of the random numbers
_MAX_SIMULATED = 1000  # simulations in an MMD: its cost is quadratic
_MAX_OBSERVED = 1000
_PERMUTATIONS = 999


@checked
def familiar(
    familiarity: Familiarity,
    features: Any,
    statistics: np.ndarray,
    *,
    false_alarm: float = 0.01,
) -> Check:
    """Is each observation where simulations are?

    Statistic and effect: the largest distance of an observation from the simulations (see
    `Familiarity`; 1 is the 95 % quantile of simulations). Band: up to the quantile that an
    observation which is a simulation exceeds with probability `false_alarm`. p-value: exact for
    one observation; for K of them, K times the smallest (Bonferroni).

    Args:
        familiarity: fitted to simulations.
        features: of the observations, shape (K, F).
        statistics: `data_statistics` of the observations, shape (K, S).
        false_alarm: of the check.

    Raises:
        ShapeError: if shapes do not fit the simulations', or there is no observation.
    """
    distance = familiarity.distance(features, statistics)
    if not len(distance):
        raise ShapeError(
            "observations",
            expected="one at least",
            got="none",
            fix="put a single one in as x[None]",
        )
    each = familiarity.p_value(features, statistics)
    outside = familiarity.outside(features, statistics)
    p_value = min(1.0, len(each) * float(each.min()))
    passed = p_value >= false_alarm
    worst, n = int(distance.argmax()), len(familiarity.distances)
    share = min(false_alarm / len(each), 1.0)
    floor = len(each) / (n + 1)
    text = f"distance {distance[worst]:.2f}, {100 * each[worst]:.2g} % of simulations are as far"
    rows = [
        {"name": f"observation {i}", "effect": float(d), "p_value": float(p),
         "extrapolated": float(t), "outside": o[:8]}
        for i, (d, p, t, o) in enumerate(
            zip(distance, each, familiarity.tail_probability(features, statistics), outside,
                strict=True)
        )
    ]  # fmt: skip
    return Check(
        name="familiarity", kind="distance", statistic=float(distance[worst]), p_value=p_value,
        effect=float(distance[worst]),
        band=(float(familiarity.distances[0]),
              float(np.quantile(familiarity.distances, 1 - share))),
        passed=passed, false_alarm=false_alarm,
        summary=text if passed else f"{text}: {'; '.join(outside[worst][:3])}",
        note=f"{n} simulations cannot give a p-value below {floor:.2g}"
        if floor > false_alarm else "",
        details={"parameters": rows, "null": familiarity.distances, "observed": distance,
                 "xlabel": "distance from the simulations"},
    )  # fmt: skip


@checked
def mmd(
    observed: np.ndarray,
    simulated: np.ndarray,
    *,
    name: str = "mmd",
    false_alarm: float = 0.01,
    seed: int = 0,
) -> Check:
    """Maximum mean discrepancy between observations and simulations.

    The kernel is minus the Euclidean distance of standardised columns, so the squared MMD is half
    the energy distance <2|o - s| - |o - o'| - |s - s'|>: no bandwidth to choose, and it keeps
    growing with distance where a Gaussian kernel is zero. Statistic: squared MMD; effect: MMD.
    p-value: its rank when other rows of the pool play the observations, exact; with one
    observation, each row in turn. Band: of the MMD under the null.

    Args:
        observed: one row per observation, shape (K, D): features, or short data vectors.
        simulated: held-out simulations, shape (N, D), N >= 20; 1,000 of them are used.
        name: of the check.
        false_alarm: of the check.
        seed: of the rows used and of the relabellings.

    Raises:
        ShapeError: if shapes disagree, values are not finite, or there are too few rows.
    """
    observed, simulated = (np.asarray(v, dtype=np.float64) for v in (observed, simulated))
    _check_rows(observed, simulated)
    rng = np.random.default_rng(derive(seed, _ROWS))
    observed = observed[rng.permutation(len(observed))[:_MAX_OBSERVED]]
    simulated = simulated[rng.permutation(len(simulated))[:_MAX_SIMULATED]]
    k, n = len(observed), len(simulated)
    pool = _standardised(np.concatenate([observed, simulated]))
    weight = _weights(k, n, np.random.default_rng(derive(seed, _LABELS)))
    from scipy.spatial.distance import cdist

    values = np.maximum(-0.5 * np.einsum("bi,bi->b", weight @ cdist(pool, pool), weight), 0.0)
    # Equal labellings give equal sums up to rounding: the observed one is counted among them.
    p_value = float((values >= values[0] * (1 - 1e-9)).mean())
    size = np.sqrt(values)
    limit = float(np.quantile(size[1:], 1 - false_alarm))
    passed = p_value >= false_alarm
    of = "the observation" if k == 1 else f"{k} observations"
    return Check(
        name=name, kind="distance", statistic=float(values[0]), p_value=p_value,
        effect=float(size[0]), band=(float(size[1:].min()), limit), passed=passed,
        false_alarm=false_alarm,
        summary=f"{of} and {n} simulations differ by {size[0]:.3g} "
        f"(simulations among themselves: up to {limit:.3g})",
        note="" if 1 / len(values) <= false_alarm
        else f"{n} simulations cannot give a p-value below {1 / len(values):.2g}",
        details={"parameters": [{"name": of, "effect": float(size[0]), "p_value": p_value}],
                 "null": np.sort(size[1:]), "observed": size[:1], "xlabel": "MMD"},
    )  # fmt: skip


@checked
def misspecification(
    posterior: Any,
    store: Any,
    x: Any,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
    false_alarm: float = 0.01,
) -> list[Check]:
    """Are these observations like the simulations of a store? Three checks.

    Familiarity of each; MMD of all in the data (entries of a short vector, statistics of a field)
    and in the posterior's features. They share the false-alarm rate equally.

    Args:
        posterior: with observe and features.
        store: simulations the posterior was not trained on; 1,000 or more serve best.
        x: observed, shape (K, *posterior.observed.shape).
        indices: simulations to use; all that are done if None.
        seed: of the observation noise and of everything the checks draw.
        false_alarm: of the three together.

    Raises:
        StoreError: if the store is of another specification or holds too few simulations.
        ObservationError: if x does not fit the posterior.
    """
    store = as_store(store)
    posterior = as_posterior(posterior)
    check_specification(posterior, store)
    x = observed_field(posterior, x)
    features, statistics = describe(posterior, store, indices=indices, seed=seed)
    seen, own = _array(posterior.features(x)), data_statistics(x)
    level = false_alarm / 3
    shape = tuple(np.shape(x)[1:])
    record = Familiarity.fit(features, statistics, shape, seed=derive(seed, _FIT))
    return [
        familiar(record, seen, own, false_alarm=level),
        mmd(own, statistics, name="mmd data", false_alarm=level, seed=seed),
        mmd(seen, features, name="mmd features", false_alarm=level, seed=seed),
    ]


def describe(
    posterior: Any,
    store: Any,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    n: int = 2000,
    seed: int = 0,
    batch_size: int = 64,
) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, F) and `data_statistics` (N, S) of at most n observed simulations of a store.

    One random member of each group is used: the others are no independent simulations.

    Args:
        posterior: with observe and features.
        store: simulations.
        indices: to choose from, as numbers or as a mask over the whole store; all that are done
            if None.
        n: how many at most, chosen at random.
        seed: of the choice and of the observation noise.
        batch_size: simulations in memory at a time.

    Raises:
        StoreError: if there is none.
    """
    import torch

    posterior, store, n = as_posterior(posterior), as_store(store), whole(n, "n", least=1)
    seed = check_seed(seed)
    rows = chosen(store, indices)
    if not len(rows):
        raise StoreError(
            f"store {store.path}", expected="finished simulations", got="none",
            fix="run the campaign first, or choose other indices",
        )  # fmt: skip
    rows = np.random.default_rng(derive(seed, _ROWS)).permutation(rows)
    _, first = np.unique(np.asarray(store.groups)[rows], return_index=True)
    rows = np.sort(rows[np.sort(first)[:n]])
    seeds = np.asarray(store.seeds)
    features, statistics = [], []
    for index, _, x in store.batches(rows, batch_size):
        noise = [derive(seed, _NOISE, int(s)) for s in seeds[index]]
        x = posterior.observe(x, torch.tensor(noise))
        features.append(_array(posterior.features(x)))
        statistics.append(data_statistics(x))
    return np.concatenate(features), np.concatenate(statistics)


def _check_rows(observed: np.ndarray, simulated: np.ndarray) -> None:
    fits = observed.ndim == simulated.ndim == 2 and observed.shape[1:] == simulated.shape[1:]
    if not fits or not len(observed) or len(simulated) < 20 or not observed.shape[1]:
        raise ShapeError(
            "observed and simulated", expected="shapes (K, D) and (N, D), K >= 1 and N >= 20",
            got=f"{observed.shape} and {simulated.shape}", fix="one row per field or data vector",
        )  # fmt: skip
    if not (np.isfinite(observed).all() and np.isfinite(simulated).all()):
        raise ShapeError(
            "observed and simulated", expected="finite values", got="NaN or infinity",
            fix="leave these rows out",
        )  # fmt: skip


def _standardised(pool: np.ndarray) -> np.ndarray:
    """Columns in units of their 68 % range; a constant column stays 0.

    Of the whole pool: what treats all rows alike leaves them exchangeable.
    """
    low, middle, high = np.quantile(pool, (0.16, 0.5, 0.84), axis=0)
    unit, rounding = (high - low) / 2, 8 * np.finfo(np.float64).eps * np.abs(middle)
    # Where all simulations agree, whatever does not is far out.
    unit = np.where(unit > rounding, unit, np.maximum(pool.std(0) * 1e-3, 1e-300))
    return ((pool - middle) / unit).clip(-1e9, 1e9)


def _weights(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows 1/K where observations are and -1/N elsewhere; the first is the true labelling."""
    if k == 1:
        which = np.arange(n + 1)[:, None]
    else:
        size = min(k, n)
        which = np.stack([rng.permutation(n + k)[:size] for _ in range(_PERMUTATIONS + 1)])
        if size == k:
            which[0] = np.arange(k)
        else:  # more observations than simulations: choose who plays the simulations
            which[0] = np.arange(k, k + n)
    small = which.shape[1]
    weight = np.full((len(which), n + k), -1 / (n + k - small))
    np.put_along_axis(weight, which, 1 / small, axis=1)
    return weight


def _array(values: Any) -> np.ndarray:
    detach = getattr(values, "detach", None)
    return np.asarray(values if detach is None else detach().cpu(), dtype=np.float64)
