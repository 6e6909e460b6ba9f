"""The posterior of the observation that the configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .choosing import best_trained
from .records import read_json, write_json
from .run import Outcome, Run

__all__ = ["observation_settings", "observe", "repaired"]


def repaired(run: Run) -> tuple[Path, str]:
    """Checkpoint of the repaired posterior if that is the better one, and what to say of it."""
    result = read_json(run.folder("repair") / "result.json")
    chosen = result["chosen"]
    if chosen is None or not result["tried"][chosen]["helps"]:
        return best_trained(run), "none helps; the draws are of the posterior as it was trained"
    told = f"{chosen}, on reference simulations; --as-trained: without it"
    return run.folder("repair") / "checkpoint", told


def observation_settings(run: Run) -> dict[str, Any]:
    """What the stage depends on: the content of the file, not its place."""
    from sbitools.formats import fingerprint

    chosen = run.config.observation
    if chosen is None:
        return {}
    options = chosen.model_dump(mode="json", exclude={"file"})
    return {"options": options, "file": fingerprint(chosen.file), "seed": run.seed("observation")}


def observe(run: Run, resume: bool) -> Outcome:
    """Draw from the best posterior for the observation, and keep draws and summary."""
    from sbitools.inference import Posterior
    from sbitools.observation.observed import posterior_draws, read_field, summarise, write_draws

    chosen = run.config.observation
    assert chosen is not None  # noqa: S101  (the stage is wanted)
    checkpoint, told = best_trained(run), ""
    if run.config.repair.method != "none":
        checkpoint, told = repaired(run)
    posterior = Posterior.load(checkpoint)
    spec = posterior.output if chosen.simulated else posterior.observed
    array, unit = read_field(chosen.file, chosen.dataset, spec)
    draws = posterior_draws(
        posterior, array, chosen.n_draws, run.seed("observation"), chosen.simulated,
        chosen.unit or unit,
    )  # fmt: skip
    folder = run.folder("observation")
    folder.mkdir(parents=True, exist_ok=True)
    names = posterior.parameters.names
    write_draws(folder / "draws.npz", names, draws)
    write_draws(folder / "draws.csv", names, draws)
    columns = ("mean", "sd", "low95", "low68", "high68", "high95")
    rows = [dict(zip(columns, map(float, row), strict=True)) for row in summarise(draws)]
    summary = {
        "name": chosen.file.name, "n_draws": len(draws), "repair": told,
        "parameters": {name: row for name, row in zip(names, rows, strict=True)},
    }  # fmt: skip
    write_json(folder / "result.json", summary)
    return {"draws": folder / "draws.npz", "result": folder / "result.json"}, {}
