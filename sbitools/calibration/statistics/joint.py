"""The joint null of a set of checks: how small their smallest p-value is by chance alone.

Under the null hypothesis the truth of a test and its draws are exchangeable: any of the L + 1 may
play the truth. In each repeat a random one of each test does, its ranks among the others are
looked up, and all checks are evaluated on them. So the null of the smallest p-value keeps the
dependence between checks, whatever it is, and the test is exact: a randomisation test. Nothing is
drawn from the posterior again.

The check of the average posterior against the prior (`contraction`) looks at the draws and not at
which of them is the truth. Given the draws, the ranks of an exact posterior are random: the two
are independent and their levels combine as such. Checks that look at other numbers of the same
tests (`latent`, `conditional`) share the false-alarm rate by Bonferroni's rule.

References:
    | Testing Statistical Hypotheses (Lehmann & Romano 2005), section 15.2 (randomisation tests)
    | Resampling-based multiple testing (Westfall & Young 1993), chapter 2 (smallest p-value)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sbitools.calibration.drawing.draws import CalibrationDraws

from .bands import gamma_p_values, gammas, places_of

__all__ = [
    "DEFAULT", "RANKED", "JointNull", "equal_level", "joint_null", "pool_ranks", "rank_columns",
]  # fmt: skip

RANKED = ("sbc", "coverage", "tarp")
"""Checks of ranks of the truth among its draws."""

DEFAULT = (*RANKED, "contraction", "latent", "conditional")
"""Checks that share the false-alarm rate of `calibrate`."""

# Independent of the ranks given the draws.
_INDEPENDENT = ("contraction",)

_REPEATS = 1000
_NULL, _TIES = 31, 32

# Random numbers held at a time: few enough for a processor's cache.
_BLOCK = 200_000


@dataclass(frozen=True)
class JointNull:
    """The null of a set of checks.

    Args:
        smallest: p-value of the most extreme check of ranks in each repeat, ascending, (R,).
        ranked: names of the checks of ranks.
        others: names of the other checks that test something.
    """

    smallest: np.ndarray
    ranked: tuple[str, ...]
    others: tuple[str, ...]

    def levels(self, false_alarm: float) -> dict[str, float]:
        """The p-value below which each check fails, so that the set has this false-alarm rate.

        Args:
            false_alarm: probability that an exact posterior fails one check or more.
        """
        scale = self._scale(false_alarm)
        n, share = len(self.smallest), len(self.ranked) * scale
        # A set fails if (1 + repeats at or below its p) / (n + 1) is below its share.
        place = int(np.ceil(share * (n + 1))) - 1
        # Beyond what repeats resolve, Bonferroni's bound.
        ranked = self.smallest[place - 1] if place >= 1 else min([scale, *self.smallest[:1]])
        return dict.fromkeys(self.ranked, float(ranked)) | dict.fromkeys(self.others, scale)

    def p_value(self, p_values: Mapping[str, float]) -> float:
        """Joint p-value of the set: below `false_alarm` exactly if a check fails its level.

        Args:
            p_values: of every check of the set.
        """
        scaled = [p_values[name] for name in self.others]
        if self.ranked:
            own = min(p_values[name] for name in self.ranked)
            n = len(self.smallest)
            hits = int(np.searchsorted(self.smallest, own, side="right"))
            share = (1 + hits) / (n + 1)
            if not hits:  # beyond what repeats resolve, Bonferroni's bound is the smaller one
                share = min(share, len(self.ranked) * own)
            scaled.append(share / len(self.ranked))
        return self._rate(min(scaled)) if scaled else 1.0

    def _counts(self) -> tuple[int, int]:
        """Checks that are independent of the others, and the others."""
        alone = sum(name in _INDEPENDENT for name in self.others)
        return alone, len(self.ranked) + len(self.others) - alone

    def _rate(self, scale: float) -> float:
        """False-alarm rate of the set if each check has the share `scale`."""
        alone, together = self._counts()
        return float(1 - (1 - min(1.0, alone * scale)) * (1 - min(1.0, together * scale)))

    def _scale(self, rate: float) -> float:
        """Inverse of `_rate`."""
        a, b = self._counts()
        # The smaller root of a b s^2 - (a + b) s + rate = 0, in a form that loses no digits.
        root = np.sqrt((a + b) ** 2 - 4 * a * b * rate)
        return float(2 * rate / (a + b + root)) if a + b else 1.0


def equal_level(false_alarm: float) -> float:
    """The level of each check of the default set, if all of them share it equally."""
    return JointNull(np.empty(0), (), DEFAULT)._scale(false_alarm)


def joint_null(d: CalibrationDraws, checks: Sequence[str], repeats: int = _REPEATS) -> JointNull:
    """The null of the checks named, on these draws.

    Args:
        d: the draws.
        checks: names of checks that test something.
        repeats: R; the error of a false-alarm rate a is sqrt(a (1 - a) / R) for one set of draws
            and none on average.
    """
    ranked = tuple(name for name in checks if name in RANKED)
    others = tuple(name for name in checks if name not in RANKED)
    if not ranked:
        return JointNull(np.empty(0), ranked, others)
    columns = {
        name: [pool_ranks(pool, d.rng(_TIES, i, j)) for j, pool in enumerate(pools)]
        for i, (name, pools) in enumerate(rank_columns(d, ranked).items())
    }
    smallest = _null(columns, d.n_draws, repeats, d.rng(_NULL))
    return JointNull(np.sort(smallest), ranked, others)


def rank_columns(d: CalibrationDraws, checks: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """Numbers whose ranks the checks test: truth first, then draws, each of shape (n, L + 1).

    One row for each independent test.
    """
    own = d.members

    def pool(truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        return np.concatenate([truth[own, None], drawn[own]], axis=1)

    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    if "sbc" in checks:
        pairs["sbc"] = [(d.theta[:, i], d.draws[..., i]) for i in range(d.theta.shape[1])]
        pairs["sbc"] += list(d.quantities.values())
    if "coverage" in checks and d.log_prob_true is not None and d.log_prob_draws is not None:
        pairs["coverage"] = [(-d.log_prob_true, -d.log_prob_draws)]
    if "tarp" in checks:
        pairs["tarp"] = [d.distances]
    return {name: [pool(*pair) for pair in columns] for name, columns in pairs.items()}


def pool_ranks(pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rank of each number among the others of its row, ties at random.

    Args:
        pool: shape (n, L + 1).
        rng: breaks ties.

    Returns:
        A permutation of 0..L in each row, uint16 or uint32.
    """
    order = np.argsort(pool, axis=1)
    ordered = np.take_along_axis(pool, order, axis=1)
    tied = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(1))
    if len(tied):
        order[tied] = np.lexsort((rng.random((len(tied), pool.shape[1])), pool[tied]), axis=1)
    kind = np.uint16 if pool.shape[1] <= np.iinfo(np.uint16).max else np.uint32
    ranks = np.empty(pool.shape, dtype=kind)
    np.put_along_axis(ranks, order, np.arange(pool.shape[1], dtype=kind)[None], axis=1)
    return ranks


def _null(
    columns: Mapping[str, Sequence[np.ndarray]], n_draws: int, repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Smallest p-value of the checks in each repeat, shape (repeats,)."""
    tables = {name: [places_of(r, n_draws) for r in many] for name, many in columns.items()}
    n = len(next(iter(tables.values()))[0])
    starts, smallest = np.arange(n) * (n_draws + 1), []
    step = max(1, _BLOCK // n)
    for start in range(0, repeats, step):
        size = (min(step, repeats - start), n)
        chosen = rng.integers(0, n_draws + 1, size=size, dtype=np.uint32) + starts
        p = [
            len(many) * gamma_p_values(
                np.min([gammas(np.take(t, chosen), n_draws) for t in many], axis=0), n, n_draws
            )
            for many in tables.values()
        ]  # fmt: skip
        smallest.append(np.minimum(1.0, np.min(p, axis=0)))
    return np.concatenate(smallest)
