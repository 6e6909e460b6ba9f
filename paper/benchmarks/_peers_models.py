"""Ten Gaussian numbers of mean 0, or of one unknown mean: which is it?

Model "still": x_i ~ N(0, 1), i = 1 ... 10. Model "moving": x_i ~ N(mean, 1), mean ~ N(0, 1). With
the average m of x, log p(x | moving) - log p(x | still) = (100 m^2 / 11 - log 11) / 2. The rival
is scikit-learn's perceptron by its defaults, its odds divided by those of the simulations.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from _table import Table

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.calibration import discrete
from sbitools.calibration import models as check_models
from sbitools.errors import MisspecificationWarning

__all__ = ["models"]

MOST = 0.02  # nats of the log score below the exact one
_N = 10
SPEC = FieldSpec("x", ("i",), (_N,))
SPACES = {
    "still": ParameterSpace([Parameter("nothing", priors.Uniform(0.0, 1.0))]),
    "moving": ParameterSpace([Parameter("mean", priors.Normal(0.0, 1.0))]),
}


def _stores(folder: Path, sizes: Mapping[str, int], seed: int) -> dict[str, SimulationStore]:
    out = {}
    for code, (name, n) in enumerate(sizes.items()):
        rng = np.random.default_rng([seed, code])
        theta = SPACES[name].design(n, seed).numpy()
        x = rng.standard_normal((n, _N)) + code * theta
        out[name] = SimulationStore.from_arrays(
            folder / f"{name}-{seed}", theta, x.astype(np.float32), SPACES[name], SPEC,
            seeds=rng.integers(0, 2**62, n), design="random",
        )  # fmt: skip
    return out


def _exact(x: np.ndarray) -> np.ndarray:
    """log p(x | moving) - log p(x | still)."""
    return 0.5 * (_N**2 * x.astype(float).mean(1) ** 2 / (1 + _N) - np.log1p(_N))


def _fields(stores: Mapping[str, SimulationStore]) -> tuple[np.ndarray, np.ndarray]:
    x = [store.read(store.done).numpy() for store in stores.values()]
    return np.concatenate(x), np.repeat(np.arange(len(x)), [len(part) for part in x])


def _rival(stores: Mapping[str, SimulationStore], x: np.ndarray) -> np.ndarray:
    """Log Bayes factors by scikit-learn."""
    from sklearn.neural_network import MLPClassifier

    own, code = _fields(stores)
    fitted = MLPClassifier(random_state=0, max_iter=1000).fit(own, code)
    p = fitted.predict_proba(x)[:, 1].astype(float).clip(1e-12, 1 - 1e-12)
    return np.log(p / (1 - p)) - np.log(code.mean() / (1 - code.mean()))


def _score(factor: np.ndarray, code: np.ndarray) -> float:
    """Mean log probability of the truth, of models that are equally probable."""
    return float(-np.logaddexp(0, np.where(code == 1, -factor, factor)).mean())


def models(quick: bool) -> Table:
    """The table of this set."""
    each, n_test = (300, 500) if quick else (5000, 10_000)
    sizes = {
        f"{each} of each": {"still": each, "moving": each},
        f"{8 * each // 5} and {2 * each // 5}": {
            "still": 8 * each // 5, "moving": 2 * each // 5
        },
    }  # fmt: skip
    table = Table(
        "peers_models", "Two nested models: probabilities against those in closed form",
        ("what", "simulations", "log score [nats]", "below the exact one",
         "rms error of log Bayes factors below 3", "p-value of calibration", "CPU seconds"),
        f"at most {MOST} nats below the exact log score, for equal and for unequal numbers.",
        quick,
    )  # fmt: skip
    missed, scores = [], {}
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", MisspecificationWarning)  # one in a thousand tests
        folder = Path(name)
        tests = _stores(folder, {"still": n_test, "moving": n_test}, 100)
        x, code = _fields(tests)
        exact = _exact(x)
        best, near = _score(exact, code), np.abs(exact) < 3

        def add(what: str, of: str, factor: np.ndarray, p_value: float, seconds: object) -> None:
            error = float(np.sqrt(np.mean((factor - exact)[near] ** 2)))
            score = _score(factor, code)
            table.add(what, of, f"{score:.4f}", best - score, error, p_value, seconds)
            scores[f"{what}, {of}"] = score

        for seed, (of, numbers) in enumerate(sizes.items()):
            stores = _stores(folder, numbers, seed)
            begun = time.process_time()
            posterior = sbitools.train_models(stores, run_dir=folder / f"run-{seed}")
            seconds = time.process_time() - begun
            factor = posterior.log_bayes_factor(torch.from_numpy(x), "moving", "still").numpy()
            check = check_models(posterior, tests, seed=seed)
            add("sbitools", of, factor, check.p_value or 0.0, seconds)
            missed.append(best - _score(factor, code))
            begun = time.process_time()
            factor = _rival(stores, x)
            seconds = time.process_time() - begun
            add("scikit-learn's perceptron", of, factor, _calibrated(factor, code), seconds)
        add("exact", "-", exact, _calibrated(exact, code), "-")
    table.passed = None if quick else max(missed) <= MOST
    table.notes.append(
        f"{n_test} tests of each model; each way trained once, by its defaults; a p-value below "
        "0.01 fails the check of calibration"
    )
    table.data = {"scores": scores, "exact": best}
    return table


def _calibrated(factor: np.ndarray, code: np.ndarray) -> float:
    p = 1 / (1 + np.exp(-factor))
    return discrete(np.stack([1 - p, p], 1), code).p_value or 0.0
