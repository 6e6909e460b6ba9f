"""Cross-fitting: every reference simulation is judged by a repair that did not see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sbitools.calibration.drawing.draws import CalibrationDraws
from sbitools.calibration.sampling import draw
from sbitools.errors import ConfigError
from sbitools.seeds import derive

__all__ = ["assign_folds", "cross_fit", "held_out_draws"]

_FOLDS, _DRAWS = 77, 78

# (simulations to fit to, number of the fold) to a posterior
Fit = Callable[[np.ndarray, int], Any]


def assign_folds(groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each simulation, shape (N,); members of a group are in one fold.

    Raises:
        ConfigError: for fewer than two folds, or fewer groups than folds.
    """
    names, which = np.unique(groups, return_inverse=True)
    if not 2 <= folds <= len(names):
        raise ConfigError(
            "folds", expected=f"2 to {len(names)}, the number of independent simulations",
            got=f"{folds}", fix="5 is a good choice",
        )  # fmt: skip
    order = np.random.default_rng(derive(seed, _FOLDS)).permutation(len(names))
    return (order % folds)[which]


def cross_fit(
    posterior: Any,
    store: Any,
    rows: np.ndarray,
    fit: Fit,
    *,
    fold: np.ndarray,
    n_draws: int,
    seed: int,
    n_train: int | None = None,
) -> tuple[CalibrationDraws, CalibrationDraws, int]:
    """Draws for held-out simulations before and after a repair.

    Args:
        posterior: as it was.
        store: reference simulations.
        rows: simulations of it.
        fit: makes a repaired posterior from some of them.
        fold: of each of `rows`.
        n_draws: per simulation.
        seed: of the draws and of the observation noise; both are the same before and after.
        n_train: fit to this many groups only, for a learning curve; to all but one fold if None.

    Returns:
        Draws before, draws after, both in the order of `rows`, and the number of simulations for
        which one of them failed.
    """
    before, after, lost = [], [], 0
    groups = np.asarray(store.groups)
    for k in np.unique(fold):
        held, rest = rows[fold == k], rows[fold != k]
        if n_train is not None:
            rest = rest[np.isin(groups[rest], _some(groups[rest], n_train, derive(seed, _FOLDS)))]
        repaired = fit(rest, int(k))
        pair = [held_out_draws(p, store, held, n_draws, seed) for p in (posterior, repaired)]
        both = np.intersect1d(pair[0][1], pair[1][1])
        lost += len(held) - len(both)
        for kept, (draws, index) in zip((before, after), pair, strict=True):
            kept.append((_take(draws, np.isin(index, both)), both))
    return (*(_in_order(parts) for parts in (before, after)), lost)  # type: ignore[return-value]


def held_out_draws(
    posterior: Any, store: Any, rows: np.ndarray, n_draws: int, seed: int
) -> tuple[CalibrationDraws, np.ndarray]:
    """Draws for the simulations `rows`, and those of them for which there are any."""
    draws = draw(
        posterior, store, n_draws, seed=derive(seed, _DRAWS), indices=np.sort(rows), latent=False
    )
    missing = [e.index for e in draws.excluded]
    return draws, np.setdiff1d(rows, missing)


def _some(groups: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The first `n` groups of a fixed random order, so that larger choices contain smaller."""
    names = np.unique(groups)
    return np.random.default_rng(seed).permutation(names)[:n]


def _take(d: CalibrationDraws, keep: np.ndarray) -> CalibrationDraws:
    return replace(d, **{k: v[keep] for k, v in _rows(d).items()}, excluded=(), **_WITHOUT)


def _rows(d: CalibrationDraws) -> dict[str, np.ndarray]:
    names = ("theta", "draws", "log_prob_true", "log_prob_draws", "group")
    return {k: np.asarray(getattr(d, k)) for k in names}


def _in_order(parts: list[tuple[CalibrationDraws, np.ndarray]]) -> CalibrationDraws:
    order = np.argsort(np.concatenate([index for _, index in parts]), kind="stable")
    columns = [_rows(d) for d, _ in parts]
    joined = {k: np.concatenate([c[k] for c in columns])[order] for k in columns[0]}
    return replace(parts[0][0], **joined, excluded=(), **_WITHOUT)


# What belongs to the posterior of one fold alone is not carried over.
_WITHOUT: dict[str, Any] = {"latent": None, "summary": None, "quantities": {}}
