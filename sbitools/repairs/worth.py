"""What an emulator is worth: posteriors trained with and without it, on the same observations.

Each is scored by the log density that it gives the truth of held-out reference simulations, none
of which trained anything. The one with the highest mean is chosen, or the first that is less than
a standard error behind it: what luck decides is not worth a fine-tuning. A choice among three by
the same tests is a little optimistic: its own score is therefore also cross-fitted, which means
that each part of the tests is scored by the one that the other parts would have chosen.

References:
    | Classification and Regression Trees (Breiman & al. 1984), section 3.4.3: one standard error
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sbitools.calibration.statistics.bootstrap import bootstrap_means
from sbitools.display.brief import Brief
from sbitools.seeds import derive
from sbitools.store.access import as_store

from .crossfit import assign_folds
from .measure import held_out_log_prob

__all__ = ["Score", "Worth", "compare_posteriors"]

_FOLDS, _SPLIT, _BOOTSTRAP = 5, 83, 84


@dataclass(frozen=True)
class Score:
    """One posterior on held-out simulations.

    Args:
        name: of the way it was trained.
        mean: log density of the truth, in nats.
        error: standard error of the mean, by bootstrap over groups.
        behind: mean below that of the chosen one, in nats; 0 for that itself, and less for one
            that is above it by chance.
        behind_error: standard error of these paired differences.
    """

    name: str
    mean: float
    error: float
    behind: float
    behind_error: float


@dataclass(frozen=True, repr=False)
class Worth(Brief):
    """Which posterior is the best, and by how much.

    Args:
        chosen: its name.
        scores: of all of them, in the order they came.
        n: held-out simulations.
        cross_fitted: mean log density of the truth by the choice of the other folds, in nats.
        gain: of the best one that an emulator had part in over the one without, in nats.
        gain_error: standard error of it.
    """

    chosen: str
    scores: list[Score]
    n: int
    cross_fitted: float
    gain: float
    gain_error: float

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        return (
            f"chosen: {self.chosen}; the emulator was worth {self.gain:+.3f} +- "
            f"{self.gain_error:.3f} nats of log density at the truth, on {self.n} held-out "
            "reference simulations"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"summary": self.summary}


def compare_posteriors(
    posteriors: Mapping[str, Any], store: Any, *, without: str, seed: int = 0
) -> Worth:
    """Score posteriors on the same held-out simulations and choose the best.

    A truth of density zero counts as the lowest finite density that any of them gave.

    Args:
        posteriors: by the way they were trained, the one that is kept in doubt first; of equal
            parameters and observations.
        store: held-out reference simulations.
        without: name of the one that no emulator had part in.
        seed: of the observation noise, the folds and the bootstrap.

    Raises:
        StoreError: if the store does not fit, or trained one of them.
    """
    store = as_store(store)
    names, rows = list(posteriors), store.done
    table = np.stack(
        [held_out_log_prob(posteriors[name], store, rows, seed=seed) for name in names], axis=1
    ).astype(np.float64)
    finite = table[np.isfinite(table)]
    table = np.where(np.isfinite(table), table, finite.min() if len(finite) else 0.0)
    groups = np.asarray(store.groups)[rows]
    rng = np.random.default_rng(derive(seed, _BOOTSTRAP))
    best = _best(table, groups)

    def error(values: np.ndarray) -> float:
        return float(bootstrap_means(values[:, None], groups, rng)[:, 0].std())

    scores = [
        Score(
            name, float(column.mean()), error(column), float((table[:, best] - column).mean()),
            0.0 if i == best else error(table[:, best] - column),
        )
        for i, (name, column) in enumerate(zip(names, table.T, strict=True))
    ]  # fmt: skip
    alone = names.index(without)
    others = [i for i in range(len(names)) if i != alone]
    gained = np.zeros(len(table))
    if others:
        with_emulator = max(others, key=lambda i: scores[i].mean)
        gained = table[:, with_emulator] - table[:, alone]
    return Worth(
        names[best], scores, len(rows), _cross_fitted(table, groups, seed), float(gained.mean()),
        error(gained),
    )  # fmt: skip


def _best(table: np.ndarray, groups: np.ndarray) -> int:
    """The first column that is not a standard error of the paired differences behind the best."""
    behind = table[:, [table.mean(0).argmax()]] - table
    number, size = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    sums = np.stack([np.bincount(number, column) for column in behind.T], axis=1)
    n = max(len(size), 2)
    error = (sums - size[:, None] * behind.mean(0)).std(0) * np.sqrt(n * n / (n - 1)) / len(table)
    return int((behind.mean(0) <= error).argmax())


def _cross_fitted(table: np.ndarray, groups: np.ndarray, seed: int) -> float:
    """Mean of the column that is the best on the other folds, fold by fold."""
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        return float(table[:, _best(table, groups)].mean())
    folds = assign_folds(groups, min(_FOLDS, n_groups), derive(seed, _SPLIT))
    values = np.empty(len(table))
    for fold in np.unique(folds):
        here = folds == fold
        values[here] = table[here, _best(table[~here], groups[~here])]
    return float(values.mean())
