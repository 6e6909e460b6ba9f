"""A store as users name it, and the simulations of it that they select."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from sbitools.errors import SbitoolsError, StoreError
from sbitools.gate.arrays import selection
from sbitools.gate.plain import as_path

from .products import Products
from .store import SimulationStore

__all__ = ["as_store", "chosen"]

_WHAT = "indices of finished simulations"
_NEEDED = ("theta", "seeds", "output", "parameters", "done", "read")


def as_store(value: Any, what: str = "store") -> SimulationStore:
    """`value` if it can be read like a store; the store at that path if it is a path.

    Several of them in a tuple or list are read as one: see `Products`.

    Raises:
        StoreError: for anything else, or if there is no store at the path.
    """
    if isinstance(value, str | os.PathLike):
        return SimulationStore(as_path(value, what, error=StoreError))
    if isinstance(value, tuple | list):
        return Products([as_store(one, what) for one in value])  # pyright: ignore[reportReturnType]
    missing = [name for name in _NEEDED if not hasattr(value, name)]
    if missing or isinstance(value, type):
        raise StoreError(
            what, expected="a SimulationStore, or the path of one", got=type(value).__name__,
            fix="pass what simulate, SimulationStore.open or SimulationStore.from_arrays gave",
        )  # fmt: skip
    return value


def chosen(store: Any, indices: Any, error: type[SbitoolsError] = StoreError) -> np.ndarray:
    """Row numbers of the simulations that are selected; all finished ones if None.

    Args:
        store: of n simulations.
        indices: see `sbitools.gate.arrays.selection`: a mask is one over all n.
        error: class to raise.

    Raises:
        SbitoolsError: of class `error`, for what is no selection of n simulations.
    """
    return store.done if indices is None else selection(indices, len(store), _WHAT, error)
