"""The stages of the chain: what each reads, what it depends on, and the work it does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from sbitools.config import EmulatedSection, ReferenceSection
from sbitools.errors import StoreError
from sbitools.systems import EmulatedSystem

from .choosing import best_trained, choose, compares, emulated_tests
from .emulating import Emulation, emulator_options
from .observing import observation_settings, observe
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
    return run.reference if name == "reference/test" else run.training_simulator


def _emulating(run: Run) -> bool:
    return run.emulation is not None


def _reads(*names: str) -> Callable[[Run], tuple[str, ...]]:
    return lambda run: tuple(name for name in names if STAGES[name].wanted(run))


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
        return {"n": store_size(run, name), "seed": run.seed(name)} | _files(run, name)

    reference = name.startswith("reference/")
    needs = _reads() if reference else _reads("emulator")
    title = "reference simulations" if reference else "emulated simulations"
    # Without an emulator there is nothing to validate, and nothing emulated.
    always = name in ("reference/train", "reference/test")
    wanted = (lambda run: True) if always else _emulating
    return Stage(name, title, needs, settings, work, costly=reference, wanted=wanted)


def _files(run: Run, name: str) -> dict[str, Any]:
    """The content of the files that a store of the reference is made of, if it is.

    Once it is made, they need not be there any more.
    """
    signature = getattr(run.system, "signature", None)
    if signature is None or not name.startswith("reference/"):
        return {}
    try:
        return {"files": signature(run.settings)}
    except StoreError:
        record = run.record(name)
        if record is None or record.state != "done" or "files" not in record.settings:
            raise
        return {"files": record.settings["files"]}


def _provided(run: Run, name: str, folder: Path) -> SimulationStore | None:
    """Reference simulations that the system ships, if the settings ask for them."""
    provide = getattr(run.system, "provide", None)
    if provide is None or not name.startswith("reference/"):
        return None
    sizes = {
        store: store_size(run, store) for store in STORES
        if store.startswith("reference/") and STAGES[store].wanted(run)
    }  # fmt: skip
    return provide(run.settings, name, sizes, folder)


def _fit(run: Run, resume: bool) -> Outcome:
    folder = run.folder("emulator")
    folder.mkdir(parents=True, exist_ok=True)
    emulation = _emulation(run)
    emulator = emulation.new()
    options = {"seed": run.seed("emulator")} | emulator_options(run.config)
    report: dict[str, Any] = {}
    if run.progress and "on_epoch" in inspect.signature(emulator.fit).parameters:
        from sbitools.display.lines import epoch_printer

        report["on_epoch"] = epoch_printer(_epochs(run, "emulator"))
    history = emulator.fit(
        run.store("reference/train"), options, run_dir=folder / "fit", resume=resume, **report
    )
    emulator.save(folder / "checkpoint")
    write_json(folder / "history.json", history.to_dict())
    outputs = {"checkpoint": folder / "checkpoint", "history": folder / "history.json"}
    return outputs, {"epochs": len(history.epochs)}


def _emulation(run: Run) -> Emulation:
    """Of a run whose stages of the emulator are wanted."""
    assert run.emulation is not None  # noqa: S101
    return run.emulation


def _fit_settings(run: Run) -> dict[str, Any]:
    emulation = _emulation(run)
    method = {} if emulation.own else {"method": emulation.name}
    options = emulator_options(run.config)
    return {"options": options | method, "seed": run.seed("emulator")}


def _epochs(run: Run, table: Literal["train", "emulator"]) -> int | None:
    """Epochs at most, by the table of the configuration or its model's default."""
    from sbitools.inference.methods import find_method

    model = None if run.emulation is None else run.emulation.options
    if table == "train":
        model = find_method(run.config.train.get("method", "npe")).options
    if model is not None and "steps" in model.model_fields:
        return None  # its epochs follow from its steps
    default = model.model_fields.get("epochs") if model is not None else None
    chosen = getattr(run.config, table).get("epochs", default.default if default else None)
    return chosen if isinstance(chosen, int) else None


def _validate(run: Run, resume: bool) -> Outcome:
    from sbitools.report.artifacts import save_statistics

    store = run.store("reference/validation")
    if _emulation(run).own:
        system = cast(EmulatedSystem, run.system)
        statistics = system.validate(run.emulator(), run.settings, store)
    else:
        from sbitools.statistics.comparison import compare

        training = run.store("reference/train")
        statistics = compare(run.emulator(), store, training=training)
    path = save_statistics(run.folder("validation"), statistics)
    return {"statistics": path}, {"n": len(store)}


def _train(run: Run, resume: bool) -> Outcome:
    from sbitools.display.lines import epoch_printer
    from sbitools.inference import train
    from sbitools.observation import Observation

    folder = run.folder("posterior")
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"seed": run.seed("posterior")}
    options |= _emulated_once(run) | run.config.train
    posterior = train(
        run.store(run.training_store), observe=Observation.from_dict(run.config.observe),
        run_dir=folder / "fit", resume=resume, **options,
        on_epoch=epoch_printer(_epochs(run, "train")) if run.progress else None,
    )  # fmt: skip
    posterior.save(folder / "checkpoint")
    write_json(folder / "info.json", posterior.info)
    return {"checkpoint": folder / "checkpoint", "info": folder / "info.json"}, {}


def _emulated_once(run: Run) -> dict[str, Any]:
    """Vectors that come from an emulator are not emulated again: it takes six times as long.

    Of 30 counts from 270 simulations, posteriors of 40,000 emulated vectors were as good without.
    """
    from sbitools.inference.methods import find_method

    method = find_method(run.config.train.get("method", "npe"))
    vectors = len(run.training_simulator.output.shape) == 1
    again = run.emulation is not None and vectors and "emulate" in method.options.model_fields
    return {"emulate": False} if again else {}


def _calibrate(run: Run, resume: bool) -> Outcome:
    from sbitools.calibration import calibrate
    from sbitools.inference import Posterior
    from sbitools.report.artifacts import save_examples

    folder = run.folder("calibration")
    folder.mkdir(parents=True, exist_ok=True)
    posterior = Posterior.load(best_trained(run))
    reference = run.store("reference/test")
    emulated = run.store("emulated/test") if emulated_tests(run) else None
    result = calibrate(
        posterior, emulated or reference, reference=reference if emulated else None,
        n_draws=run.config.calibrate.n_draws, seed=run.seed("calibration"),
        false_alarm=run.config.calibrate.false_alarm, progress=run.progress,
    )  # fmt: skip
    if emulated is None:
        result = replace(result, info=result.info | {"emulator": "none"})
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
    posterior = Posterior.load(best_trained(run))
    store = run.store("reference/test")
    repaired = repair(
        posterior, store, options.method, folds=options.folds, indices=store.done[: options.n],
        n_draws=options.n_draws, run_dir=folder / "fit", resume=resume, seed=run.seed("repair"),
    )  # fmt: skip
    repaired.save(folder / "checkpoint")
    # What differs between emulated and reference tests; without an emulator there are no two.
    found = attribution(run, posterior) if emulated_tests(run) else []
    checks = [check.to_dict() for check in found]
    write_json(folder / "result.json", repaired.info["repair"] | {"attribution": checks})
    return {"checkpoint": folder / "checkpoint", "result": folder / "result.json"}, {}


def _repair_settings(run: Run) -> dict[str, Any]:
    return {"options": run.config.repair.model_dump(), "seed": run.seed("repair")}


def _report_settings(run: Run) -> dict[str, Any]:
    remarks = getattr(run.system, "remarks", None)
    said = {} if remarks is None else {"remarks": remarks(run.settings)}
    return {"options": run.config.report.model_dump()} | said


def _report(run: Run, resume: bool) -> Outcome:
    from sbitools.report import write_report

    html, machine = write_report(run)
    return {"html": html, "json": machine}, {}


_LIST = (
    _campaign("reference/train"),
    _campaign("reference/validation"),
    _campaign("reference/test"),
    Stage("emulator", "fit of the emulator", _reads("reference/train"),
          _fit_settings, _fit, wanted=_emulating),
    Stage("validation", "emulator against reference", _reads("emulator", "reference/validation"),
          lambda run: {}, _validate, wanted=_emulating),
    _campaign("emulated/train"),
    _campaign("emulated/test"),
    Stage("posterior", "training of the posterior", lambda run: (run.training_store,),
          lambda run: {"options": run.config.train, "observe": run.config.observe,
                       "seed": run.seed("posterior")}, _train),
    Stage("choice", "with and without emulator",
          _reads("posterior", "reference/train", "reference/test"),
          lambda run: {"options": run.config.train, "seed": run.seed("choice")}, choose,
          wanted=compares),
    Stage("calibration", "calibration",
          _reads("posterior", "choice", "emulated/test", "reference/test"),
          lambda run: {"options": run.config.calibrate.model_dump(),
                       "examples": run.config.report.examples}, _calibrate),
    Stage("repair", "repair of the posterior",
          _reads("posterior", "choice", "emulated/test", "reference/test"),
          _repair_settings, _repair, wanted=lambda run: run.config.repair.method != "none"),
    Stage("observation", "posterior of the data", _reads("posterior", "choice", "repair"),
          observation_settings, observe, wanted=lambda run: run.config.observation is not None),
    Stage("report", "report",
          _reads("calibration", "validation", "choice", "repair", "observation"),
          _report_settings, _report),
)  # fmt: skip
STAGES: dict[str, Stage] = {stage.name: stage for stage in _LIST}

# The command that runs each stage.
COMMANDS = {
    **dict.fromkeys(STAGES, "simulate"), "emulator": "fit", "validation": "fit",
    "posterior": "train", "choice": "train", "calibration": "calibrate", "repair": "repair",
    "observation": "run", "report": "report",
}  # fmt: skip
STORES = tuple(name for name, command in COMMANDS.items() if command == "simulate")
