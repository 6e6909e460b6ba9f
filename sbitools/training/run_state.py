"""The resumable state of a training run: weights, optimiser and position, in a run folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sbitools.checkpoint import load_checkpoint, save_checkpoint
from sbitools.errors import TrainingError

from . import distributed

__all__ = ["RunState"]

_KIND = "training-state"
# These may change between a run and its continuation without changing what is computed.
_FREE = ("checkpoint_seconds", "time_limit", "threads", "workers")
# What was so before it became an option.
_BEFORE = {"optimizer": "adamw"}
# States of sbitools 0.1.0 do not have these.
_LATER = ("option ", "start")


class RunState:
    """Writes and reads `state-<step>` folders and `metrics.jsonl` of `run_dir`.

    Args:
        run_dir: made if absent.
        options: what defines the run; a state of other options is refused.
    """

    def __init__(self, run_dir: Path, options: dict[str, Any]) -> None:
        self.run_dir = run_dir = run_dir.absolute()  # wherever the process goes from here
        self.options = {k: v for k, v in options.items() if k not in _FREE}
        run_dir.mkdir(parents=True, exist_ok=True)

    def _folders(self) -> list[Path]:
        return sorted(p for p in self.run_dir.glob("state-*") if p.is_dir())

    def clear(self) -> None:
        """Forget an earlier run."""
        if distributed.rank() == 0:
            for folder in self._folders():
                shutil.rmtree(folder)
            (self.run_dir / "metrics.jsonl").unlink(missing_ok=True)
        distributed.barrier()

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
                shutil.rmtree(folder)
        distributed.barrier()

    def load(
        self, parts: dict[str, nn.Module], optimizer: torch.optim.Optimizer
    ) -> dict[str, Any] | None:
        """Fill `parts` and `optimizer` from the newest state; None if there is none.

        Raises:
            TrainingError: if the state belongs to other options or another network.
            CheckpointError: if it is damaged.
        """
        folders = self._folders()
        if not folders:
            return None
        config, tensors = load_checkpoint(folders[-1], _KIND)
        before = _BEFORE | config["options"]
        known = [k for k in self.options if k in before or not k.startswith(_LATER)]
        changed = [k for k in known if before.get(k) != self.options[k]]
        if changed:
            was = {k: before.get(k) for k in changed}
            raise TrainingError(
                f"run_dir {self.run_dir}", expected=f"a run with {was}",
                got=f"{ {k: self.options[k] for k in changed} }",
                fix="resume with the same options, or use another run_dir",
            )  # fmt: skip
        try:
            for part, module in parts.items():
                prefix = f"{part}/"
                own = {
                    k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
                }
                module.load_state_dict(own)
        except RuntimeError as error:
            raise TrainingError(
                f"run_dir {self.run_dir}", expected="a run of the same network", got=str(error),
                fix="use another run_dir",
            ) from error  # fmt: skip
        _fill_optimizer(optimizer, tensors)
        return config

    def append_metrics(self, row: dict[str, float]) -> None:
        """One line of `metrics.jsonl`, flushed."""
        if distributed.rank() == 0:
            with (self.run_dir / "metrics.jsonl").open("a") as stream:
                stream.write(json.dumps(row) + "\n")

    def truncate_metrics(self, rows: int) -> None:
        """Drop lines written after the state that is taken up."""
        file = self.run_dir / "metrics.jsonl"
        if distributed.rank() == 0 and file.is_file():
            lines = file.read_text().splitlines(keepends=True)[:rows]
            file.write_text("".join(lines))


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
