"""The chain: stages that read artifacts, write artifacts and can be run again.

reference simulations -> emulator -> emulated simulations -> posterior -> calibration -> report.
Files are the only interface between stages. A stage is skipped if its record names the settings
and the sha256 of the inputs it would use now; a killed one goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .config import EmulatedSection, ReferenceSection, RunConfig, validate_model
from .errors import ConfigError
from .stage import StageRecord, read_record, record_work, write_json
from .systems import System, find_system

if TYPE_CHECKING:
    from .simulator import Simulator
    from .store import SimulationStore

__all__ = [
    "COMMANDS", "STAGES", "STORES", "Run", "Stage", "run_chain", "run_stage", "store_section",
    "store_simulator", "store_size",
]  # fmt: skip

Outcome = tuple[dict[str, Path], dict[str, Any]]
Announce = Callable[["Stage", Literal["start", "skip", "done"], StageRecord | None], None]

# Streams of randomness; numbers of stages already published must not change.
_SEEDS = {
    "reference/train": 1, "reference/validation": 2, "reference/test": 3, "emulator": 4,
    "emulated/train": 5, "emulated/test": 6, "posterior": 7, "calibration": 8, "examples": 9,
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One step of the chain.

    Args:
        name: also its folder below the run's.
        title: for the line that is printed.
        needs: stages whose outputs it reads.
        settings: what of the configuration it depends on.
        work: does it; the flag says whether to go on with what an interrupted attempt left.
        costly: its artifacts are never removed by the chain, not even when settings change.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    settings: Callable[[Run], dict[str, Any]]
    work: Callable[[Run, bool], Outcome]
    costly: bool = False


class Run:
    """A configuration, its system and its folder.

    Args:
        config: the whole configuration.
        progress: show progress of campaigns.

    Raises:
        ConfigError: for an unknown system or settings it does not take.
    """

    def __init__(self, config: RunConfig, progress: bool = False) -> None:
        self.config, self.progress, self.root = config, progress, config.run_dir
        self.system: System = find_system(config.system)
        self.settings = validate_model(self.system.settings, config.settings, "settings")

    def folder(self, stage: str) -> Path:
        """Where a stage keeps its artifacts."""
        return self.root / stage

    def seed(self, stage: str) -> int:
        """The seed of a stage, derived from the run's."""
        from .seeds import derive

        return derive(self.config.seed, _SEEDS[stage])

    def record_path(self, stage: str) -> Path:
        """Where a stage keeps its record."""
        return self.root / "stages" / f"{stage.replace('/', '-')}.json"

    def record(self, stage: str) -> StageRecord | None:
        """The record of a stage, or None."""
        return read_record(self.record_path(stage))

    def store(self, stage: str) -> SimulationStore:
        """The store a stage wrote."""
        from .store import SimulationStore

        return SimulationStore.open(self.folder(stage))

    @cached_property
    def reference(self) -> Simulator:
        """The reference simulator."""
        return self.system.simulator(self.settings)

    def emulator(self) -> Any:
        """The fitted emulator."""
        return self.system.load_emulator(self.folder("emulator") / "checkpoint")

    def check(self) -> None:
        """Check the tables that later stages read, before hours go into the earlier ones.

        Raises:
            ConfigError: for an option of ``[train]`` or ``[emulator]`` that does not exist.
            ObservationError: for an observation step that does not fit the field.
        """
        from .inference import NPEOptions
        from .observation import Observation

        options = {k: v for k, v in self.config.train.items() if k != "method"}
        validate_model(NPEOptions, options, "train")
        known = getattr(self.system, "emulator_options", None)
        if known is not None:
            validate_model(known, self.config.emulator, "emulator")
        Observation.from_dict(self.config.observe).output(self.reference.output)

    @property
    def base(self) -> dict[str, Any]:
        """What every stage depends on."""
        plain = self.settings.model_dump(mode="json")
        return {"system": self.config.system, "settings": plain}


def run_chain(
    run: Run, stages: Iterable[str], announce: Announce | None = None, again: bool = False
) -> None:
    """Run the named stages in the order of the chain; those up to date are skipped.

    Args:
        run: configuration and folder.
        stages: names of `STAGES`.
        announce: called when a stage starts, is skipped or is done.
        again: run stages that are up to date too.

    Raises:
        ConfigError: if a stage lacks its inputs, or its costly results were made with other
            settings.
    """
    wanted = set(stages)
    for stage in STAGES.values():
        if stage.name in wanted:
            run_stage(run, stage, announce, again)


def run_stage(
    run: Run, stage: Stage, announce: Announce | None = None, again: bool = False
) -> StageRecord:
    """Run one stage, unless it is up to date; see `run_chain`."""
    tell = announce or (lambda *_: None)
    settings, inputs = run.base | stage.settings(run), stage_inputs(run, stage)
    before = run.record(stage.name)
    same = before is not None and (
        before.matches(settings, inputs) or before.is_imported(run.base)
    )  # fmt: skip
    done = before is not None and before.state == "done" and run.folder(stage.name).exists()
    if before is not None and same and done and not again:
        tell(stage, "skip", before)
        return before
    if not same:
        _clear(run, stage, before, settings)
    tell(stage, "start", None)
    path = run.record_path(stage.name)
    record = record_work(path, stage.name, settings, inputs, lambda: stage.work(run, same))
    tell(stage, "done", record)
    return record


def stage_inputs(run: Run, stage: Stage) -> dict[str, str]:
    """sha256 of what a stage reads; raises `ConfigError` if an earlier stage is not done."""
    inputs = {}
    for name in stage.needs:
        record = run.record(name)
        if record is None or record.state != "done":
            raise ConfigError(
                f"stage {stage.name!r}", expected=f"a finished stage {name!r} in {run.root}",
                got="an interrupted one" if record else "none",
                fix=f"run `sbitools {COMMANDS[name]} CONFIG` first",
            )  # fmt: skip
        inputs |= {f"{name}: {key}": value for key, value in record.outputs.items()}
    return inputs


def _clear(run: Run, stage: Stage, before: StageRecord | None, settings: dict[str, Any]) -> None:
    """Make room for results of new settings; refuse where that would destroy costly ones."""
    folder = run.folder(stage.name)
    if before is None or not folder.exists():
        return
    if _grows(before, settings) and before.inputs == stage_inputs(run, stage):
        return  # a campaign extends its store
    if stage.costly:
        plain = {k: v for k, v in settings.items() if before.settings.get(k) != v}
        was = {k: before.settings.get(k) for k in plain}
        raise ConfigError(
            f"{folder}", expected=f"simulations made with {plain}", got=f"some made with {was}",
            fix="use another run_dir, or delete that folder if it is no longer needed",
        )  # fmt: skip
    shutil.rmtree(folder)


def _grows(before: StageRecord, settings: dict[str, Any]) -> bool:
    """Whether nothing but a store's size changed, and upwards."""
    n = settings.get("n")
    return n is not None and before.settings | {"n": n} == settings and n > before.settings["n"]


# --- the stages ---------------------------------------------------------------------------------


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
        from .campaign import simulate

        section, folder = store_section(run, name), run.folder(name)
        folder.parent.mkdir(parents=True, exist_ok=True)
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


def _fit(run: Run, resume: bool) -> Outcome:
    folder = run.folder("emulator")
    folder.mkdir(parents=True, exist_ok=True)
    emulator = run.system.emulator(run.settings)
    options = {"seed": run.seed("emulator")} | run.config.emulator
    history = emulator.fit(
        run.store("reference/train"), options, run_dir=folder / "fit", resume=resume
    )
    emulator.save(folder / "checkpoint")
    write_json(folder / "history.json", history.to_dict())
    return {"checkpoint": folder / "checkpoint"}, {"epochs": len(history.epochs)}


def _validate(run: Run, resume: bool) -> Outcome:
    from .report.artifacts import save_statistics

    store = run.store("reference/validation")
    statistics = run.system.validate(run.emulator(), run.settings, store)
    path = save_statistics(run.folder("validation"), statistics)
    return {"statistics": path}, {"n": len(store)}


def _train(run: Run, resume: bool) -> Outcome:
    from .inference import train
    from .observation import Observation

    folder = run.folder("posterior")
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"seed": run.seed("posterior")} | run.config.train
    posterior = train(
        run.store("emulated/train"), observe=Observation.from_dict(run.config.observe),
        run_dir=folder / "fit", resume=resume, **options,
    )  # fmt: skip
    posterior.save(folder / "checkpoint")
    write_json(folder / "info.json", posterior.info)
    return {"checkpoint": folder / "checkpoint"}, {}


def _calibrate(run: Run, resume: bool) -> Outcome:
    from .calibration import calibrate
    from .inference import Posterior
    from .report.artifacts import save_examples

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


def _report(run: Run, resume: bool) -> Outcome:
    from .report import write_report

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
    Stage("report", "report", ("calibration", "validation"),
          lambda run: {"options": run.config.report.model_dump()}, _report),
)  # fmt: skip
STAGES: dict[str, Stage] = {stage.name: stage for stage in _LIST}

# The command that runs each stage.
COMMANDS = {
    **dict.fromkeys(STAGES, "simulate"), "emulator": "fit", "validation": "fit",
    "posterior": "train", "calibration": "calibrate", "report": "report",
}  # fmt: skip
STORES = tuple(name for name, command in COMMANDS.items() if command == "simulate")
