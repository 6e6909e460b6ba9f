"""The simulations of a job, as the fit of densities takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sbitools.densities.fit import DensityFit, OnEpoch, Pairs
from sbitools.densities.lattice import Lattice
from sbitools.densities.vector import VectorDensity, parameter_features

from .scale import Standardise

if TYPE_CHECKING:
    from sbitools.inference.job import Job

__all__ = ["Fit"]

_MOST_ROWS = 200_000  # simulations that closed forms look at


class Fit(DensityFit):
    """One fit of the densities of a data vector.

    Args:
        job: data and options.
        embedding: with the scale of x set.
        run_dir: one folder in it for each network; an interrupted run resumes with what is there.
        resume: take up an earlier run.
        on_epoch: called with each row of the training histories, with ``"part"`` in it.
    """

    def __init__(
        self, job: Job, embedding: Standardise, run_dir: Path, resume: bool,
        on_epoch: OnEpoch | None,
    ) -> None:  # fmt: skip
        self.job, self.embedding = job, embedding
        u, x = self._gathered(job.training.batches(0))
        held_out = self._gathered(job.validation.batches(0))
        loader = job.training

        def batches(epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
            return map(self._pair, loader.batches(epoch, start))

        pairs = Pairs(u, x, held_out, batches, loader.steps, loader.batch_size,
                      len(job.train_rows))  # fmt: skip
        super().__init__(pairs, job.options, run_dir, resume, on_epoch, job.identity)
        seen = embedding.seen.expand(x.shape[1])
        self.columns = seen.nonzero()[:, 0].to(x.device)  # those that vary have a density
        mean, std = embedding.mean[self.columns], embedding.std[self.columns]
        kind = job.spec.torch_dtype
        last = mean.abs() * torch.finfo(kind if kind.is_floating_point else torch.float64).eps
        self.lattice = Lattice(x[:, self.columns], std, last)

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        u, x = self.job.pair(batch)
        return u.float(), self.embedding.standardise(x)

    def _gathered(self, batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        """u (N, P) and standardised x (N, n), at most 200,000."""
        us, xs, n = [], [], 0
        for batch in batches:
            u, x = self._pair(batch)
            us.append(u)
            xs.append(x)
            n += len(u)
            if n >= _MOST_ROWS:
                break
        return torch.cat(us), torch.cat(xs)

    def likelihood(self, density: VectorDensity) -> dict[str, float]:
        """Fit p(x | u) of `columns` in place; returns the shares of its parts."""
        return self.density(density, self.columns, self.lattice, parameter_features)

    def with_constants(self, x: Tensor) -> Tensor:
        """Standardised x of `columns`, with those that never vary, which are 0."""
        wide = x.new_zeros(len(x), self.pairs.x.shape[1])
        return wide.index_copy(1, self.columns.to(x.device), x)
