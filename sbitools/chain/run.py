"""A run: its configuration, its system, its folder; and what a stage of the chain is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sbitools.config import RunConfig, validate_model
from sbitools.errors import ConfigError
from sbitools.gate.names import or_else
from sbitools.systems import EmulatedSystem, System, find_system

from .emulating import Emulation, choose_emulation, emulator_options
from .records import StageRecord, read_record

if TYPE_CHECKING:
    from sbitools.simulator import Simulator
    from sbitools.store import SimulationStore

__all__ = ["Outcome", "Run", "Stage"]

Outcome = tuple[dict[str, Path], dict[str, Any]]

# Streams of randomness; numbers of stages already published must not change.
_SEEDS = {
    "reference/train": 1, "reference/validation": 2, "reference/test": 3, "emulator": 4,
    "emulated/train": 5, "emulated/test": 6, "posterior": 7, "calibration": 8, "examples": 9,
    "repair": 10, "choice": 11, "observation": 12,
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One step of the chain.

    Args:
        name: also its folder below the run's.
        title: for the line that is printed.
        needs: stages whose outputs it reads, of those that the configuration asks for.
        settings: what of the configuration it depends on.
        work: does it; the flag says whether to go on with what an interrupted attempt left.
        costly: its artifacts are never removed by the chain, not even when settings change.
        wanted: whether the configuration asks for it; one that is not wanted is left out.
    """

    name: str
    title: str
    needs: Callable[[Run], tuple[str, ...]]
    settings: Callable[[Run], dict[str, Any]]
    work: Callable[[Run, bool], Outcome]
    costly: bool = False
    wanted: Callable[[Run], bool] = lambda run: True


class Run:
    """A configuration, its system and its folder.

    Args:
        config: the whole configuration.
        progress: show progress of campaigns.

    Raises:
        ConfigError: for an unknown system or settings it does not take.
    """

    def __init__(self, config: RunConfig, progress: bool = False) -> None:
        self.config, self.progress = config, progress
        self.root = config.run_dir.absolute()  # wherever the process goes from here
        self.digests: dict[Any, tuple[str, str]] = {}  # of files, see `verify`
        self.system: System = find_system(config.system)
        self.settings = validate_model(self.system.settings, config.settings, "settings")

    def folder(self, stage: str) -> Path:
        """Where a stage keeps its artifacts."""
        return self.root / stage

    def seed(self, stage: str) -> int:
        """The seed of a stage, derived from the run's."""
        from sbitools.seeds import derive

        return derive(self.config.seed, _SEEDS[stage])

    def record_path(self, stage: str) -> Path:
        """Where a stage keeps its record."""
        return self.root / "stages" / f"{stage.replace('/', '-')}.json"

    def record(self, stage: str) -> StageRecord | None:
        """The record of a stage, or None."""
        return read_record(self.record_path(stage))

    def store(self, stage: str) -> SimulationStore:
        """The store a stage wrote."""
        from sbitools.store import SimulationStore

        return SimulationStore.open(self.folder(stage))

    @cached_property
    def reference(self) -> Simulator:
        """The reference simulator."""
        return self.system.simulator(self.settings)

    @property
    def training_simulator(self) -> Simulator:
        """What the emulator learns from: an own one may learn from more than it makes."""
        if self.emulation is not None and self.emulation.own:
            return cast(EmulatedSystem, self.system).training_simulator(self.settings)
        return self.reference

    @cached_property
    def emulation(self) -> Emulation | None:
        """How the reference is emulated; None: it is not."""
        return choose_emulation(self.config, self.system, self.settings, self.reference)

    def emulator(self) -> Any:
        """The fitted emulator."""
        if self.emulation is None:
            raise ConfigError(
                "emulator", expected="a run with an emulator", got='emulator.method = "none"',
                fix="name a method, or leave it out",
            )  # fmt: skip
        return self.emulation.load(self.folder("emulator") / "checkpoint")

    @property
    def training_store(self) -> str:
        """The store that the posterior is trained on."""
        return "reference/train" if self.emulation is None else "emulated/train"

    def check(self) -> None:
        """Check the tables that later stages read, before hours go into the earlier ones.

        Raises:
            ConfigError: for a method, or an option of ``[train]`` or ``[emulator]``, that does
                not exist or would have no effect.
            ObservationError: for an observation step that does not fit the field.
        """
        from sbitools.inference.methods import METHODS, find_method
        from sbitools.inference.options import check_options
        from sbitools.observation import Observation

        options = dict(self.config.train)
        method = options.get("method", METHODS[0])
        if method not in METHODS:
            raise ConfigError(
                "train.method", expected=f"one of {', '.join(METHODS)}", got=repr(method),
                fix=or_else(
                    method, METHODS, "correct 'train.method' in the file, or with --set "
                    "train.method=...",
                ),
            )  # fmt: skip
        chosen = validate_model(find_method(method).options, options | {"method": method}, "train")
        if self.emulation is not None:
            self.emulation.check(emulator_options(self.config))
        observed = Observation.from_dict(self.config.observe).output(self.reference.output)
        check_options(chosen, observed)

    @property
    def base(self) -> dict[str, Any]:
        """What every stage depends on."""
        plain = self.settings.model_dump(mode="json")
        return {"system": self.config.system, "settings": plain}
