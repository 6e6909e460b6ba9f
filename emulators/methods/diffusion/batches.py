"""Training batches of white fields: shifted, mirrored and turned where that is stated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sbitools.seeds import derive
from sbitools.store import SimulationStore
from sbitools.training.loader import split

from .layout import Layout
from .source import Source

__all__ = ["WhiteBatches"]

_KEPT = 1 << 29  # bytes of white fields that are kept in memory


class WhiteBatches:
    """Batches (white fields (B, K, *space), condition (B, P)); a function of (seed, epoch, step).

    With a source, its features (B, F, *space) are the third.

    Args:
        store: of simulations.
        white: field of one simulation of it, and features, (K + F, *space).
        condition: of all simulations, (n, P).
        layout: of the fields.
        symmetries: see `FieldOptions`.
        batch_size: fields of a batch.
        steps: training steps per epoch.
        validation_fraction: of the simulations.
        seed: of the order and the symmetries.
        source: of the fields.
    """

    def __init__(
        self, store: SimulationStore, white: Callable[[int], Tensor],
        condition: Tensor, layout: Layout, symmetries: Sequence[str], *, batch_size: int,
        steps: int, validation_fraction: float, seed: int, source: Source | None = None,
    ) -> None:  # fmt: skip
        self.white, self.condition = white, condition
        self._beside = 0 if source is None else source.channels
        coarse = source.steps if source else (1,) * len(layout.space)
        self._steps = dict(enumerate(coarse, start=1))
        self.batch_size, self.steps, self.seed = batch_size, steps, seed
        self.training, self.held_out = split(store, validation_fraction, seed)
        axes = range(1, 1 + len(layout.space))
        around = {a for a, p in zip(axes, layout.periodic, strict=True) if p}
        plain = {a for a, kind in zip(axes, layout.kinds, strict=True) if kind != "evolving"}
        self._shifted = sorted(around) if "shift" in symmetries else []
        if source is not None and source.points:  # mirrored, a point is the last of its cells
            plain -= {a for a, step in self._steps.items() if step > 1}
        self._mirrored = sorted(plain) if "flip" in symmetries else []
        alike: dict[tuple[int, str, int], list[int]] = {}
        for a in sorted(plain) if "turn" in symmetries else []:
            same = layout.space[a - 1], layout.kinds[a - 1], self._steps[a]
            alike.setdefault(same, []).append(a)
        self._turned = [same for same in alike.values() if len(same) > 1]
        self._kept: dict[int, Tensor] = {}

    def train(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Batches of an epoch from step `start` on."""
        for step in range(start, self.steps):
            rng = np.random.default_rng(derive(self.seed, 11, epoch, step))
            again = len(self.training) < self.batch_size
            rows = rng.choice(self.training, self.batch_size, replace=again)
            fields = [self._moved(self._field(int(row)), rng) for row in rows]
            yield self._batch(fields, rows)

    def validation(self) -> Iterator[tuple[Tensor, ...]]:
        """Held-out simulations, four batches or so, each field with several noise levels."""
        rng = np.random.default_rng(derive(self.seed, 12))
        n = self.batch_size
        rows = np.resize(self.held_out, max(4 * n, min(len(self.held_out), 16 * n)))
        for first in range(0, len(rows), n):
            some = rows[first : first + n]
            fields = [self._moved(self._field(int(row)), rng) for row in some]
            yield self._batch(fields, some)

    def _batch(self, fields: list[Tensor], rows: np.ndarray) -> tuple[Tensor, ...]:
        every, told = torch.stack(fields), self.condition[torch.from_numpy(rows)]
        k = every.shape[1] - self._beside
        return (every[:, :k], told, every[:, k:]) if self._beside else (every, told)

    def _field(self, row: int) -> Tensor:
        if row in self._kept:
            return self._kept[row]
        field = self.white(row)
        if (len(self._kept) + 1) * field.nbytes <= _KEPT:
            self._kept[row] = field
        return field

    def _moved(self, field: Tensor, rng: np.random.Generator) -> Tensor:
        # By whole cells of a coarse source: where its cells lie is the same for all fields.
        shifts = [
            int(rng.integers(field.shape[a] // self._steps[a])) * self._steps[a]
            for a in self._shifted
        ]
        if shifts:
            field = torch.roll(field, shifts, self._shifted)
        for same in self._turned:
            order = list(range(field.ndim))
            for a, b in zip(same, rng.permutation(same), strict=True):
                order[a] = int(b)
            field = field.permute(order)
        flips = [a for a in self._mirrored if rng.random() < 0.5]
        return field.flip(flips) if flips else field
