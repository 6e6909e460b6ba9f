"""Training batches from a store of particles: one redshift of a box at a time, augmented.

Fields are read when they are needed, so memory does not grow with the store. A periodic box turned
by one of the 48 symmetries of the cube and shifted by any number of cells is as good a simulation
as it was before; which of them a step sees is a function of (seed, epoch, step) alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from emulators.methods.displacement.symmetries import transform
from sbitools.seeds import derive
from sbitools.store import SimulationStore
from sbitools.training.loader import split

__all__ = ["Batch", "ParticleBatches"]

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""psi (B, 3, n, n, n), displacement and velocity (B, 6, n, n, n), Omega_m (B,), D (B,)."""


class ParticleBatches:
    """Batches for `sbitools.training.run_training`.

    Args:
        store: particles: x is (redshift, 6, n, n, n), source the Zel'dovich displacement.
        omega_m: of every simulation of the store, (len(store),) float64.
        growth: D of every simulation and stored redshift, (len(store), n_redshifts).
        weights: chance of each redshift in a training step, (n_redshifts,).
        batch_size: boxes per step.
        passes: times an epoch sees each box.
        validation_fraction: of the boxes.
        seed: of the split, the order, the redshifts and the symmetries.
    """

    def __init__(
        self,
        store: SimulationStore,
        omega_m: np.ndarray,
        growth: np.ndarray,
        weights: Sequence[float],
        *,
        batch_size: int,
        passes: int,
        validation_fraction: float,
        seed: int,
    ) -> None:
        self.store, self.omega_m, self.growth = store, omega_m, growth
        self.weights = np.asarray(weights, dtype=float) / np.sum(weights)
        self.batch_size, self.passes, self.seed = batch_size, passes, seed
        self.training, self.held_out = split(store, validation_fraction, seed)

    @property
    def steps(self) -> int:
        """Training steps per epoch."""
        return max(1, len(self.training) * self.passes // self.batch_size)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from step `start` on."""
        order = np.random.default_rng(derive(self.seed, 10, epoch))
        rows = np.concatenate([order.permutation(self.training) for _ in range(self.passes)])
        for step in range(start, self.steps):
            rng = np.random.default_rng(derive(self.seed, 11, epoch, step))
            chosen = rows[step * self.batch_size : (step + 1) * self.batch_size]
            boxes = [self._augmented(int(row), rng) for row in chosen]
            yield tuple(torch.cat(parts) for parts in zip(*boxes, strict=True))  # pyright: ignore

    def validation(self) -> Iterator[Batch]:
        """Every held-out box, at the most likely redshift and the other ones in turn."""
        usual = int(self.weights.argmax())
        others = [z for z in np.flatnonzero(self.weights) if z != usual]
        for i, row in enumerate(self.held_out):
            yield self._box(int(row), usual)
            if others:
                yield self._box(int(row), int(others[i % len(others)]))

    def _box(self, row: int, redshift: int) -> Batch:
        # Contiguous rows of a part are read together; one redshift of one box is a small read.
        x = self.store.read([row])[:, redshift]
        psi = self.store.read([row], what="source")
        omega_m = torch.tensor([self.omega_m[row]], dtype=psi.dtype)
        return psi, x, omega_m, torch.tensor([self.growth[row, redshift]], dtype=psi.dtype)

    def _augmented(self, row: int, rng: np.random.Generator) -> Batch:
        redshift = int(rng.choice(len(self.weights), p=self.weights))
        psi, x, omega_m, growth = self._box(row, redshift)
        axes, flips = rng.permutation(3).tolist(), (rng.random(3) < 0.5).tolist()
        shift = int(rng.integers(psi.shape[-1] ** 3))
        return (
            transform(psi, axes, flips, shift),
            transform(x, axes, flips, shift),
            omega_m,
            growth,
        )
