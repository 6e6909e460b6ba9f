"""Stores of simulations that exist as files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.errors import ConfigError, ParameterError, ShapeError, StoreError
from sbitools.formats import open_fields, read_theta
from sbitools.seeds import simulation_seeds
from sbitools.simulator import FieldSpec
from sbitools.store import SimulationStore

from .rows import Rows
from .settings import FieldSettings, OwnSettings
from .simulator import OwnSimulator
from .split import split

__all__ = ["filled_store", "make_store"]


def make_store(
    settings: OwnSettings, simulator: OwnSimulator, name: str, sizes: Mapping[str, int], path: Path
) -> SimulationStore:
    """The store `name`: those of the files' simulations that the split gives to it.

    Args:
        settings: where the files are.
        simulator: what is in them.
        name: a key of `sizes`.
        sizes: simulations of each store.
        path: of the store; one that is there is opened.

    Raises:
        ConfigError: if there are too few simulations, or a store of another size is there.
        StoreError: for damaged or missing files, different lengths, or if no simulation is finite.
        ShapeError: for fields of another shape or unit than the settings say.
        ParameterError: for missing columns, or theta outside the priors.
    """
    if path.exists():
        return _as_large(SimulationStore.open(path), sizes[name])
    with contextlib.ExitStack() as stack:
        x = _open(settings.x, simulator.output, "x", stack)
        source = None
        if settings.source is not None and simulator.source is not None:
            source = _open(settings.source, simulator.source, "source", stack)
        theta = _theta(settings, simulator, x)
        if source is not None and len(source) != len(x):
            raise StoreError(
                f"{settings.source.file if settings.source else ''}",
                expected=f"{len(x)} fields, as many as {settings.x.file}", got=f"{len(source)}",
                fix="one source field per simulation, in the same order",
            )  # fmt: skip
        rows = split(name, sizes, len(x), settings.group_size, settings.shuffle)
        fields: Any = Rows(x, rows, simulator.output.dtype)
        sources: Any = None
        if source is not None and simulator.source is not None:
            sources = Rows(source, rows, simulator.source.dtype)
        store = SimulationStore.from_arrays(
            path, theta[rows], fields, simulator.parameters, simulator.output,
            seeds=simulation_seeds(settings.shuffle, rows.tolist()),
            group_size=settings.group_size, source=simulator.source, source_x=sources,
            nonfinite=settings.nonfinite, design=settings.design, simulator="files",
        )  # fmt: skip
    if not len(store.done):
        failure = store.failures()[0].message
        store.close()
        shutil.rmtree(path)  # made above, and of no use
        raise StoreError(
            str(settings.x.file), expected="simulations with finite values", got=failure,
            fix="repair the files; if a value stands for pixels that nobody sees, mask them",
        )  # fmt: skip
    return store


def filled_store(field: str, name: str, path: Path) -> SimulationStore:
    """The store `name` that a command or an import has filled.

    Raises:
        ConfigError: if there is none, or simulations are still missing.
    """
    store = SimulationStore.open(path) if path.exists() else None
    pending = None if store is None else store.counts()["pending"]
    if store is None or pending:
        raise ConfigError(
            f"simulations of {field!r}", expected="files of simulations, or a program",
            got="neither" if store is None else f"{pending} that are missing in {path}",
            fix=f"name files in [settings] (x.file and theta), or run `sbitools simulate CONFIG "
            f"--store {name} --command '...'`, or `sbitools import`",
        )  # fmt: skip
    return store


def _as_large(store: SimulationStore, n: int) -> SimulationStore:
    if len(store) != n:
        raise ConfigError(
            str(store.path), expected=f"a store of {n} simulations", got=f"one of {len(store)}",
            fix="use another run_dir, or delete that folder if it is no longer needed",
        )  # fmt: skip
    return store


def _open(field: FieldSettings, spec: FieldSpec, what: str, stack: contextlib.ExitStack) -> Any:
    if field.file is None:
        raise ConfigError(
            f"settings.{what}.file", expected="a file, folder or pattern", got="nothing",
            fix="name it, or leave the table out",
        )  # fmt: skip
    array = stack.enter_context(open_fields(field.file, field.dataset))
    if tuple(array.shape[1:]) != spec.shape:
        raise ShapeError(
            f"{what} in {field.file}", expected=f"shape (n, {str(spec.shape)[1:]}",
            got=f"{tuple(array.shape)}", fix="correct shape in [settings], or the files",
        )  # fmt: skip
    if array.unit:
        spec.check_unit(array.unit, f"{what} in {field.file}")
    if not np.can_cast(array.dtype, spec.dtype, casting="same_kind"):
        raise ShapeError(
            f"{what} in {field.file}", expected=f"numbers that {spec.dtype} holds",
            got=str(array.dtype), fix="correct dtype in [settings]",
        )  # fmt: skip
    return array


def _theta(settings: OwnSettings, simulator: OwnSimulator, x: Any) -> np.ndarray:
    n, numbered = len(x), None
    if settings.index is not None:
        if x.indices is None:
            raise ConfigError(
                "settings.index", expected="one file per simulation, with numbers in their names",
                got=f"{settings.x.file}", fix="leave it out",
            )  # fmt: skip
        numbered = settings.index, x.indices
    if settings.theta is None:
        if len(simulator.parameters):
            raise ParameterError(
                "settings.theta", expected="the file of the parameter table", got="nothing",
                fix='name it: theta = "params.csv"',
            )  # fmt: skip
        return np.empty((n, 0))
    theta = read_theta(
        settings.theta, simulator.parameters, settings.theta_dataset,
        columns={p.name: p.column for p in settings.parameters if p.column}, numbered=numbered,
    )  # fmt: skip
    if len(theta) != n:
        raise StoreError(
            f"{settings.theta}", expected=f"{n} rows, one for each field of {settings.x.file}",
            got=f"{len(theta)} rows", fix="one row per simulation, in the order of the fields",
        )  # fmt: skip
    return theta
