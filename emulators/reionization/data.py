"""Training batches from a store of 21cm fields: planes, cubes or stretches of light cones.

A field shifted around the axes of the sky, mirrored or with them exchanged is as good a
simulation as before; of a coeval cube that is true of all axes. Which of them a step sees is a
function of (seed, epoch, step) alone. Channels are kept in memory up to a limit; beyond it fields
are read, and their channels made, again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from sbitools.seeds import derive
from sbitools.store import SimulationStore
from sbitools.training.loader import split

__all__ = ["Batch", "FieldBatches"]

Batch = tuple[Tensor, ...]
"""Channels (B, C, *n), condition (B, P), and the position (B, n[-1]) of stretches of a cone."""

_KEPT = 1 << 30  # bytes of channels that are kept in memory
_AROUND = 16  # cells beyond a stretch of a cone that its channels may depend on


class FieldBatches:
    """Augmented fields of a store.

    Args:
        store: planes of cubes (slice, x, y), cubes, or light cones with ``"los"`` as last axis.
        channels: fields (B, *n) to channels (B, C, *n).
        condition: of all simulations of the store, (n, P), within -1 and 1.
        position: of the cells of a light cone, (n, n_los); None for others.
        window: cells along the line of sight of a stretch of a light cone.
        batch_size: fields of a batch.
        steps: training steps per epoch.
        validation_fraction: of the simulations.
        seed: of the order and the symmetries.
    """

    def __init__(
        self,
        store: SimulationStore,
        channels: Callable[[Tensor], Tensor],
        condition: Tensor,
        position: Tensor | None,
        *,
        window: int,
        batch_size: int,
        steps: int,
        validation_fraction: float,
        seed: int,
    ) -> None:
        self.store, self.channels, self.seed = store, channels, seed
        self.condition, self.position, self.window = condition, position, window
        self.batch_size, self.steps = batch_size, steps
        self.training, self.held_out = split(store, validation_fraction, seed)
        self._kept: dict[int, Tensor] = {}

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from step `start` on."""
        for step in range(start, self.steps):
            rng = np.random.default_rng(derive(self.seed, 11, epoch, step))
            # Without replacement as long as there are enough: a batch of different parameters.
            again = len(self.training) < self.batch_size
            rows = rng.choice(self.training, self.batch_size, replace=again)
            yield self._batch(rows, rng)

    def validation(self) -> Iterator[Batch]:
        """Four batches or so of held-out simulations, the same ones every time."""
        rng = np.random.default_rng(derive(self.seed, 12))
        n = self.batch_size
        rows = np.resize(self.held_out, max(4 * n, len(self.held_out)))
        for first in range(0, len(rows), n):
            yield self._batch(rows[first : first + n], rng)

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        drawn = [self._draw(int(row), rng) for row in rows]
        fields = torch.stack([field for field, _ in drawn])
        chosen = torch.from_numpy(rows)
        if self.position is None:
            return fields, self.condition[chosen]
        starts = [start for _, start in drawn]
        position = torch.stack([
            self.position[row, a : a + self.window] for row, a in zip(rows, starts, strict=True)
        ])  # fmt: skip
        return fields, self.condition[chosen], position

    def _draw(self, row: int, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Channels of a field (C, *n), and the first cell along the line of sight of a cone."""
        field, start = self._cut(row, rng)
        free = field.ndim - 1 - (self.position is not None)
        shifts = [int(s) for s in rng.integers(0, field.shape[1], free)]
        field = torch.roll(field, shifts, tuple(range(1, 1 + free)))
        order = [0, *(1 + int(a) for a in rng.permutation(free)), *range(1 + free, field.ndim)]
        flips = [1 + axis for axis in range(free) if rng.random() < 0.5]
        return field.permute(order).flip(flips), start

    def _cut(self, row: int, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Channels of a plane, of a cube, or of a stretch of a cone and its first cell."""
        if self._planes:
            return self._plane(row, rng), 0
        if self.position is None:
            return self._cube(row), 0
        return self._stretch(row, rng)

    def _plane(self, row: int, rng: np.random.Generator) -> Tensor:
        plane = int(rng.integers(self.store.output.shape[0]))
        kept = self._whole(row)
        return self.channels(self.store.read([row])[:, plane])[0] if kept is None else kept[plane]

    def _cube(self, row: int) -> Tensor:
        kept = self._whole(row)
        return self.channels(self.store.read([row]))[0] if kept is None else kept

    def _stretch(self, row: int, rng: np.random.Generator) -> tuple[Tensor, int]:
        start = int(rng.integers(self.store.output.shape[-1] - self.window + 1))
        kept = self._whole(row)
        if kept is not None:
            return kept[..., start : start + self.window], start
        before = min(start, _AROUND)
        part = self.store.read([row])[..., start - before : start + self.window + _AROUND]
        return self.channels(part)[0][..., before : before + self.window], start

    def _whole(self, row: int) -> Tensor | None:
        """Channels of a whole simulation, in memory from then on; None where they are too many.

        Making channels of one field at a time takes longer, but not more memory.
        """
        if row not in self._kept:
            if (len(self._kept) + 1) * 2 * self.store.output.nbytes > _KEPT:
                return None
            field = self.store.read([row])
            self._kept[row] = self.channels(field[0]) if self._planes else self.channels(field)[0]
        return self._kept[row]

    @property
    def _planes(self) -> bool:
        return self.store.output.dims[0] == "slice"
