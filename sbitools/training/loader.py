"""Shuffled batches from a store, in memory that does not grow with it.

Rows are read in contiguous blocks; the blocks are shuffled, gathered into chunks of bounded size,
and shuffled again inside a chunk. The order is a function of (seed, epoch) alone, so training can
be taken up at any step. A store that fits into one chunk is kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import TrainingError
from sbitools.gate.arrays import selection
from sbitools.gate.plain import real, whole
from sbitools.seeds import check_seed, derive, mix
from sbitools.store import SimulationStore
from sbitools.store.access import as_store, chosen

__all__ = ["Batch", "StreamingLoader", "split"]

# (theta (B, P) float64, x (B, *shape), seeds (B,) int64 that change with the epoch)
Batch = tuple[Tensor, Tensor, Tensor]

_PIECE_BYTES = 32 << 20


class StreamingLoader:
    """Batches of the simulations `indices` of a store.

    Args:
        store: where they are.
        indices: which, all of them done: see `sbitools.gate.arrays.selection`.
        batch_size: rows of a batch; the last one of an epoch may be smaller.
        seed: of the shuffling and of the noise seeds.
        chunk_bytes: memory for one chunk; two may be held for a moment.
        prepare: what is done to fields as they are read, the same at every reading.
        row_bytes: size of a prepared field; that of the store's if None.
        shuffle: False keeps the given order and the noise seeds of epoch 0 (validation).
    """

    def __init__(
        self,
        store: SimulationStore,
        indices: np.ndarray,
        batch_size: int,
        seed: int,
        chunk_bytes: int = 96 << 20,
        shuffle: bool = True,
        prepare: Callable[[Tensor], Tensor] | None = None,
        row_bytes: int | None = None,
    ) -> None:
        store = as_store(store)
        self.store, self.seed, self.shuffle = store, check_seed(seed), shuffle
        self.indices = selection(indices, len(store), error=TrainingError)
        self.batch_size = batch_size = whole(batch_size, "batch_size", least=1)
        self._prepare = prepare or (lambda x: x)
        rows = max(batch_size, chunk_bytes // max(row_bytes or store.output.nbytes, 1))
        self._chunk_rows = int(rows)
        self._block_rows = int(max(1, min(64, rows // 32)))
        self._theta, self._seeds = store.theta, store.seeds
        self._kept: Tensor | None = None

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-len(self.indices) // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from step `start` on."""
        skip = start * self.batch_size
        held_rows, held_x = np.empty(0, dtype=np.int64), None
        for positions in self._chunks(epoch):
            take = positions[skip:]
            skip = max(0, skip - len(positions))
            if not len(take):
                continue
            x = self._read(take)
            held_rows = np.concatenate([held_rows, take])
            held_x = x if held_x is None else torch.cat([held_x, x])
            while len(held_rows) >= self.batch_size:
                yield self._batch(held_rows[: self.batch_size], held_x[: self.batch_size], epoch)
                held_rows, held_x = held_rows[self.batch_size :], held_x[self.batch_size :]
            held_x = held_x.clone()  # lets go of the chunk it is a view of
        if len(held_rows) and held_x is not None:
            yield self._batch(held_rows, held_x, epoch)

    def _chunks(self, epoch: int) -> Iterator[np.ndarray]:
        """Positions into `indices`, one array per chunk, in the order of the epoch."""
        n = len(self.indices)
        if not self.shuffle:
            for i in range(0, n, self._chunk_rows):
                yield np.arange(i, min(i + self._chunk_rows, n))
            return
        rng = np.random.default_rng(derive(self.seed, 0, epoch))
        blocks = np.array_split(np.arange(n), max(1, -(-n // self._block_rows)))
        order = rng.permutation(len(blocks))
        shuffled = np.concatenate([blocks[i] for i in order]) if n else np.empty(0, dtype=np.int64)
        for i in range(0, n, self._chunk_rows):
            yield rng.permutation(shuffled[i : i + self._chunk_rows])

    def _read(self, positions: np.ndarray) -> Tensor:
        if len(self.indices) > self._chunk_rows:
            return self._prepared(self.indices[positions])
        if self._kept is None:
            self._kept = self._prepared(self.indices)
        return self._kept[torch.from_numpy(positions)]

    def _prepared(self, indices: np.ndarray) -> Tensor:
        """Read in pieces, because a field may be far larger before it is prepared than after."""
        step = max(1, _PIECE_BYTES // max(self.store.output.nbytes, 1))
        pieces = range(0, len(indices), step)
        return torch.cat([self._prepare(self.store.read(indices[i : i + step])) for i in pieces])

    def _batch(self, positions: np.ndarray, x: Tensor, epoch: int) -> Batch:
        rows = torch.from_numpy(self.indices[positions])
        tag = epoch if self.shuffle else 0
        return self._theta[rows], x, mix(self._seeds[rows], derive(self.seed, 1, tag))


def split(
    store: SimulationStore,
    fraction: float,
    seed: int,
    indices: np.ndarray | None = None,
    fold: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices for training and validation; the members of a group stay together.

    Args:
        store: with finished simulations.
        fraction: of the groups that validate.
        seed: of the choice.
        indices: simulations to split, all of them done, as numbers or as a mask over the whole
            store; every finished one if None.
        fold: successive folds validate with other groups, until all have been used.

    Raises:
        TrainingError: if fewer than two groups are done, or `indices` names others.
    """
    store, fraction = as_store(store), real(fraction, "fraction", above=0, most=1)
    done = np.unique(chosen(store, indices, TrainingError))
    if not np.isin(done, store.done).all():
        raise TrainingError(
            f"indices into store {store.path}", expected="finished simulations",
            got=f"{int((~np.isin(done, store.done)).sum())} that are not", fix="use store.done",
        )  # fmt: skip
    groups, member = np.unique(store.groups[done], return_inverse=True)
    if len(groups) < 2:
        raise TrainingError(
            f"store {store.path}", expected="at least two finished groups of simulations",
            got=f"{len(done)} finished simulations in {len(groups)} groups",
            fix="simulate more, or look at store.failures()",
        )  # fmt: skip
    n = min(max(1, round(fraction * len(groups))), len(groups) - 1)
    order = np.random.default_rng(derive(seed, 2)).permutation(len(groups))
    held_out = np.isin(member, np.roll(order, -fold * n)[:n])
    return done[~held_out], done[held_out]
