"""Reference simulations by another program, whose command the user types and no file names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from sbitools.errors import ConfigError

from .chain import Announce, run_stage
from .stages import STAGES, store_section, store_simulator, store_size

if TYPE_CHECKING:
    from sbitools.campaign.command import CommandSimulator

    from .run import Outcome, Run, Stage

__all__ = ["simulate_by_command"]


def simulate_by_command(
    run: Run, names: Iterable[str], command: str, announce: Announce | None = None
) -> None:
    """Fill stores with the simulations of a program, as `run_chain` does with the system's.

    A store is finished once for all: later stages do not ask for the command. One that is not is
    gone on with by the same command.

    Args:
        run: configuration and folder.
        names: of reference stores.
        command: see `sbitools.CommandSimulator`; parameters and fields are those of the system.
        announce: called when a stage starts, is skipped or is done.

    Raises:
        ConfigError: for a store of emulated simulations, or another size than the finished one's.
        CampaignError: for a command that cannot be used.
        StoreError: if a store was begun by another command or simulator, or the program's files
            have changed since.
    """
    wanted = set(names)
    for name in sorted(wanted):
        if not name.startswith("reference/"):
            raise ConfigError(
                "--command", expected="stores of reference simulations", got=f"--store {name}",
                fix="emulated simulations come from the emulator: leave --command out for them",
            )  # fmt: skip
    for stage in [s for s in STAGES.values() if s.name in wanted and s.wanted(run)]:
        simulator = _simulator(run, stage.name, command)
        _check_store(run, stage.name, simulator)
        run_stage(run, _by_command(stage, simulator), announce)


def _simulator(run: Run, name: str, command: str) -> CommandSimulator:
    from sbitools.campaign.command import CommandSimulator

    shape = store_simulator(run, name)
    return CommandSimulator(
        command, shape.parameters, shape.output, source=getattr(shape, "source", None),
        group_size=getattr(shape, "group_size", 1),
    )  # fmt: skip


def _check_store(run: Run, name: str, simulator: CommandSimulator) -> None:
    """Refuse a store that is another simulator's, finished or not."""
    from sbitools.campaign.match import check_identity
    from sbitools.identity import identity
    from sbitools.store.manifest import Manifest, stamp

    folder = run.folder(name)
    if stamp(folder) is not None:
        check_identity(folder, Manifest.read(folder), identity(simulator))


def _by_command(stage: Stage, simulator: CommandSimulator) -> Stage:
    def work(run: Run, resume: bool) -> Outcome:
        from sbitools.campaign import simulate

        section, folder = store_section(run, stage.name), run.folder(stage.name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        store = simulate(
            simulator, store_size(run, stage.name), folder, seed=run.seed(stage.name),
            workers=run.config.workers, task_size=section.task_size,
            time_limit=section.time_limit, progress=run.progress,
        )  # fmt: skip
        notes = {"counts": store.counts(), "digest": store.digest(), "command": simulator.command}
        return {"store": folder}, notes

    return replace(stage, work=work)
