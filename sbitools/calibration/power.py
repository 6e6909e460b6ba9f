"""Power: how probably checks would catch a wrong posterior, with as many tests as there are.

"No check fails" means little if none could. For posteriors that are wrong by a stated amount (too
narrow, too wide, shifted; normal throughout, the same in every dimension) the ranks of the truth
are known, so a set of tests is simulated in milliseconds and every check evaluated on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from sbitools.errors import ConfigError, StoreError
from sbitools.seeds import derive

from .checks.latent import latent_covariance
from .statistics.bands import gamma_p_values, gammas, places_of
from .statistics.joint import equal_level

__all__ = ["ALTERNATIVES", "Alternative", "check_size", "needed_tests", "power"]


class Alternative(NamedTuple):
    """A wrong posterior: `width` times as wide as the right one, off by `shift` of its sigmas."""

    width: float
    shift: float


ALTERNATIVES = {
    "1.25 times too narrow": Alternative(0.8, 0.0),
    "1.25 times too wide": Alternative(1.25, 0.0),
    "shifted by 0.2 sigma": Alternative(1.0, 0.2),
}
"""The wrong posteriors that a verdict states the power against."""

_SEED = 61
_REPEATS = 60  # the error of a power of one half is 6 %
_BALL_DRAWS = 32  # draws for TARP, whose ranks have no closed form
_BINS = 1000
_FEWEST = 20

# Sizes beyond which power is 1 for every alternative, so that nothing large is simulated.
_MAX_TESTS, _MAX_DRAWS = 4000, 1000


def power(
    n_tests: int, n_draws: int, levels: Mapping[str, float], *, n_parameters: int = 2,
    contraction: float = 0.8,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Probability that each check fails, for each of `ALTERNATIVES`.

    Args:
        n_tests: independent tests.
        n_draws: posterior draws of each.
        levels: check -> p-value below which it fails; checks it does not know are left out.
        n_parameters: P.
        contraction: 1 - posterior variance / prior variance; it matters to `tarp` and
            `contraction` alone.

    Returns:
        Check -> alternative -> power, and under ``"any"`` that of the set. Simulated with 60
        sets of tests: the error is at most 0.07.
    """
    size = (min(n_tests, _MAX_TESTS), min(n_draws, _MAX_DRAWS), n_parameters)
    rounded = float(np.clip(round(10 * contraction) / 10, 0.1, 0.9))
    found: dict[str, dict[str, float]] = {}
    for label in ALTERNATIVES:
        p_values = _simulated(*size, rounded, label, frozenset(levels))
        fails = {n: p_values[n] < level for n, level in levels.items() if n in p_values}
        for name, failed in fails.items():
            found.setdefault(name, {})[label] = float(failed.mean())
        if fails:
            either = np.any(list(fails.values()), axis=0)
            found.setdefault("any", {})[label] = float(either.mean())
    return found


@lru_cache(maxsize=32)
def needed_tests(
    alternatives: tuple[Alternative, ...] = tuple(ALTERNATIVES.values()),
    *,
    power: float = 0.95,
    false_alarm: float = 0.01,
    n_parameters: int = 2,
    n_draws: int = 1000,
) -> int:
    """Tests with which the default set catches each of the wrong posteriors, to some 10 %.

    Simulated for `sbc` and `coverage`, the strongest of the set, each at its share of the level.

    Args:
        alternatives: the wrong posteriors.
        power: probability to catch one.
        false_alarm: of the default set, all of its checks together.
        n_parameters: P.
        n_draws: per test.

    Raises:
        ConfigError: for probabilities outside (0, 1), or if a million tests are too few.
    """
    if not 0 < false_alarm < power < 1:
        raise ConfigError(
            "power, false_alarm", expected="0 < false_alarm < power < 1",
            got=f"{power}, {false_alarm}", fix="0.95 and 0.01 are the defaults",
        )  # fmt: skip

    level = equal_level(false_alarm)

    def enough(n: int) -> bool:
        return all(
            _caught(n, min(n_draws, _MAX_DRAWS), n_parameters, a, level) >= power
            for a in alternatives
        )

    low = high = _FEWEST
    while not enough(high):
        low, high = high, 2 * high
        if high > 1_000_000:
            raise ConfigError(
                "alternatives", expected="posteriors of another width or mean, visibly",
                got=f"{[tuple(a) for a in alternatives]}", fix="(width, shift) other than (1, 0)",
            )  # fmt: skip
    while high > 1.1 * low:
        middle = round((low * high) ** 0.5)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def check_size(
    store: Any, required: float | None, false_alarm: float, n_parameters: int, n_draws: int
) -> None:
    """Raise `StoreError` if the store is too small to catch a wrong posterior."""
    if required is None:
        return
    needed = needed_tests(
        power=required, false_alarm=false_alarm, n_parameters=n_parameters, n_draws=n_draws
    )
    groups = len(set(store.groups[store.done].tolist()))
    if groups < needed:
        raise StoreError(
            f"store {store.path}", expected=f"some {needed} independent tests, to catch a "
            "posterior 1.25 times too narrow or wide, or shifted by 0.2 sigma, with "
            f"{100 * required:g} % probability", got=f"{groups}",
            fix="simulate more tests, or ask for less power",
        )  # fmt: skip


def _caught(n: int, n_draws: int, p: int, wrong: Alternative, level: float) -> float:
    """Share of sets of n tests that `sbc` or `coverage` catch at this level."""
    from scipy.special import chdtr, ndtr

    rng = np.random.default_rng(derive(_SEED, n, n_draws, p, 1))
    # Large sets are simulated less often: by then the answer is clear.
    repeats = int(np.clip(400_000 / (n * p), 30, 200))
    z = (rng.standard_normal((repeats, p, n)) - wrong.shift) / wrong.width
    sbc = rng.binomial(n_draws, ndtr(z))
    coverage = rng.binomial(n_draws, chdtr(p, (z**2).sum(1)))[:, None]
    caught = [_p_values(ranks, n_draws) < level for ranks in (sbc, coverage)]
    return float(np.any(caught, axis=0).mean())


@lru_cache(maxsize=64)
def _simulated(
    n: int, n_draws: int, p: int, contraction: float, label: str, checks: frozenset[str]
) -> dict[str, np.ndarray]:
    """p-values of the checks in `_REPEATS` sets of tests of a wrong posterior."""
    from scipy.special import chdtr, ndtr

    width, shift = ALTERNATIVES[label]
    rng = np.random.default_rng(derive(_SEED, n, n_draws, p, round(10 * contraction)))
    truth = rng.standard_normal((_REPEATS, n, p))
    z = (truth - shift) / width
    within, outside = ndtr(z).transpose(0, 2, 1), chdtr(p, (z**2).sum(2))[:, None]
    found = {}
    if "sbc" in checks:
        found["sbc"] = _p_values(rng.binomial(n_draws, within), n_draws)
    if "coverage" in checks:
        found["coverage"] = _p_values(rng.binomial(n_draws, outside), n_draws)
    if not checks.isdisjoint(("tarp", "contraction")):
        found |= _against_prior(rng, truth, ALTERNATIVES[label], contraction, n_draws)
    if "latent" in checks:
        parts = [_p_values(_in_bins(u), _BINS - 1) for u in (outside, within)]
        parts += [np.array([row["p_value"] for values in z for row in latent_covariance(values)])]
        known = [part for part in parts if len(part)]
        found["latent"] = len(known) * np.min(known, axis=0)
    return found


def _against_prior(
    rng: np.random.Generator, truth: np.ndarray, wrong: Alternative, contraction: float,
    n_draws: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """p-values of `tarp` and `contraction`, which look at the prior, for a prior N(0, 1).

    As in `tarp`, distances are in cumulative prior probabilities, to uniform references.
    """
    from scipy.special import ndtr

    sigma, few = np.sqrt(1 - contraction), min(n_draws, _BALL_DRAWS)
    ranks, average = [], []
    for t in truth:
        mean = np.sqrt(contraction) * rng.standard_normal(t.shape)
        noise = wrong.shift + wrong.width * rng.standard_normal((len(t), few, t.shape[1]))
        points, centre = ndtr(mean[:, None] + sigma * noise), rng.random(t.shape)
        distance = ((points - centre[:, None]) ** 2).sum(-1)
        reach = ((ndtr(mean + sigma * t) - centre) ** 2).sum(-1)
        ranks.append((distance < reach[:, None]).sum(1)[None])
        average.append(_in_bins(points[:, 0].T))
    return {
        "tarp": _p_values(np.array(ranks), few),
        "contraction": _p_values(np.array(average), _BINS - 1),
    }  # fmt: skip


def _in_bins(probability: np.ndarray) -> np.ndarray:
    return np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)


def _p_values(ranks: np.ndarray, n_draws: int) -> np.ndarray:
    """p-value of each set of ranks (repeats, columns, n), Bonferroni over columns."""
    repeats, columns, n = ranks.shape
    gamma = gammas(places_of(ranks.reshape(-1, n), n_draws), n_draws)
    return columns * gamma_p_values(gamma.reshape(repeats, columns).min(1), n, n_draws)
