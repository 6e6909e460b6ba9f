"""The resumable state of a training run: weights, optimiser and position, in a run folder."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sbitools.checkpoint import (
    checkpoint_config,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
)
from sbitools.disk.files import parse_json, read_file, write_atomic
from sbitools.disk.locks import Taken, held
from sbitools.display.brief import brief
from sbitools.errors import CheckpointError, RunDirError, StoreError
from sbitools.gate.plain import as_path

from . import distributed

__all__ = ["RunState", "claimed", "read_metrics"]

_KIND = "training-state"
_STATE = re.compile(r"state-\d{8}")
_METRICS = "metrics.jsonl"
# These may change between a run and its continuation without changing what is computed.
_FREE = ("checkpoint_seconds", "time_limit", "threads", "workers")
# What was so before it became an option.
_BEFORE = {"optimizer": "adamw"}
# States of sbitools 0.1.0 do not have these.
_LATER = ("option ", "start")


class RunState:
    """Writes and reads `state-<step>` folders and `metrics.jsonl` of `run_dir`.

    Whatever else is in `run_dir` is the user's, and stays.

    Args:
        run_dir: made if absent.
        options: what defines the run; a state of other options is refused.

    Raises:
        RunDirError: if `run_dir` cannot be made.
    """

    def __init__(self, run_dir: str | Path, options: dict[str, Any]) -> None:
        folder = as_path(run_dir, "run_dir", error=RunDirError)
        with _typed(folder):
            self.run_dir = folder.absolute()  # wherever the process goes from here
        self.options = {k: v for k, v in options.items() if k not in _FREE}
        with _typed(self.run_dir):
            self.run_dir.mkdir(parents=True, exist_ok=True)

    def _folders(self) -> list[Path]:
        found = self.run_dir.glob("state-*")
        return sorted(p for p in found if _STATE.fullmatch(p.name) and p.is_dir())

    def begin(self) -> None:
        """Make sure that a new run overwrites none.

        Raises:
            RunDirError: if there is one in `run_dir`.
        """
        if distributed.rank() == 0:
            self.refuse()
            self.truncate_metrics(0)  # a run that was killed before its first state
        distributed.barrier()

    def refuse(self) -> None:
        """Raise `RunDirError` if there is a run."""
        if folders := self._folders():
            raise RunDirError(
                f"run_dir {self.run_dir}", expected="a folder without an earlier run",
                got=f"{folders[-1].name} of one",
                fix="leave resume=True to go on with it (a finished one is read back), use "
                "another run_dir, or delete the folder if it is no longer needed",
            )  # fmt: skip

    def stated(self) -> dict[str, Any]:
        """Options of the run that is there, as it states them; {} if there is none.

        Raises:
            CheckpointError: if its state cannot be read.
        """
        folders = self._folders()
        found = checkpoint_config(folders[-1]).get("options") if folders else {}
        return found if isinstance(found, dict) else {}

    def compare(self, before: Mapping[str, Any], names: Iterable[str]) -> None:
        """Raise `RunDirError` if the options `names` are not what they were before."""
        changed = [k for k in names if before.get(k) != self.options[k]]
        if changed:
            was, now = _shown(before, changed), _shown(self.options, changed)
            raise RunDirError(
                f"run_dir {self.run_dir}", expected=f"a run with {was}",
                got=now if now != was else f"other {', '.join(changed)}",
                fix="resume with the same options, or use another run_dir",
            )  # fmt: skip

    def save(
        self, parts: dict[str, nn.Module], optimizer: torch.optim.Optimizer, extra: dict[str, Any]
    ) -> None:
        """Write a new state, then drop the older ones."""
        if distributed.rank() == 0:
            tensors = {
                f"{part}/{name}": value
                for part, module in parts.items()
                for name, value in module.state_dict().items()
            }
            tensors |= _optimizer_tensors(optimizer)
            older = self._folders()
            number = int(older[-1].name.removeprefix("state-")) + 1 if older else 0
            config = {"options": self.options} | extra
            save_checkpoint(self.run_dir / f"state-{number:08d}", _KIND, config, tensors)
            for folder in older:
                remove_checkpoint(folder, _KIND)
        distributed.barrier()

    def load(
        self, parts: dict[str, nn.Module], optimizer: torch.optim.Optimizer
    ) -> dict[str, Any] | None:
        """Fill `parts` and `optimizer` from the newest state; None if there is none.

        Raises:
            RunDirError: if the state belongs to other options or another network.
            CheckpointError: if it is damaged.
        """
        folders = self._folders()
        if not folders:
            return None
        config, tensors = load_checkpoint(folders[-1], _KIND)
        if not isinstance(config.get("options"), dict) or "history" not in config:
            raise CheckpointError(
                f"checkpoint {folders[-1]}", expected="the state of a training",
                got=f"one with {sorted(config)[:5]}", fix="use another run_dir",
            )  # fmt: skip
        before = _BEFORE | config["options"]
        self.compare(before, [k for k in self.options if k in before or not k.startswith(_LATER)])
        try:
            for part, module in parts.items():
                prefix = f"{part}/"
                own = {
                    k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
                }
                module.load_state_dict(own)
            _fill_optimizer(optimizer, tensors)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise RunDirError(
                f"run_dir {self.run_dir}", expected="a run of the same network", got=str(error),
                fix="use another run_dir",
            ) from error  # fmt: skip
        return config

    def append_metrics(self, row: dict[str, float]) -> None:
        """One line of `metrics.jsonl`, flushed.

        Raises:
            RunDirError: if it cannot be written.
        """
        if distributed.rank() == 0:
            with _typed(self.run_dir), (self.run_dir / _METRICS).open("ab") as stream:
                stream.write(json.dumps(row).encode() + b"\n")

    def truncate_metrics(self, rows: int) -> None:
        """Drop lines written after the state that is taken up; other lines are left alone."""
        file = self.run_dir / _METRICS
        if distributed.rank() != 0 or not file.exists():
            return
        with _typed(self.run_dir):
            lines = read_file(file).splitlines(keepends=True)
            kept = [line for line in lines if _epoch(line) < rows]
            text = b"".join(kept)
            if text and not text.endswith(b"\n"):  # half a line, as a full disk leaves it
                text += b"\n"
            if kept != lines or len(text) != sum(map(len, lines)):
                write_atomic(file, text)


def _shown(options: Mapping[str, Any], names: list[str]) -> str:
    """Some of the options, each in a few characters: one may list a million simulations."""
    return ", ".join(f"{name}={brief(options.get(name))}" for name in names)


def read_metrics(run_dir: str | Path) -> list[dict[str, float]]:
    """Rows of `metrics.jsonl`, for plots while a run goes on; lines that are none are left out.

    Raises:
        RunDirError: if the file cannot be read.
    """
    file = as_path(run_dir, "run_dir", error=RunDirError) / _METRICS
    if not file.exists():
        return []
    with _typed(file):
        lines = read_file(file).splitlines()
    return [parse_json(line) for line in lines if _epoch(line) >= 0]


def _epoch(line: bytes) -> float:
    """Of a row of ours; -1 for any other line."""
    try:
        row = parse_json(line)
    except ValueError:
        return -1
    epoch = row.get("epoch") if isinstance(row, dict) else None
    return epoch if isinstance(epoch, int | float) and not isinstance(epoch, bool) else -1


@contextlib.contextmanager
def claimed(run_dir: Path, name: str = ".lock") -> Iterator[None]:
    """Be the only training in `run_dir` for the block.

    Args:
        run_dir: of the training.
        name: of the lock.

    Raises:
        RunDirError: if another process or thread trains there, or the folder is read-only.
    """
    if distributed.rank() != 0:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            with _typed(run_dir):
                stack.enter_context(held(run_dir / name))
        except Taken as taken:
            raise RunDirError(
                f"run_dir {run_dir}", expected="one training at a time",
                got=f"{taken.owner} training there", fix="wait for it, or use another run_dir",
            ) from taken  # fmt: skip
        yield


@contextlib.contextmanager
def _typed(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, StoreError) as error:
        raise RunDirError(
            f"run_dir {path}", expected="a folder that can be read and written, with room",
            got=error.got if isinstance(error, StoreError) else error.strerror or str(error),
            fix="correct its permissions or free disk space, then train again; or use "
            "another run_dir",
        ) from error  # fmt: skip


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"optimizer/{i}/{k}": v for i, row in state.items() for k, v in row.items()}


def _fill_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
