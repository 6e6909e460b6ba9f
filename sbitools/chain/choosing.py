"""Never worse than doing without: posteriors with and without the emulator, the best is kept."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from sbitools.errors import ConfigError, ConvergenceWarning, PriorMismatchWarning, TrainingError

from .records import read_json, write_json
from .run import Outcome, Run

__all__ = ["WITH", "WITHOUT", "best_trained", "choose", "compares", "emulated_tests"]

WITH, TUNED = "emulated simulations", "emulated, then reference simulations"
WITHOUT = "reference simulations alone"
_EPOCHS = 100
_LOG = logging.getLogger(__name__)


def compares(run: Run) -> bool:
    """Whether the run has posteriors to choose from, whose densities can be compared.

    An emulator that learns from more than the fields it makes leaves none to train on.
    """
    from sbitools.inference.methods import METHODS, find_method

    if run.emulation is None or not run.config.comparison.enabled:
        return False
    if run.training_simulator.output != run.reference.output:
        return False
    posterior: Any = find_method(run.config.train.get("method", METHODS[0])).posterior
    return bool(posterior.normalised)


def best_trained(run: Run) -> Path:
    """Checkpoint of the posterior that is calibrated and repaired: the best of training."""
    return run.folder("choice" if compares(run) else "posterior") / "checkpoint"


def emulated_tests(run: Run) -> bool:
    """Whether the best posterior is one of the emulator, to be tested on its fields as well."""
    if run.emulation is None:
        return False
    if not compares(run):
        return True
    return read_json(run.folder("choice") / "result.json")["chosen"] != WITHOUT


def choose(run: Run, resume: bool) -> Outcome:
    """Train on reference simulations too, score all on held-out ones, and keep the best."""
    from sbitools.inference import Posterior
    from sbitools.repairs.worth import compare_posteriors

    folder = run.folder("choice")
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {WITH: Posterior.load(run.folder("posterior") / "checkpoint")}
    failed: dict[str, str] = {}
    for name, train in ((WITHOUT, _alone), (TUNED, _tuned)):
        try:
            with warnings.catch_warnings():  # said of the posterior's own training already
                warnings.simplefilter("ignore", PriorMismatchWarning)
                warnings.simplefilter("ignore", ConvergenceWarning)
                found[name] = train(run, found[WITH], folder / "fit", resume)
        except (TrainingError, ConfigError) as error:  # a handful of simulations trains nothing
            failed[name] = str(error)
            _LOG.warning("posterior %r cannot be trained, and is left out: %s", name, error)
    result: dict[str, Any] = {"chosen": WITH, "failed": failed}
    if len(found) > 1:
        without = WITHOUT if WITHOUT in found else WITH
        worth = compare_posteriors(
            found, run.store("reference/test"), without=without, seed=run.seed("choice")
        )
        result |= worth.to_dict()
    found[result["chosen"]].save(folder / "checkpoint")
    write_json(folder / "result.json", result)
    return {"checkpoint": folder / "checkpoint", "result": folder / "result.json"}, {}


def _alone(run: Run, posterior: Any, folder: Path, resume: bool) -> Any:
    from sbitools.inference import train
    from sbitools.observation import Observation

    options: dict[str, Any] = {"seed": run.seed("choice")} | run.config.train
    store = run.store("reference/train")
    if "epochs" in options:  # few, where emulated simulations are many, would be too few of these
        alike = options["epochs"] * len(run.store(run.training_store)) // max(1, len(store))
        options["epochs"] = max(options["epochs"], min(_EPOCHS, alike))
    return train(
        store, observe=Observation.from_dict(run.config.observe),
        run_dir=folder / "alone", resume=resume, **options,
    )  # fmt: skip


def _tuned(run: Run, posterior: Any, folder: Path, resume: bool) -> Any:
    from sbitools.repairs.fine_tune import fine_tune

    store = run.store("reference/train")
    return fine_tune(posterior, store, store.done, run_dir=folder / "tuned", resume=resume)
