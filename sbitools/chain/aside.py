"""The last finished result of a stage, kept until its successor is there.

A result that is to be replaced moves aside, to ``<folder>.old``. If the new attempt fails, is
interrupted or killed, the old result comes back, and the attempt waits as ``<folder>.partial``
for the next run with its settings. Records move with their folders.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from .records import StageRecord, read_record

__all__ = ["Place", "recover", "replacing"]


# What stages write into their folders: checkpoints, trainings, results, and stores.
_OURS = re.compile(
    r"checkpoint|fit|(info|history|result|store|report)\.json|report\.html|statistics\.npz|"
    r"examples\.npz|draws\.(npz|csv)|design-[0-9a-f]{16}\.h5|parts|running|\.lock|\.adding|\..+\.tmp"
)


@dataclass(frozen=True)
class Place:
    """A stage's folder and the file of its record."""

    folder: Path
    record: Path

    @property
    def old(self) -> Place:
        """Where the last finished result waits while its successor is made."""
        return self._beside(".old")

    @property
    def partial(self) -> Place:
        """Where an attempt waits that was stopped."""
        return self._beside(".partial")

    def _beside(self, suffix: str) -> Place:
        return Place(
            self.folder.with_name(self.folder.name + suffix),
            self.record.with_name(self.record.name + suffix),
        )

    def read(self) -> StageRecord | None:
        """The record, or None."""
        return read_record(self.record)

    def move(self, to: Place) -> None:
        """Move what there is, over what was there, whose foreign files come along."""
        to.remove(self.folder)
        for mine, other in ((self.record, to.record), (self.folder, to.folder)):
            if mine.exists():
                mine.replace(other)

    def remove(self, heir: Path | None = None) -> None:
        """Delete both, but for files that the chain did not write.

        Args:
            heir: folder that these move to; if None, they stay where they are.
        """
        self.record.unlink(missing_ok=True)
        if not self.folder.exists():
            return
        foreign = [entry for entry in self.folder.iterdir() if not _OURS.fullmatch(entry.name)]
        if not foreign:
            shutil.rmtree(self.folder)
        elif heir is not None:
            heir.mkdir(parents=True, exist_ok=True)
            for entry in foreign:
                entry.rename(_free(heir / entry.name))
            shutil.rmtree(self.folder)
        else:
            for entry in set(self.folder.iterdir()) - set(foreign):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _free(path: Path) -> Path:
    """`path`, or the first of its name with a number that is not taken."""
    names = chain([path], (path.with_name(f"{path.name}.{i}") for i in count(1)))
    return next(name for name in names if not os.path.lexists(name))


@contextmanager
def replacing(place: Place, resume: bool) -> Iterator[None]:
    """Make room at `place`; if the block fails, what was finished there comes back.

    Args:
        place: of the stage.
        resume: begin with the stopped attempt instead of nothing.
    """
    before = place.read()
    if before is not None and before.state == "done" and place.folder.exists():
        place.move(place.old)
    else:
        place.remove()
    if resume:
        place.partial.move(place)
    else:
        place.partial.remove()
    try:
        yield
    finally:
        recover(place)


def recover(place: Place) -> None:
    """Bring back the result that a stopped attempt left aside; remove it if the attempt is done.

    It may itself be killed at any point, and is then finished by the next call.
    """
    old = place.old
    if not old.record.exists():  # nothing was set aside, or its removal was cut short
        old.remove(place.folder)
        return
    now = place.read()
    if now is not None and now.state == "done":
        old.remove(place.folder)
        return
    if old.folder.exists():
        place.move(place.partial)
        old.folder.replace(place.folder)
    old.record.replace(place.record)
