"""What `on_epoch` can be: the history of a training in a CSV file, or in TensorBoard."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sbitools.disk.files import read_file, typed, write_table
from sbitools.display.brief import cut
from sbitools.errors import ConfigError
from sbitools.gate.plain import as_path

from . import distributed

__all__ = ["CSVTracker", "TensorBoardTracker", "of_part"]

OnEpoch = Callable[[dict[str, Any]], None]

_COLUMNS: tuple[str, ...] = (
    "part", "epoch", "step", "train_loss", "validation_loss", "skipped_steps", "learning_rate",
    "seconds",
)  # fmt: skip


def of_part(on_epoch: OnEpoch | None, part: str) -> OnEpoch | None:
    """`on_epoch` for a training that is one of several: its rows say which, by ``"part"``."""
    if on_epoch is None:
        return None

    def told(row: dict[str, Any]) -> None:
        inner = row.get("part")
        on_epoch(row | {"part": f"{part}, {inner}" if inner else part})

    return told


class CSVTracker:
    """The history in a CSV file, whole after every epoch; for ``train(..., on_epoch=...)``.

    A run that is taken up goes on in the same file: an epoch that is trained again replaces its
    row, and no epoch is there twice. Columns are those of a row of the history, with ``part``
    first, which tells trainings of one run apart: stages, members, rounds.

    Args:
        path: of the file; a new one, or one of a tracker.

    Raises:
        ConfigError: if another file is there.
        StoreError: if it cannot be read or, later, written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path(path, "path of CSVTracker").absolute()
        self._rows: list[dict[str, str]] = []
        if not self.path.exists():
            return
        with typed(self.path):
            text = read_file(self.path).decode(errors="replace")
        table = csv.DictReader(io.StringIO(text))
        self._rows = [row for row in table if _is_epoch(row.get("epoch"))]
        if tuple(table.fieldnames or ()) != _COLUMNS or any(None in row for row in self._rows):
            raise ConfigError(
                f"file {self.path}", expected=f"a new one, or columns {', '.join(_COLUMNS)}",
                got=cut(text, 80) or "an empty one", fix="use another path",
            )  # fmt: skip

    def __call__(self, row: dict[str, Any]) -> None:
        """Take note of a row of the history."""
        if distributed.rank() != 0:
            return
        new = {k: str(row.get(k, "")) for k in _COLUMNS}
        self._rows = [r for r in self._rows if r["part"] != new["part"]
                      or float(r["epoch"]) < float(new["epoch"])] + [new]  # fmt: skip
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows)
        write_table(self.path, text.getvalue().encode())


def _is_epoch(value: str | None) -> bool:
    return value is not None and value.replace(".", "", 1).isdecimal()


class TensorBoardTracker:
    """The history for TensorBoard, which the extra ``tensorboard`` installs.

    Losses, learning rate and seconds are scalars over epochs; each training of a run (stages,
    members, rounds) has a folder of its own. A run that is taken up goes on: epochs that are
    trained again take the place of those before.

    Args:
        folder: for event files; `tensorboard --logdir folder` shows it.

    Raises:
        ConfigError: if TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = as_path(folder, "folder of TensorBoardTracker").absolute()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "TensorBoardTracker", expected="TensorBoard", got="none that can be imported",
                fix="pip install 'sbitools[tensorboard]', or use CSVTracker",
            ) from error  # fmt: skip
        self._new, self._writers = SummaryWriter, {}

    def __call__(self, row: dict[str, Any]) -> None:
        """Take note of a row of the history."""
        if distributed.rank() != 0:
            return
        part, epoch = str(row.get("part", "")).replace("/", "-"), int(row["epoch"])
        with typed(self.folder):
            if part not in self._writers:
                self._writers[part] = self._new(str(self.folder / part), purge_step=epoch)
            writer = self._writers[part]
            for name in ("train_loss", "validation_loss", "learning_rate", "seconds"):
                if math.isfinite(row.get(name, math.nan)):
                    writer.add_scalar(name, row[name], epoch)
            writer.flush()

    def close(self) -> None:
        """Close the event files, which are whole after every epoch without it."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
