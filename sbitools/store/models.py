"""Stores of several models as one, whose only parameter says which model a simulation is of."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools import priors
from sbitools.errors import StoreError
from sbitools.gate.arrays import selection
from sbitools.gate.plain import whole
from sbitools.parameters import Parameter, ParameterSpace

from .access import as_store
from .store import SimulationStore

__all__ = ["MODEL", "ModelStore"]

MODEL = "model"
"""Name of the parameter."""


class ModelStore:
    """The finished simulations of several models, read like one `SimulationStore`.

    Nothing is copied. The parameters of the models, which may be quite different ones, are not
    looked at: integrating them out is what the comparison of models is.

    Args:
        stores: model -> its store, or the path of it; all of the same field.

    Attributes:
        stores: by the name of the model, in the order of the codes.
        model: code of each simulation, int64, (n,).
        row: its number in the store of its model, int64, (n,).

    Raises:
        StoreError: for fewer than two models, different fields, a store without finished
            simulations, one whose theta are those of a region of the prior (`train_rounds`), or
            one that is there twice.
        ParameterError: for names that are no text.
    """

    source = None
    seed = None

    def __init__(self, stores: Mapping[str, SimulationStore | str | Path]) -> None:
        if not isinstance(stores, Mapping) or len(stores) < 2:
            got = f"{len(stores)}" if isinstance(stores, Mapping) else type(stores).__name__
            raise StoreError(
                "stores of models", expected="a dictionary of two models or more", got=got,
                fix='give {"name": store, "other name": store}',
            )  # fmt: skip
        self.stores = {k: as_store(v, f"store of model {k!r}") for k, v in stores.items()}
        done = [store.done for store in self.stores.values()]
        self._check(done)
        sizes = [len(rows) for rows in done]
        self.model = np.repeat(np.arange(len(sizes)), sizes)
        self.row = np.concatenate(done)
        share = tuple(size / len(self.row) for size in sizes)
        self.parameters = ParameterSpace(
            [Parameter(MODEL, priors.Categorical(share), categories=tuple(self.stores))]
        )

    def _check(self, done: Sequence[np.ndarray]) -> None:
        first, digests = next(iter(self.stores)), Counter(s.digest() for s in self.stores.values())
        for (name, store), rows in zip(self.stores.items(), done, strict=True):
            expected, got = self.output.to_dict(), store.output.to_dict()
            if expected != got:
                raise StoreError(
                    f"field of model {name!r}", expected=f"that of {first!r}, {expected}",
                    got=f"{got}", fix="models are compared by the same data: simulate the same "
                    "field, with the same name, axes and unit",
                )  # fmt: skip
            if not len(rows):
                raise StoreError(
                    f"store of model {name!r}", expected="finished simulations",
                    got=f"none in {store.path}", fix="run its campaign, or leave the model out",
                )  # fmt: skip
            if store.design == "truncated":
                raise StoreError(
                    f"store of model {name!r}", expected="theta drawn from its whole prior",
                    got="those of the rounds for one observation",
                    fix="simulate with theta of the prior: the evidence is its mean",
                )  # fmt: skip
            if digests[store.digest()] > 1:
                raise StoreError(
                    f"store of model {name!r}", expected="simulations of its own",
                    got=f"{store.path}, which another model has, too", fix="correct the path",
                )  # fmt: skip

    def __len__(self) -> int:
        return len(self.row)

    def __repr__(self) -> str:
        text = ", ".join(f"{n} of {name}" for name, n in zip(self.stores, self.sizes, strict=True))
        return f"ModelStore({text})"

    @property
    def sizes(self) -> list[int]:
        """Simulations of each model."""
        return np.bincount(self.model, minlength=len(self.stores)).tolist()

    @property
    def path(self) -> str:
        """Of all stores, for messages."""
        return ", ".join(str(store.path) for store in self.stores.values())

    @property
    def output(self) -> Any:
        """What x is."""
        return next(iter(self.stores.values())).output

    @property
    def design(self) -> str:
        """``"random"`` if theta of all models were drawn so."""
        found = {store.design for store in self.stores.values()}
        return found.pop() if len(found) == 1 else "imported"

    @property
    def theta(self) -> Tensor:
        """Codes of the models, float64, (n, 1)."""
        return torch.from_numpy(self.model[:, None].astype(np.float64))

    @property
    def seeds(self) -> Tensor:
        """Seeds that the simulations have in their own stores, int64, (n,)."""
        every = [np.asarray(store.seeds) for store in self.stores.values()]
        return torch.from_numpy(self._gathered(every))

    @property
    def groups(self) -> np.ndarray:
        """Group of each simulation, int64, (n,); two models share none."""
        every, first = [], 0
        for store in self.stores.values():
            own = np.asarray(store.groups)
            every.append(own - own.min() + first)
            first = int(every[-1].max()) + 1
        return self._gathered(every)

    def _gathered(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([c[self.row[self.model == m]] for m, c in enumerate(columns)])

    @property
    def done(self) -> np.ndarray:
        """All of them."""
        return np.arange(len(self))

    def counts(self) -> dict[str, int]:
        """Number of simulations in each state, of all models."""
        total = Counter[str]()
        for store in self.stores.values():
            total.update(store.counts())
        return dict(total)

    def read(
        self, indices: Sequence[int] | np.ndarray | Tensor, what: str = "x"
    ) -> Tensor:  # fmt: skip
        """Fields of the simulations `indices`, in this order: see `SimulationStore.read`."""
        rows = selection(indices, len(self))
        out = torch.empty((len(rows), *self.output.shape), dtype=self.output.torch_dtype)
        for m, store in enumerate(self.stores.values()):
            mine = np.flatnonzero(self.model[rows] == m)
            if len(mine):
                out[torch.from_numpy(mine)] = store.read(self.row[rows[mine]], what)
        return out

    def batches(
        self, indices: Sequence[int] | np.ndarray, batch_size: int
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """(indices, theta, x) for `batch_size` simulations at a time, in order."""
        rows, theta = selection(indices, len(self)), self.theta
        size = whole(batch_size, "batch_size", least=1)
        for begin in range(0, len(rows), size):
            chunk = rows[begin : begin + size]
            yield chunk, theta[torch.from_numpy(chunk)], self.read(chunk)

    def digest(self) -> str:
        """sha256 over names and digests of all stores."""
        h = hashlib.sha256()
        for name, store in self.stores.items():
            h.update(repr((name, store.digest())).encode())
        return h.hexdigest()
