"""Which part holds which simulation.

Parts may overlap: a campaign that was asked to retry its failures writes new parts beside old
ones. For each simulation the best result counts (done before rejected before failed), whatever
the order in which parts are found.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sbitools.disk.files import is_refused, out_of_reach
from sbitools.errors import StoreError

from .layout import Layout
from .parts import DONE, FAILED, PENDING, REJECTED, Part, PartMeta

__all__ = ["Catalog"]

_RANK = np.zeros(4, np.int8)
_RANK[[PENDING, FAILED, REJECTED, DONE]] = [0, 1, 2, 3]


class Catalog:
    """State and place of every simulation of a store.

    Args:
        folder: the ``parts`` directory.
        layout: specifications every part must have.
        theta: planned, float64, (n, P).
        seeds: planned, int64, (n,).

    Attributes:
        state: codes of `parts.STATES`, uint8, (n,).
        digests: sha256 of each result, uint8, (n, 32).
        place: number of the part in `parts`, int32, (n,); -1 where pending.
        parts: open parts, in the order found.
    """

    def __init__(self, folder: Path, layout: Layout, theta: np.ndarray, seeds: np.ndarray) -> None:
        self.folder, self.layout, self._theta, self._seeds = folder, layout, theta, seeds
        self._clear()

    def _clear(self) -> None:
        n = len(self._seeds)
        self.state = np.zeros(n, np.uint8)
        self.digests = np.zeros((n, 32), np.uint8)
        self.place = np.full(n, -1, np.int32)
        self.parts: list[Part] = []
        self._errors: list[list[str]] = []
        self._names: set[str] = set()

    def refresh(self) -> None:
        """Take note of parts that came (or went) since the last call.

        Raises:
            StoreError: for a damaged or foreign part.
        """
        try:
            names = {f.name for f in self.folder.iterdir() if not f.name.startswith(".")}
        except OSError as error:
            if is_refused(error):
                raise out_of_reach(self.folder, error) from error
            raise StoreError(
                str(self.folder), expected="the directory of part files",
                got=f"{error.strerror}", fix="restore the store from a copy",
            ) from error  # fmt: skip
        if not self._names <= names:
            self._clear()
        for name in sorted(names - self._names):
            self.add(name)

    def add(self, name: str) -> None:
        """Take note of the part file `name`."""
        part = Part(self.folder / name, self.layout)
        if not part.start < part.stop <= len(self._seeds):
            raise self._foreign(part)
        try:
            meta = part.meta()
        except StoreError:
            if not part.path.exists():  # superseded since we looked
                return
            raise
        self._check(part, meta)
        self._merge(part, meta)
        self._names.add(name)

    def _check(self, part: Part, meta: PartMeta) -> None:
        rows = slice(part.start, part.stop)
        fits = part.stop <= len(self._seeds) and np.array_equal(self._theta[rows], meta.theta)
        if not fits or not np.array_equal(self._seeds[rows], meta.seeds):
            raise self._foreign(part)

    @staticmethod
    def _foreign(part: Part) -> StoreError:
        return StoreError(
            f"part {part.path.name}", expected="theta and seeds of this store's design",
            got="those of another campaign", fix=f"move {part.path} out of the store",
        )  # fmt: skip

    def _merge(self, part: Part, meta: PartMeta) -> None:
        rows, number = slice(part.start, part.stop), len(self.parts)
        state, place = self.state[rows], self.place[rows]
        same = (state == DONE) & (meta.state == DONE)
        clash = same & (self.digests[rows] != meta.digests).any(1)
        if clash.any():
            i = int(clash.argmax())
            raise StoreError(
                f"simulation {part.start + i}", expected="one result",
                got=f"different ones in {part.path.name} and {self.parts[place[i]].path.name}",
                fix="move the wrong part out of the store",
            )  # fmt: skip
        better = _RANK[meta.state] > _RANK[state]
        tie = (_RANK[meta.state] == _RANK[state]) & (place >= 0)
        for other in np.unique(place[tie]):
            if self._before(part, self.parts[other]):
                better |= tie & (place == other)
        self.parts.append(part)
        self._errors.append(meta.errors)
        state[better], place[better] = meta.state[better], number
        self.digests[rows][better] = meta.digests[better]

    @staticmethod
    def _before(a: Part, b: Part) -> bool:
        return (b.stop - b.start, a.path.name) < (a.stop - a.start, b.path.name)

    def message(self, index: int) -> str:
        """Why a simulation failed or was rejected."""
        number = self.place[index]
        return self._errors[number][index - self.parts[number].start]

    def superseded(self) -> list[Path]:
        """Parts none of whose simulations count any more."""
        used = set(np.unique(self.place).tolist())
        return [p.path for i, p in enumerate(self.parts) if i not in used]
