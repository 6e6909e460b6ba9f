"""Observations with draws of their true posterior: published ones, or drawn here."""

from __future__ import annotations

import bz2
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sbitools.seeds import derive

from .task import Array, Task

__all__ = ["Observed", "observe", "observed"]

_SEED = 20210111  # of the observations that are drawn here


@dataclass(frozen=True)
class Observed:
    """One observation.

    Args:
        number: 1, 2, ...
        x: shape (D,).
        reference: draws of the true posterior, in natural coordinates, shape (n, P).
        published: whether both were read from a folder of published files.
    """

    number: int
    x: Array
    reference: Array
    published: bool

    @property
    def digest(self) -> str:
        """sha256 of data and draws."""
        both = (np.ascontiguousarray(a, np.float32).tobytes() for a in (self.x, self.reference))
        return hashlib.sha256(b"".join(both)).hexdigest()


def observed(
    task: Task, number: int, n: int, data: Path | None, cache: Path | None = None
) -> Observed:
    """Observation `number` of a task: the published one where `data` has it, else one drawn here.

    Args:
        task: whose observation.
        number: 1, 2, ...
        n: draws of the reference posterior.
        data: folder with ``TASK/observation_NUMBER/observation.csv`` and beside it
            ``reference_posterior_samples.csv.bz2``; None for none.
        cache: folder in which draws that are made here are kept.

    Raises:
        ValueError: if published files do not fit the task, or hold fewer than n draws.
    """
    folder = data / task.name / f"observation_{number}" if data else None
    if folder is None or not folder.is_dir():
        return _kept(task, number, n, cache) if cache else observe(task, number, n)
    x = _numbers(folder / "observation.csv")
    reference = _numbers(folder / "reference_posterior_samples.csv.bz2")
    wanted = ((1, *task.output.shape), (max(n, len(reference)), len(task.parameters)))
    if (x.shape, reference.shape) != wanted:
        raise ValueError(f"{folder}: expected shapes {wanted}; got {x.shape}, {reference.shape}")
    return Observed(number, x[0], reference[:n], published=True)


def observe(task: Task, number: int, n: int) -> Observed:
    """Observation `number` of those drawn here: theta of the prior, x of it, draws given x."""
    theta = task.parameters.design(1, derive(_SEED, number, 0))
    x = task.simulate(theta, torch.tensor([derive(_SEED, number, 1)]))[0].numpy().astype(float)
    reference = task.reference(x, n, derive(_SEED, number, 2))
    return Observed(number, x, reference, published=False)


def _kept(task: Task, number: int, n: int, cache: Path) -> Observed:
    path = cache / task.name / "observed" / f"observation_{number}-{n}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            return Observed(number, file["x"], file["reference"], published=False)
    made = observe(task, number, n)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new.npz")
    np.savez(new, x=made.x, reference=made.reference)
    new.replace(path)
    return made


def _numbers(path: Path) -> Array:
    """Rows of a table with one line of headings."""
    raw = path.read_bytes()
    text = (bz2.decompress(raw) if path.suffix == ".bz2" else raw).decode()
    return np.loadtxt(text.splitlines(), delimiter=",", skiprows=1, ndmin=2)
