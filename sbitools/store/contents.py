"""What a store holds, for those who read it: theta, states, failures, fields."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sbitools.disk.files import typed
from sbitools.display.brief import Brief, brief, cut, names_in_brief, table_html
from sbitools.errors import StoreError
from sbitools.gate.arrays import selection
from sbitools.gate.plain import as_path, flag, whole
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .catalog import Catalog
from .layout import Layout
from .manifest import Manifest, is_live, stamp
from .parts import DONE, FAILED, STATES
from .reader import Reader, with_files

__all__ = ["Failure", "StoreContents"]


@dataclass(frozen=True, repr=False)
class Failure(Brief):
    """A simulation that failed or was rejected.

    Args:
        index: of the simulation.
        theta: its parameters, float64, (P,).
        seed: its seed.
        state: ``"failed"`` or ``"rejected"``.
        message: traceback or reason.
    """

    index: int
    theta: Tensor
    seed: int
    state: str
    message: str


class StoreContents:
    """The reading half of `SimulationStore`.

    Args:
        path: directory of an existing store.
        verify: hash each part when it is first read.

    Raises:
        StoreError: if there is no store at `path`, or it is damaged.
    """

    def __init__(self, path: str | Path, verify: bool = True) -> None:
        path = as_path(path, "path of a store", error=StoreError)
        with typed(path):
            self.path = path.absolute()  # wherever the process goes from here
        self.verify_parts = flag(verify, "verify", error=StoreError)
        self._load()

    def _load(self) -> None:
        self._stamp = stamp(self.path)
        self.manifest = m = with_files(lambda: Manifest.read(self.path))
        self._table = with_files(lambda: m.table(self.path))
        self._catalog = Catalog(
            self.path / "parts", m.layout, self._table.theta, self._table.seeds
        )  # fmt: skip
        with_files(self._catalog.refresh)
        self._reader = Reader(self._catalog, self.verify_parts)

    @classmethod
    def open(cls, path: str | Path, verify: bool = True) -> Self:
        """Open the store at `path`; see the class."""
        return cls(path, verify)

    def __reduce__(self) -> tuple:
        return type(self), (str(self.path), self.verify_parts)

    def __len__(self) -> int:
        return self.manifest.n

    def __repr__(self) -> str:
        text = ", ".join(f"{v} {k}" for k, v in self.counts().items() if v)
        return f"{type(self).__name__}({cut(str(self.path), 400)!r}: {text})"

    def _repr_html_(self) -> str:
        rows = [
            ("parameters", names_in_brief(self.parameters.names)),
            *(("source" if spec is self.source else "x", brief(spec))
              for spec in (self.output, self.source) if spec is not None),
            ("design", f"{self.design}, seed {self.seed}"),
            *((state, str(n)) for state, n in self.counts().items() if n),
        ]  # fmt: skip
        return table_html(f"{type(self).__name__} {self.path}", rows, ("", ""))

    @property
    def layout(self) -> Layout:
        """Parameters, output and source."""
        return self.manifest.layout

    @property
    def parameters(self) -> ParameterSpace:
        """The parameter space."""
        return self.layout.parameters

    @property
    def output(self) -> FieldSpec:
        """What x is."""
        return self.layout.output

    @property
    def source(self) -> FieldSpec | None:
        """What the source field is, or None."""
        return self.layout.source

    @property
    def group_size(self) -> int:
        """Simulations that are made together."""
        return self.manifest.group_size

    @property
    def seed(self) -> int | None:
        """Seed of the campaign; None for imported sets."""
        return self.manifest.seed

    @property
    def design(self) -> str:
        """How theta was drawn; calibration p-values assume ``"random"``."""
        return self.manifest.design

    @property
    def theta(self) -> Tensor:
        """Planned parameters, float64, (n, P)."""
        return torch.from_numpy(self._table.theta.copy())

    @property
    def seeds(self) -> Tensor:
        """Seeds, int64, (n,)."""
        return torch.from_numpy(self._table.seeds.copy())

    @property
    def groups(self) -> np.ndarray:
        """Group of each simulation, int64, (n,)."""
        return self._table.groups.copy()

    def refresh(self) -> None:
        """Take note of simulations that other processes added, or planned."""
        if stamp(self.path) != self._stamp:
            self._load()
        with_files(self._catalog.refresh)

    def states(self) -> np.ndarray:
        """State of each simulation, strings, (n,): pending, running, done, failed or rejected."""
        self.refresh()
        out = np.array(STATES, dtype="<U8")[self._catalog.state]
        if is_live(self.path) and (self.path / "running").is_dir():
            for marker in (self.path / "running").iterdir():
                start, stop = map(int, marker.name.split("-"))
                view = out[start:stop]
                view[view == "pending"] = "running"
        return out

    def counts(self) -> dict[str, int]:
        """Number of simulations in each state."""
        names, counts = np.unique(self.states(), return_counts=True)
        return {k: 0 for k in (*STATES, "running")} | dict(
            zip(names.tolist(), counts.tolist(), strict=True)
        )

    def failures(self) -> list[Failure]:
        """What failed or was rejected, by index."""
        self.refresh()
        state = self._catalog.state
        return [
            Failure(
                int(i), torch.from_numpy(self._table.theta[i].copy()), int(self._table.seeds[i]),
                STATES[state[i]], self._catalog.message(int(i)),
            )
            for i in np.flatnonzero(state >= FAILED)
        ]  # fmt: skip

    @property
    def done(self) -> np.ndarray:
        """Indices of finished simulations, int64, ascending."""
        self.refresh()
        return np.flatnonzero(self._catalog.state == DONE)

    def read(self, indices: Sequence[int] | np.ndarray | Tensor, what: str = "x") -> Tensor:
        """Fields of the simulations `indices`, in this order.

        Args:
            indices: of finished simulations, repetitions are fine; or a mask over all simulations
                of the store, or a slice.
            what: ``"x"`` or ``"source"``.

        Returns:
            Tensor of shape (len(indices), *shape).

        Raises:
            StoreError: for a simulation that is not done, or a damaged part.
        """
        if not isinstance(what, str) or what not in self.layout.fields:
            raise StoreError(
                f"read(what={what!r})", expected=f"one of {list(self.layout.fields)}",
                got=repr(what), fix="this store keeps no such field",
            )  # fmt: skip
        rows = selection(indices, len(self))
        self._require_done(rows)
        spec = self.layout.fields[what]
        out = np.empty((len(rows), *spec.shape), spec.dtype)
        known = self._catalog.parts
        try:
            self._reader.read(what, rows, out)
        except StoreError:
            self.refresh()  # another process may have merged parts: look where they are now
            if self._catalog.parts is known:
                raise
            self._reader.read(what, rows, out)
        return torch.from_numpy(out)

    def _require_done(self, rows: np.ndarray) -> None:
        if (self._catalog.state[rows] != DONE).any():
            self.refresh()
        bad = rows[self._catalog.state[rows] != DONE]
        if len(bad):
            raise StoreError(
                f"simulation {bad[0]}", expected="a finished simulation",
                got=STATES[self._catalog.state[bad[0]]], fix="read indices of store.done",
            )  # fmt: skip

    def batches(
        self, indices: Sequence[int] | np.ndarray, batch_size: int
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """(indices, theta, x) for `batch_size` simulations at a time, in order; see `read`."""
        rows = selection(indices, len(self))
        batch_size = whole(batch_size, "batch_size", least=1)
        for begin in range(0, len(rows), batch_size):
            chunk = rows[begin : begin + batch_size]
            yield chunk, torch.from_numpy(self._table.theta[chunk]), self.read(chunk)

    def digest(self) -> str:
        """sha256 over specifications, theta, seeds, groups, states and results, in index order.

        Equal for equal campaigns, however their parts were cut or in which order they came. It
        uses the hashes the parts keep; `verify` proves them.
        """
        self.refresh()
        h = hashlib.sha256()
        for text in self.layout.digests.values():
            h.update(text.encode())
        t, c = self._table, self._catalog
        for array in (t.theta, t.seeds, t.groups, c.state, c.digests):
            h.update(np.ascontiguousarray(array).tobytes())
        return h.hexdigest()

    def row_digests(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """sha256 of the results of simulations, as their parts keep them, uint8, (n, 32)."""
        return self._catalog.digests[selection(indices, len(self))]

    def verify(self) -> None:
        """Read and hash every part, and every simulation in it.

        Raises:
            StoreError: for the first damaged one.
        """
        self.refresh()
        for part in self._catalog.parts:
            part.verify()
            part.verify_rows()

    def close(self) -> None:
        """Close open files; the store can be used on."""
        self._reader.close()
