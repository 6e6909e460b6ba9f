"""Sections about how a run was made: training, simulations, costs, provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sbitools.disk.files import read_json
from sbitools.display.lines import clock

from .blocks import Block, Code, Figure, Section, Table
from .figures import training_curve
from .provenance import toml_text

if TYPE_CHECKING:
    from sbitools.chain.run import Run

__all__ = [
    "campaign_section", "cost_section", "curve", "provenance_section", "training_section",
]  # fmt: skip


def curve(history: dict[str, Any], who: str, ylabel: str) -> Figure:
    """A training curve with its caption."""
    epochs, best = history["epochs"], history["best_epoch"]
    ended = f"Stopped by: {history['stopped']}. " if history.get("stopped") else ""
    advice = (
        "Both curves should have flattened; a validation curve that rises while training falls "
        "would mean over-fitting."
    )
    if all(row.get("validation_loss") is None for row in epochs):
        advice = "No simulations were held out of this fit."
    return Figure(
        training_curve(epochs, best, ylabel),
        f"training and validation loss of the {who}",
        f"Training of the {who}, {len(epochs)} epochs. {ended}{advice}",
    )


_TRAINING = {"method": "method", "n_training": "fields to train on",
             "n_validation": "fields to stop by", "design": "design of theta"}  # fmt: skip


def training_section(run: Run) -> Section:
    """How the posterior was trained."""
    info = read_json(run.folder("posterior") / "info.json")
    history = info["history"]
    rows = [(what, str(info[key])) for key, what in _TRAINING.items() if key in info]
    rows += [(f"left out: {state}", str(n)) for state, n in info.get("excluded", {}).items()]
    blocks: list[Block] = [
        curve(history, "posterior", "−log posterior density [nats]"),
        Table(("quantity", "value"), rows),
    ]
    fields = "reference simulations" if run.emulation is None else "emulated fields"
    return Section(
        "training", "Training",
        f"The posterior network was trained on {fields} only; the observation model "
        "(smoothing, noise, mask) was redrawn at every step.", blocks,
    )  # fmt: skip


_STATES = ("done", "failed", "rejected", "running", "pending")


def campaign_section(run: Run) -> Section:
    """What became of the simulations of every store."""
    rows, failures = [], []
    stores = ("reference/train", "reference/validation", "reference/test", "emulated/train",
              "emulated/test")  # fmt: skip
    for name in stores if run.emulation is not None else ("reference/train", "reference/test"):
        store = run.store(name)
        counts = store.counts()
        rows.append((name, *(str(counts.get(state, 0)) for state in _STATES),
                     f"{100 * counts.get('done', 0) / max(1, len(store)):.1f} %"))  # fmt: skip
        failures += [(name, str(f.index), f.state, _last_line(f.message))
                     for f in store.failures()[:5]]  # fmt: skip
    blocks: list[Block] = [
        Table(("store", *_STATES, "accepted"), rows, numeric=frozenset(range(1, 7)),
              caption="Failed and rejected simulations are kept on record, not dropped: a prior "
              "with holes in it would bias the posterior unseen.")
    ]  # fmt: skip
    if failures:
        blocks.append(Table(("store", "simulation", "state", "reason"), failures,
                            "The first failures of each store."))  # fmt: skip
    return Section(
        "simulations", "Simulations",
        "How many simulations were asked for, and what became of them.", blocks,
    )  # fmt: skip


def _last_line(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[-1] if lines else ""


def cost_section(run: Run) -> Section:
    """Time and memory of every stage."""
    from sbitools.chain.names import NAMES

    records = [record for name in NAMES if (record := run.record(name)) is not None]
    done = [record for record in records if record.state == "done"]
    rows = [(r.name, clock(r.seconds), f"{r.peak_memory_mb:.0f}", r.started) for r in done]
    total = sum(record.seconds for record in done)
    peak = max((record.peak_memory_mb for record in done), default=0.0)
    rows.append(("all", clock(total), f"{peak:.0f}", ""))
    return Section(
        "costs", "Costs", "Time and peak memory of every stage, workers included.",
        [Table(("stage", "time", "peak MiB", "started (UTC)"), rows, numeric=frozenset({1, 2}),
               caption="A stage that was interrupted and resumed shows its last attempt.")],
    )  # fmt: skip


def provenance_section(facts: dict[str, Any]) -> Section:
    """What is needed to repeat a run."""
    versions = " · ".join(f"{name} {value}" for name, value in facts["versions"].items())
    machine = " · ".join(f"{name} {value}" for name, value in facts["machine"].items())
    rows = [("date (UTC)", facts["date"]), ("versions", versions), ("machine", machine)]
    rows += [(f"sha256 of {name}", value) for name, value in facts["specifications"].items()]
    rows += [(f"command of {name}", text) for name, text in facts.get("commands", {}).items()]
    seeds, hashes = facts["seeds"], facts["hashes"]
    stages = [
        (stage, str(seeds.get(stage, "")), artifact, value)
        for stage in dict.fromkeys([*seeds, *hashes])
        for artifact, value in (hashes.get(stage) or {"": ""}).items()
    ]
    return Section(
        "provenance", "Provenance", "What is needed to repeat this run.",
        [Table(("what", "value"), rows), Table(("stage", "seed", "artifact", "sha256"), stages),
         Code(toml_text(facts["config"]))],
    )  # fmt: skip
