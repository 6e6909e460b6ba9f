"""The chain: stages that read artifacts, write artifacts and can be run again.

reference simulations -> emulator -> emulated simulations -> posterior -> calibration ->
(repair) -> report.
Files are the only interface between stages. A stage is skipped if its record names the settings
and the sha256 of the inputs it would use now, and if its files are still those it left; a killed
one goes on where it was. No stage reads what was made with other settings than the
configuration's, or files that are not those of the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Literal

from sbitools.disk.files import typed
from sbitools.disk.locks import Taken, held
from sbitools.display.bars import showing
from sbitools.errors import ConfigError, SbitoolsError

from .aside import Place, recover, replacing
from .records import StageRecord, differences, record_work
from .run import Run, Stage
from .stages import COMMANDS, STAGES
from .verify import altered

__all__ = ["finished_record", "run_chain", "run_stage", "stage_inputs", "working"]

_WAIT = 1.0  # seconds for another command that only looks whether there is anything to do

Announce = Callable[["Stage", Literal["start", "skip", "done"], StageRecord | None], None]


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
        ConfigError: if a stage lacks its inputs, if they were made with other settings, if its
            costly results were, or if another command works on it.
    """
    wanted = set(stages)
    for stage in STAGES.values():
        if stage.name in wanted and stage.wanted(run):
            run_stage(run, stage, announce, again)


def run_stage(
    run: Run, stage: Stage, announce: Announce | None = None, again: bool = False
) -> StageRecord:
    """Run one stage, unless it is up to date; see `run_chain`.

    What the stage had finished before is kept until its successor is there: if the work fails or
    is interrupted, it comes back.
    """
    tell = announce or (lambda *_: None)
    current = None if again else _current(run, stage)
    if current is not None:
        tell(stage, "skip", current)
        return current
    with working(run, stage):
        return _run_stage(run, stage, tell, again)


def _current(run: Run, stage: Stage) -> StageRecord | None:
    """The record of a stage that needs no work: neither a lock nor anything else is written."""
    place = Place(run.folder(stage.name), run.record_path(stage.name))
    with suppress(SbitoolsError):  # it is told, if it lasts, when the stage is locked
        left = place.old.record.exists() or place.old.folder.exists()  # to be cleared away
        if place.folder.exists() and not left:
            return finished_record(run, stage.name)
    return None


@contextmanager
def working(run: Run, stage: Stage) -> Iterator[None]:
    """Have a stage for oneself, and what it reads together with others that read it.

    Raises:
        ConfigError: if another command of this run makes the stage, or what it reads.
    """
    with ExitStack() as stack:
        for name in sorted({stage.name, *_ancestors(run, stage)}):
            lock = run.record_path(name).with_suffix(".lock")
            lock = lock.with_name(f".{lock.name}")
            try:
                with typed(lock):
                    lock.parent.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(
                        held(lock, exclusive=name == stage.name, seconds=_WAIT, keep=True)
                    )
            except Taken as taken:
                raise ConfigError(
                    f"stage {stage.name!r}", expected=f"one command at a time that works on "
                    f"{name!r} of {run.root}", got=f"{taken.owner} at work on it",
                    fix="wait until it is done, then run the command again",
                ) from taken  # fmt: skip
        yield


def _ancestors(run: Run, stage: Stage) -> set[str]:
    """All stages whose results a stage builds on."""
    direct = [STAGES[name] for name in stage.needs(run)]
    return {s.name for s in direct}.union(*(_ancestors(run, s) for s in direct))


def _run_stage(run: Run, stage: Stage, tell: Announce, again: bool) -> StageRecord:
    place = Place(run.folder(stage.name), run.record_path(stage.name))
    recover(place)
    settings, inputs = run.base | stage.settings(run), stage_inputs(run, stage)
    before = place.read()
    if before is not None and _is_current(run, before, settings, inputs):
        done = before.state == "done" and place.folder.exists()
        if done and not again and not _altered(run, stage, before):
            tell(stage, "skip", before)
            return before
        in_place = resume = True
    else:
        in_place = _keeps_folder(stage, place, before, settings, inputs)
        attempt = place.partial.read()
        resume = in_place or (attempt is not None and attempt.matches(settings, inputs))

    def work() -> StageRecord:
        tell(stage, "start", None)
        with showing(run.progress):
            return record_work(
                place.record, stage.name, settings, inputs, lambda: stage.work(run, resume)
            )

    if in_place:
        record = work()
    else:
        with replacing(place, resume):
            record = work()
    tell(stage, "done", record)
    return record


def stage_inputs(run: Run, stage: Stage, read: bool = True) -> dict[str, str]:
    """sha256 of what a stage reads, verified; arguments and errors of `finished_record`."""
    return {
        f"{name}: {key}": value
        for name in stage.needs(run)
        for key, value in finished_record(run, name, read).outputs.items()
    }


def _altered(run: Run, stage: Stage, record: StageRecord) -> bool:
    """Whether files of a finished stage are to be made again; refuses where that cannot be."""
    changed = altered(run, record)
    if changed and record.notes.get("imported"):
        raise _not_as_recorded(run, stage.name, changed, "restore it from a copy, or import it "
                               "into another run_dir")  # fmt: skip
    return bool(changed)


def _not_as_recorded(run: Run, name: str, changed: list[str], fix: str) -> ConfigError:
    return ConfigError(
        f"{' and '.join(changed)} of stage {name!r} in {run.folder(name)}",
        expected=f"files with the sha256 that {run.record_path(name)} has",
        got="files that were altered or removed since", fix=fix,
    )  # fmt: skip


def finished_record(run: Run, name: str, read: bool = True) -> StageRecord:
    """The record of a stage whose result is the one that the configuration describes.

    Args:
        run: configuration and folder.
        name: of the stage.
        read: its store is to be read: every part of it is hashed.

    Raises:
        ConfigError: if the stage is not done, or if it, or one it builds on, was done with other
            settings or on results that have changed since, or if its files are not those that
            it left.
        StoreError: for a damaged store, or one whose simulator has changed since.
    """
    record, command = run.record(name), f"run `sbitools {COMMANDS[name]} CONFIG` first"
    if record is None or record.state != "done":
        raise ConfigError(
            f"stage {name!r}", expected=f"a finished stage {name!r} in {run.root}",
            got="an interrupted one" if record else "none", fix=command,
        )  # fmt: skip
    settings = run.base | STAGES[name].settings(run)
    inputs = stage_inputs(run, STAGES[name], read=False)
    if _is_current(run, record, settings, inputs):
        if changed := altered(run, record, whole=read):
            raise _not_as_recorded(
                run, name, changed, f"{command}: it makes them again; or restore them from a copy"
            )
        return record
    changed = differences(record.settings, settings)
    wanted = ", ".join(f"{key} = {now}" for key, (_, now) in changed.items())
    found = ", ".join(f"{key} = {was}" for key, (was, _) in changed.items())
    raise ConfigError(
        f"stage {name!r}",
        expected=f"a result with {wanted}" if changed else "a result from the present "
        f"{' and '.join(STAGES[name].needs(run))}",
        got=f"one with {found}" if changed else "one from earlier results",
        fix=f"{command}, or undo the change",
    )  # fmt: skip


def _is_current(
    run: Run, record: StageRecord, settings: dict[str, Any], inputs: dict[str, str]
) -> bool:
    return record.matches(settings, inputs) or record.is_imported(run.base)


def _keeps_folder(
    stage: Stage, place: Place, before: StageRecord | None, settings: dict[str, Any],
    inputs: dict[str, str],
) -> bool:  # fmt: skip
    """Whether new work adds to the folder; refuses where it would replace costly results."""
    if before is None or not place.folder.exists():
        return place.folder.exists()  # a planned store
    if _grows(before, settings) and before.inputs == inputs:
        return True  # a campaign extends its store
    if stage.costly:
        changed = differences(before.settings, settings)
        raise ConfigError(
            f"{place.folder}",
            expected=f"simulations made with { {key: now for key, (_, now) in changed.items()} }",
            got=f"some made with { {key: was for key, (was, _) in changed.items()} }",
            fix="use another run_dir, or delete that folder if it is no longer needed",
        )
    return False


def _grows(before: StageRecord, settings: dict[str, Any]) -> bool:
    """Whether nothing but a store's size changed, and upwards."""
    n = settings.get("n")
    return n is not None and before.settings | {"n": n} == settings and n > before.settings["n"]
