"""Repaired posteriors on disk: a checkpoint that holds the base as well, rebuilt by its method."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from sbitools.checkpoint import load_checkpoint, rebuild, save_checkpoint
from sbitools.errors import CheckpointError
from sbitools.inference.saved import KIND as PLAIN
from sbitools.inference.saved import load

from .posterior import KIND, RepairedPosterior
from .recalibrated import RecalibratedPosterior
from .reweighted import ReweightedPosterior

__all__ = ["REPAIRED", "load_repaired"]

REPAIRED: dict[str, type[RepairedPosterior]] = {
    kind.method: kind for kind in (RecalibratedPosterior, ReweightedPosterior)
}
"""Classes of posteriors that a checkpoint may name."""


def load_repaired(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """See `RepairedPosterior.load`."""
    config, tensors = load_checkpoint(path, KIND)
    own = {k.removeprefix("own."): v for k, v in tensors.items() if k.startswith("own.")}
    inner = {k.removeprefix("base."): v for k, v in tensors.items() if k.startswith("base.")}

    def build() -> Any:
        kind = config["base"]["kind"]
        if kind not in (PLAIN, KIND) or config["method"] not in REPAIRED:
            raise KeyError(f"{kind}, {config['method']}")
        with tempfile.TemporaryDirectory() as folder:
            place = save_checkpoint(Path(folder) / "base", kind, config["base"]["config"], inner)
            base = load(place, device, kind)
        seeds = own.pop("seeds")
        return REPAIRED[config["method"]].from_state(
            base, config["values"], own, info=config["info"], training_seeds=seeds
        )

    try:
        return rebuild(path, KIND, build, tensors.values())
    except CheckpointError as error:
        raise CheckpointError(
            f"checkpoint {path}", expected=error.expected, got=error.got, fix=error.fix
        ) from error
