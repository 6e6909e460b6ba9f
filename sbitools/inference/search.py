"""A seeded random search of training options: where the defaults are not good enough.

It pays for fields, where the width of the embedding and the learning rate matter, and hardly ever
for short data vectors, whose default is a mixture of several networks already. Random search is
used because few of the options matter, and it tries as many values of each as it has trials.

References:
    | Random search for hyper-parameter optimization (Bergstra & Bengio 2012)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.disk.files import read_json, write_atomic
from sbitools.display.brief import Brief
from sbitools.errors import ConfigError, RunDirError, TrainingError
from sbitools.gate.plain import as_path, plain_value, real, whole
from sbitools.seeds import check_seed, derive
from sbitools.store import SimulationStore
from sbitools.store.access import as_store

from .methods import find_method
from .options import parse_options
from .train import train

__all__ = ["SPACE", "SearchResult", "Trial", "search"]

SPACE: dict[str, Sequence[Any] | tuple[str, float, float]] = {
    "learning_rate": ("log", 3e-4, 5e-3),
    "batch_size": (32, 64, 128),
    "flow_hidden": (32, 64, 128),
    "flow_transforms": (2, 3, 5),
    "features": (16, 32, 64),
    "channels": (8, 16, 24),
    "weight_decay": ("log", 1e-5, 1e-1),
}
"""What is tried for neural posterior estimation: values, or ("log", low, high) for a range."""


@dataclass(frozen=True, repr=False)
class Trial(Brief):
    """One training.

    Args:
        options: what was tried.
        validation_loss: the lowest, in nats; infinite if training diverged.
        seconds: of training.
    """

    options: dict[str, Any]
    validation_loss: float
    seconds: float


@dataclass(frozen=True, repr=False)
class SearchResult(Brief):
    """All trials, best first.

    Args:
        trials: sorted by validation loss.
    """

    trials: tuple[Trial, ...]

    @property
    def best(self) -> dict[str, Any]:
        """Options of the best trial, to give to `train`."""
        return self.trials[0].options


def search(
    store: SimulationStore,
    method: str = "npe",
    *,
    trials: int = 16,
    run_dir: str | Path,
    seed: int,
    space: Mapping[str, Sequence[Any] | tuple[str, float, float]] | None = None,
    on_trial: Callable[[int, Trial], None] | None = None,
    **options: Any,
) -> SearchResult:
    """Train with random options and rank them by the loss of the same held-out simulations.

    The first trial has the defaults, so that the result says what the search gained. Finished
    trials are kept in `run_dir`; a search that was interrupted goes on.

    Args:
        store: simulations to train on.
        method: a name out of `sbitools.inference.METHODS`.
        trials: number of trainings.
        run_dir: one folder per trial.
        seed: of the choices. Trial i is the same whatever the number of trials.
        space: options and their values, or ("log", low, high); `SPACE` if None.
        on_trial: called with the number and the result of each finished trial.
        **options: what all trials share, also ``observe``; e.g. ``epochs`` or ``time_limit``.

    Raises:
        ConfigError: for an unknown option, or less than one trial.
        TrainingError: if no trial could be trained.
        RunDirError: if `run_dir` holds another search, or another process trains there.
    """
    space = SPACE if space is None else _checked_space(space)
    chosen, plain = find_method(method), {k: v for k, v in options.items() if k != "observe"}
    store, trials = as_store(store), whole(trials, "trials", least=1)
    run_dir, seed = as_path(run_dir, "run_dir"), check_seed(seed)
    done, last = [], None
    for i in range(trials):
        tried = _draw(space, derive(seed, i)) if i else {}
        parse_options(chosen, plain | tried | {"method": method})
        file = as_path(run_dir, "run_dir") / f"trial-{i}.json"
        trial, last = _trial(store, method, tried, options, file, last)
        done.append(trial)
        if on_trial:
            on_trial(i, trial)
    if last is not None and not any(math.isfinite(t.validation_loss) for t in done):
        raise last
    return SearchResult(tuple(sorted(done, key=lambda t: t.validation_loss)))


def _trial(
    store: SimulationStore, method: str, tried: dict[str, Any], options: dict[str, Any],
    file: Path, last: TrainingError | None,
) -> tuple[Trial, TrainingError | None]:  # fmt: skip
    identity = {"tried": tried, "store": store.digest(), "method": method}
    if file.is_file():
        known = read_json(file)
        if not isinstance(known, dict) or known.get("identity") != identity:
            raise RunDirError(
                f"search in {file.parent}", expected="the search that was begun there",
                got="other options, another store or another seed", fix="use another run_dir",
            )  # fmt: skip
        loss = known["validation_loss"]
        return Trial(tried, math.inf if loss is None else loss, known["seconds"]), last
    try:
        posterior = train(store, method, run_dir=file.with_suffix(""), resume=True,
                          **options | tried)  # fmt: skip
        rows = posterior.info["history"]["epochs"]
        losses = [r["validation_loss"] for r in rows if r["validation_loss"] is not None]
        trial = Trial(tried, min(losses, default=math.inf), posterior.info["seconds"])
    except RunDirError:  # says nothing about the options that were tried
        raise
    except TrainingError as error:  # it diverged: a bad choice, not a failed search
        trial, last = Trial(tried, math.inf, 0.0), error
    loss = trial.validation_loss if math.isfinite(trial.validation_loss) else None
    values = {"identity": identity, "validation_loss": loss, "seconds": trial.seconds}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps(values).encode())
    return trial, last


def _checked_space(space: Any) -> dict[str, Any]:
    """Plain values by name; raises `ConfigError` for what cannot be drawn from."""
    space = plain_value(space)
    for name, values in space.items() if isinstance(space, dict) else [("space", space)]:
        listed = isinstance(space, dict) and isinstance(values, list | tuple) and len(values) > 0
        if listed and next(iter(values)) == "log":
            ends = [real(v, f"range of {name}", above=0) for v in values[1:]]
            listed = len(ends) == 2 and ends[0] <= ends[1]
        if not listed:
            raise ConfigError(
                f"space of {name!r}", expected='a list of values, or ("log", low, high)',
                got=repr(values)[:80], fix="see sbitools.inference.search.SPACE",
            )  # fmt: skip
    return space


def _draw(space: Mapping[str, Any], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: _value(values, rng) for name, values in space.items()}


def _value(values: Any, rng: np.random.Generator) -> Any:
    if values[0] == "log":
        return float(f"{math.exp(rng.uniform(math.log(values[1]), math.log(values[2]))):.3g}")
    return values[int(rng.integers(len(values)))]
