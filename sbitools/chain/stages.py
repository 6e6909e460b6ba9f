"""The stages of the chain: what each reads, what it depends on, and the work it does."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

from sbitools.config import EmulatedSection, ReferenceSection

from .records import write_json
from .run import Outcome, Run, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from sbitools.simulator import Simulator
    from sbitools.store import SimulationStore

__all__ = ["COMMANDS", "STAGES", "STORES", "store_section", "store_simulator", "store_size"]


def store_section(run: Run, name: str) -> ReferenceSection | EmulatedSection:
    """The table of the configuration a store belongs to."""
    return run.config.reference if name.startswith("reference/") else run.config.emulated


def store_size(run: Run, name: str) -> int:
    """Number of simulations a store is to have."""
    return getattr(store_section(run, name), f"n_{name.split('/')[1]}")


def store_simulator(run: Run, name: str) -> Simulator:
    """What fills a store."""
    if name.startswith("emulated/"):
        return run.emulator()
    if name == "reference/test":
        return run.reference
    return run.system.training_simulator(run.settings)


def _campaign(name: str) -> Stage:
    def work(run: Run, resume: bool) -> Outcome:
        from sbitools.campaign import simulate

        section, folder = store_section(run, name), run.folder(name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        store = _provided(run, name, folder)
        if store is None:
            store = simulate(
                store_simulator(run, name), store_size(run, name), folder, seed=run.seed(name),
                workers=run.config.workers, task_size=section.task_size,
                time_limit=section.time_limit, progress=run.progress,
            )  # fmt: skip
        return {"store": folder}, {"counts": store.counts(), "digest": store.digest()}

    def settings(run: Run) -> dict[str, Any]:
        return {"n": store_size(run, name), "seed": run.seed(name)}

    reference = name.startswith("reference/")
    needs = () if reference else ("emulator",)
    title = "reference simulations" if reference else "emulated simulations"
    return Stage(name, title, needs, settings, work, costly=reference)


def _provided(run: Run, name: str, folder: Path) -> SimulationStore | None:
    """Reference simulations that the system ships, if the settings ask for them."""
    provide = getattr(run.system, "provide", None)
    if provide is None or not name.startswith("reference/"):
        return None
    return provide(run.settings, name, store_size(run, name), folder)


def _fit(run: Run, resume: bool) -> Outcome:
    folder = run.folder("emulator")
    folder.mkdir(parents=True, exist_ok=True)
    emulator = run.system.emulator(run.settings)
    options = {"seed": run.seed("emulator")} | run.config.emulator
    report: dict[str, Any] = {}
    if run.progress and "on_epoch" in inspect.signature(emulator.fit).parameters:
        from sbitools.lines import epoch_printer

        report["on_epoch"] = epoch_printer(_epochs(run, "emulator"))
    history = emulator.fit(
        run.store("reference/train"), options, run_dir=folder / "fit", resume=resume, **report
    )
    emulator.save(folder / "checkpoint")
    write_json(folder / "history.json", history.to_dict())
    outputs = {"checkpoint": folder / "checkpoint", "history": folder / "history.json"}
    return outputs, {"epochs": len(history.epochs)}


def _epochs(run: Run, table: Literal["train", "emulator"]) -> int | None:
    """Epochs at most, by the table of the configuration or its model's default."""
    from sbitools.inference.methods import find_method

    model = getattr(run.system, "emulator_options", None)
    if table == "train":
        model = find_method(run.config.train.get("method", "npe")).options
    default = model.model_fields.get("epochs") if model is not None else None
    chosen = getattr(run.config, table).get("epochs", default.default if default else None)
    return chosen if isinstance(chosen, int) else None


def _validate(run: Run, resume: bool) -> Outcome:
    from sbitools.report.artifacts import save_statistics

    store = run.store("reference/validation")
    statistics = run.system.validate(run.emulator(), run.settings, store)
    path = save_statistics(run.folder("validation"), statistics)
    return {"statistics": path}, {"n": len(store)}


def _train(run: Run, resume: bool) -> Outcome:
    from sbitools.inference import train
    from sbitools.lines import epoch_printer
    from sbitools.observation import Observation

    folder = run.folder("posterior")
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"seed": run.seed("posterior")} | run.config.train
    posterior = train(
        run.store("emulated/train"), observe=Observation.from_dict(run.config.observe),
        run_dir=folder / "fit", resume=resume, **options,
        on_epoch=epoch_printer(_epochs(run, "train")) if run.progress else None,
    )  # fmt: skip
    posterior.save(folder / "checkpoint")
    write_json(folder / "info.json", posterior.info)
    return {"checkpoint": folder / "checkpoint", "info": folder / "info.json"}, {}


def _calibrate(run: Run, resume: bool) -> Outcome:
    from sbitools.calibration import calibrate
    from sbitools.inference import Posterior
    from sbitools.report.artifacts import save_examples

    folder = run.folder("calibration")
    folder.mkdir(parents=True, exist_ok=True)
    posterior = Posterior.load(run.folder("posterior") / "checkpoint")
    reference = run.store("reference/test")
    result = calibrate(
        posterior, run.store("emulated/test"), reference=reference,
        n_draws=run.config.calibrate.n_draws, seed=run.seed("calibration"),
        false_alarm=run.config.calibrate.false_alarm, progress=run.progress,
    )  # fmt: skip
    result.to_json(folder / "result.json")
    examples = save_examples(
        folder / "examples.npz", posterior, reference, run.config.report.examples,
        run.seed("examples"),
    )  # fmt: skip
    return {"result": folder / "result.json", "examples": examples}, {}


def _repair(run: Run, resume: bool) -> Outcome:
    from sbitools.inference import Posterior
    from sbitools.repairs import repair

    from .attribution import attribution

    folder, options = run.folder("repair"), run.config.repair
    folder.mkdir(parents=True, exist_ok=True)
    posterior = Posterior.load(run.folder("posterior") / "checkpoint")
    store = run.store("reference/test")
    repaired = repair(
        posterior, store, options.method, folds=options.folds, indices=store.done[: options.n],
        n_draws=options.n_draws, run_dir=folder / "fit", resume=resume, seed=run.seed("repair"),
    )  # fmt: skip
    repaired.save(folder / "checkpoint")
    checks = [check.to_dict() for check in attribution(run, posterior)]
    write_json(folder / "result.json", repaired.info["repair"] | {"attribution": checks})
    return {"checkpoint": folder / "checkpoint", "result": folder / "result.json"}, {}


def _repair_settings(run: Run) -> dict[str, Any]:
    return {"options": run.config.repair.model_dump(), "seed": run.seed("repair")}


def _report(run: Run, resume: bool) -> Outcome:
    from sbitools.report import write_report

    html, machine = write_report(run)
    return {"html": html, "json": machine}, {}


_LIST = (
    _campaign("reference/train"),
    _campaign("reference/validation"),
    _campaign("reference/test"),
    Stage("emulator", "fit of the emulator", ("reference/train",),
          lambda run: {"options": run.config.emulator, "seed": run.seed("emulator")}, _fit),
    Stage("validation", "emulator against reference", ("emulator", "reference/validation"),
          lambda run: {}, _validate),
    _campaign("emulated/train"),
    _campaign("emulated/test"),
    Stage("posterior", "training of the posterior", ("emulated/train",),
          lambda run: {"options": run.config.train, "observe": run.config.observe,
                       "seed": run.seed("posterior")}, _train),
    Stage("calibration", "calibration", ("posterior", "emulated/test", "reference/test"),
          lambda run: {"options": run.config.calibrate.model_dump(),
                       "examples": run.config.report.examples}, _calibrate),
    Stage("repair", "repair of the posterior", ("posterior", "emulated/test", "reference/test"),
          _repair_settings, _repair, wanted=lambda run: run.config.repair.method != "none"),
    Stage("report", "report", ("calibration", "validation", "repair"),
          lambda run: {"options": run.config.report.model_dump()}, _report),
)  # fmt: skip
STAGES: dict[str, Stage] = {stage.name: stage for stage in _LIST}

# The command that runs each stage.
COMMANDS = {
    **dict.fromkeys(STAGES, "simulate"), "emulator": "fit", "validation": "fit",
    "posterior": "train", "calibration": "calibrate", "repair": "repair", "report": "report",
}  # fmt: skip
STORES = tuple(name for name, command in COMMANDS.items() if command == "simulate")
