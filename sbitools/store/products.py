"""Stores of several data products that were made of the same theta, read as one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import StoreError
from sbitools.gate.arrays import selection
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

__all__ = ["Products"]


class Products:
    """Looks like a store whose x holds those of several stores: see `FieldSpec.of_parts`.

    A simulation is done when it is in every store.

    Args:
        stores: two or more, of the same parameters, theta, seeds and groups, row by row, and each
            with a field of another name.

    Raises:
        StoreError: naming the first difference.
        ShapeError: for fields that cannot be put together.
    """

    source = None

    def __init__(self, stores: Sequence[Any]) -> None:
        self.stores = tuple(stores)
        if len(self.stores) < 2:
            raise StoreError(
                "stores of several products", expected="two or more", got=f"{len(self.stores)}",
                fix="pass the store itself",
            )  # fmt: skip
        self.first = self.stores[0]
        for other in self.stores[1:]:
            _check_same(self.first, other)
        self.output = FieldSpec.of_parts([s.output for s in self.stores])
        self.path = " + ".join(str(s.path) for s in self.stores)

    def __len__(self) -> int:
        return len(self.first)

    def __repr__(self) -> str:
        return f"Products({', '.join(map(repr, self.stores))})"

    @property
    def parameters(self) -> ParameterSpace:
        """The parameter space."""
        return self.first.parameters

    @property
    def theta(self) -> Tensor:
        """Parameters, float64, (n, P)."""
        return self.first.theta

    @property
    def seeds(self) -> Tensor:
        """Seeds, int64, (n,)."""
        return self.first.seeds

    @property
    def groups(self) -> np.ndarray:
        """Group of each simulation, int64, (n,)."""
        return self.first.groups

    @property
    def group_size(self) -> int:
        """Simulations that are made together, in any of the stores."""
        return max(s.group_size for s in self.stores)

    @property
    def seed(self) -> int | None:
        """Seed of the campaign; None for imported sets."""
        return self.first.seed

    @property
    def design(self) -> str:
        """How theta was drawn."""
        return self.first.design

    @property
    def done(self) -> np.ndarray:
        """Simulations that are in every store, int64, ascending."""
        return np.flatnonzero(self.states() == "done")

    def states(self) -> np.ndarray:
        """State of each simulation: that of the first store in which it is not done."""
        out = self.first.states()
        for store in self.stores[1:]:
            out = np.where(out == "done", store.states(), out)
        return out

    def counts(self) -> dict[str, int]:
        """Number of simulations in each state."""
        names, counts = np.unique(self.states(), return_counts=True)
        found = dict(zip(names.tolist(), counts.tolist(), strict=True))
        return {k: found.get(k, 0) for k in self.first.counts()}

    def refresh(self) -> None:
        """Take note of simulations that other processes added."""
        for store in self.stores:
            store.refresh()

    def read(self, indices: Any, what: str = "x") -> Tensor:
        """x of the simulations `indices`, float64, (n, N): see `FieldSpec.pack`.

        Raises:
            StoreError: for a simulation that is not done, a damaged part, or another field.
        """
        if what != "x":
            raise StoreError(
                f"read(what={what!r})", expected="'x'", got=repr(what),
                fix="read the source field of one of the stores",
            )  # fmt: skip
        rows = selection(indices, len(self))
        return self.output.pack([s.read(rows) for s in self.stores])

    def batches(
        self, indices: Any, batch_size: int
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """(indices, theta, x) for `batch_size` simulations at a time, in order."""
        rows, theta = selection(indices, len(self)), self.theta
        for begin in range(0, len(rows), batch_size):
            chunk = rows[begin : begin + batch_size]
            yield chunk, theta[torch.from_numpy(chunk)], self.read(chunk)

    def digest(self) -> str:
        """sha256 of the stores' digests."""
        return hashlib.sha256("".join(s.digest() for s in self.stores).encode()).hexdigest()

    def row_digests(self, indices: Any) -> np.ndarray:
        """A hash of the results of simulations in all stores, uint8, (n, 32)."""
        rows = [s.row_digests(indices) for s in self.stores]
        joined = np.concatenate(rows, axis=1)
        hashes = [hashlib.sha256(row.tobytes()).digest() for row in joined]
        return np.frombuffer(b"".join(hashes), np.uint8).reshape(len(joined), 32)


def _check_same(first: Any, other: Any) -> None:
    """Raise `StoreError` unless both stores were made of the same theta and seeds."""
    subject = f"store {other.path}, beside {first.path}"
    fix = "make all products of one table of theta and seeds, or import them with the same rows"
    if first.parameters.to_dict() != other.parameters.to_dict():
        raise StoreError(
            f"parameters of {subject}", expected=f"{first.parameters.to_dict()}",
            got=f"{other.parameters.to_dict()}", fix=fix,
        )  # fmt: skip
    if len(first) != len(other):
        raise StoreError(
            subject, expected=f"{len(first)} simulations", got=f"{len(other)}", fix=fix
        )
    for name in ("theta", "seeds", "groups"):
        a, b = (np.asarray(getattr(s, name)) for s in (first, other))
        differs = np.flatnonzero((a != b).reshape(len(a), -1).any(1))
        if len(differs):
            row = int(differs[0])
            raise StoreError(
                f"{name} of {subject}", expected=f"{a[row].tolist()} in row {row}",
                got=f"{b[row].tolist()}, and {len(differs) - 1} more rows that differ", fix=fix,
            )  # fmt: skip
