"""Import of simulation sets that exist as files, and of results as they come from elsewhere.

Fields come from files of any format that `sbitools.formats` opens, one for all or one for each;
parameters from a table with named columns or a plain ``.npy`` array. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.errors import SbitoolsError, ShapeError, StoreError
from sbitools.formats.opening import open_array, open_fields
from sbitools.formats.suffixes import RESULTS, suffix_of
from sbitools.formats.theta import read_theta
from sbitools.gate.arrays import as_native
from sbitools.gate.plain import as_path
from sbitools.labels import field_values
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .parts import DONE
from .store import SimulationStore

__all__ = ["add_results", "import_files", "open_array", "read_theta"]

_INDEX = re.compile(r"(\d+)(?!.*\d)")  # the last number in a name


def import_files(
    path: str | Path,
    x: str | Path,
    theta: str | Path,
    parameters: ParameterSpace,
    output: FieldSpec,
    *,
    dataset: str | None = None,
    theta_dataset: str | None = None,
    seeds: str | Path | None = None,
    source: FieldSpec | None = None,
    source_x: str | Path | None = None,
    source_dataset: str | None = None,
    unit: str | None = None,
    group_size: int = 1,
    design: str = "imported",
    nonfinite: str = "error",
) -> SimulationStore:
    """A new store from files.

    Args:
        path: of the store.
        x: file of fields, (n, *output.shape), or a pattern or folder with one file for each; read
            piece by piece; see `sbitools.formats.open_fields`.
        theta: parameter table, n rows; see `sbitools.formats.read_theta`.
        parameters: the parameter space; its names choose the columns.
        output: what x is.
        dataset: name of x in its file; may be None if there is only one array.
        theta_dataset: name of the table in its file.
        seeds: .npy file of int64 seeds, (n,); derived from the index if None.
        source: specification of a source field.
        source_x: its file, files or folder.
        source_dataset: its name there.
        unit: of the values in x; checked if given.
        group_size: consecutive simulations that belong together (slices of one cube, say).
        design: ``"random"`` if theta are independent draws from the priors.
        nonfinite: ``"error"``, or ``"fail"`` to record such simulations as failed.

    Raises:
        StoreError: for damaged or foreign files, different lengths, NaN or Inf.
        ShapeError: for a wrong shape, dtype or unit.
        ParameterError: for missing columns, or theta outside the priors.
    """
    table = read_theta(theta, parameters, theta_dataset)
    with contextlib.ExitStack() as stack:
        fields: Any = stack.enter_context(open_fields(x, dataset))
        numbers = extra = None
        if seeds is not None:
            numbers = stack.enter_context(open_array(seeds, None))[...]
        if source_x is not None:
            extra: Any = stack.enter_context(open_fields(source_x, source_dataset))
        return SimulationStore.from_arrays(
            path, table, fields, parameters, output, seeds=numbers, group_size=group_size,
            unit=unit, source=source, source_x=extra, design=design,
            nonfinite=nonfinite,
        )  # fmt: skip


def add_results(
    store: SimulationStore,
    folder: str | Path,
    *,
    unit: str | None = None,
    nonfinite: str = "error",
) -> int:
    """Add the result files in `folder` that are not in the store yet.

    The last number in a file's name is the simulation's index: ``result_000012.npy``. An .npy
    or FITS file is one x; an .npz, HDF5 or netCDF file has ``x`` (or one array only) and, if the
    store keeps one, ``source``. Run it again as more files come; finished simulations are not
    read again.

    Args:
        store: with the design that was exported.
        folder: with .npy, .npz, .h5 or .hdf5 files.
        unit: of x; checked if given.
        nonfinite: ``"error"``, or ``"fail"`` to record such simulations as failed.

    Returns:
        How many simulations were added.

    Raises:
        StoreError: if a file is unreadable or does not fit; all others are added before. A job
            that is still writing makes such a file: run again when it has finished.
    """
    todo = _files(store, as_path(folder, "folder of results"))
    added, errors = 0, []
    for chunk in _chunks(sorted(todo), store.manifest.task_size):
        fields: dict[int, dict[str, np.ndarray]] = {}
        for index in chunk:
            try:
                fields[index] = _result(store, todo[index])
            except SbitoolsError as error:
                errors.append(f"{todo[index].name}: {error}")
        for run in _chunks(sorted(fields), len(fields)):
            added += _add_run(store, run, fields, unit, nonfinite, errors)
    if errors:
        raise StoreError(
            f"{len(errors)} result files of {folder}", expected="whole files that fit the store",
            got=errors[0], fix=f"repair or remove them and run again; {added} others were added",
        )  # fmt: skip
    return added


def _files(store: SimulationStore, folder: Path) -> dict[int, Path]:
    """Result files of unfinished simulations, by index."""
    out: dict[int, Path] = {}
    done = set(store.done.tolist())
    try:
        files = sorted(f for f in folder.iterdir() if suffix_of(f) in RESULTS)
    except OSError as error:
        raise StoreError(
            str(folder), expected="a directory of result files", got=f"{error.strerror}",
            fix="correct the path",
        ) from error  # fmt: skip
    for file in files:
        match = _INDEX.search(file.stem)
        index = int(match[1]) if match else -1
        if not 0 <= index < len(store) or index in out:
            other = f"the index of {out[index].name}" if index in out else "no index of the design"
            raise StoreError(
                str(file), expected=f"a name that ends in an index below {len(store)}",
                got=other, fix="name result files by index: result_000012.npy",
            )  # fmt: skip
        if index not in done:
            out[index] = file
    return out


def _chunks(ascending: list[int], most: int) -> Iterator[list[int]]:
    """Stretches of consecutive indices, of at most `most`."""
    run: list[int] = []
    for index in ascending:
        if run and (index != run[-1] + 1 or len(run) == most):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def _result(store: SimulationStore, file: Path) -> dict[str, np.ndarray]:
    named = store.source is not None
    fields = {}
    for name, spec in store.layout.fields.items():
        with open_array(file, name if named else None, prefer="x") as array:
            field_values(array, spec, name, ShapeError, batch=False)
            fields[name] = as_native(array.whole(), name, spec, batch=False)
        spec.check(fields[name][None], 1, name)
    return fields


def _add_run(
    store: SimulationStore,
    run: list[int],
    fields: dict[int, dict[str, np.ndarray]],
    unit: str | None,
    nonfinite: str,
    errors: list[str],
) -> int:
    """Add a stretch as one part; one by one if one of them is not welcome."""
    stacked: dict[str, Any] = {k: np.stack([fields[i][k] for i in run]) for k in fields[run[0]]}
    try:
        store.add_many(run[0], **stacked, unit=unit, nonfinite=nonfinite)
    except StoreError as error:
        if len(run) == 1:
            errors.append(str(error))
            return 0
        return sum(_add_run(store, [i], fields, unit, nonfinite, errors) for i in run)
    state = store._catalog.state[run[0] : run[-1] + 1]
    return int(np.count_nonzero(state == DONE))
