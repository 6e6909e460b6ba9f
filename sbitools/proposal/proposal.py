"""From files of simulations to a configuration: what was seen, and what is proposed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.emulation import Task, choose_method
from sbitools.errors import ConfigError, ParameterError, ShapeError, StoreError
from sbitools.formats import Seen, Table, describe_table, read_table
from sbitools.labels import same_unit
from sbitools.observation.observed import read_field
from sbitools.parameters import Parameter, ParameterSpace
from sbitools.priors import from_dict

from .fields import Looked, look
from .names import parameter_names, unit_in
from .priors import ColumnPrior, propose_prior, stratified
from .splits import Splits, propose_emulated, propose_splits
from .training import propose_training

__all__ = ["Files", "Proposal", "propose"]

_FEWEST = 8  # simulations from which anything can be learnt and tested


@dataclass(frozen=True)
class Files:
    """Where a user's simulations are.

    Args:
        x: array file, folder or pattern.
        theta: table of parameters; None if nothing varies.
        dataset: name of x in its file.
        theta_dataset: name of the table in its file.
        observation: the data.
        source: as `x`, fields that x follows from.
        source_dataset: name of source in its file.
    """

    x: str
    theta: str | None = None
    dataset: str | None = None
    theta_dataset: str | None = None
    observation: str | None = None
    source: str | None = None
    source_dataset: str | None = None


@dataclass(frozen=True)
class Proposal:
    """What `init` found in the files and would write.

    Args:
        files: they were.
        x: what the fields are.
        source: what the fields are that they follow from.
        priors: of each column that is a parameter, by name.
        names: of the parameters in these columns, identifiers.
        units: of these columns, where the file tells.
        index: column that has the numbers of the files.
        left_out: other columns, each with the reason.
        design: ``"random"`` or ``"latin_hypercube"``, as far as the table tells.
        splits: into training, validation and test.
        method: of emulation, ``"auto"``, or ``"none"`` where there is none for these fields.
        why: that method would be chosen, or there is none.
        emulated: simulations that it is to make; 0 without one.
        training: options of `sbitools.train` that are not its defaults.
        warnings: what a reader should know before anything runs.
    """

    files: Files
    x: Looked
    source: Looked | None
    priors: dict[str, ColumnPrior]
    names: dict[str, str]
    units: dict[str, str]
    index: str | None
    left_out: dict[str, str]
    design: str
    splits: Splits
    method: str
    why: str
    emulated: int
    training: dict[str, Any]
    warnings: tuple[str, ...]


def propose(files: Files, parameters: Sequence[str] | None = None) -> Proposal:
    """Look at the files and propose a configuration.

    Args:
        files: of the simulations.
        parameters: names of columns that are parameters; None: all columns of numbers that vary.

    Raises:
        StoreError: for files that cannot be read, different lengths, or too few simulations.
        ParameterError: for columns that cannot be parameters.
        ShapeError: for values that a store cannot hold.
    """
    x = look(files.x, files.dataset, "x")
    seen = x.seen
    source = None if files.source is None else look(files.source, files.source_dataset, "source")
    good = seen.n - seen.failed
    if good < _FEWEST:
        raise StoreError(
            f"x in {files.x}", expected=f"{_FEWEST} or more simulations with finite values, one "
            "per row", got=f"{good} of {seen.n}, each of shape {seen.shape[1:]}",
            fix="put simulations along the first axis, or make more of them",
        )  # fmt: skip
    priors, units, left_out, design, remarks = {}, {}, {}, "random", []
    index = None
    if files.theta is not None:
        table = read_table(files.theta, files.theta_dataset)
        _check_rows(files, table, seen.n)
        priors, left_out = _columns(table, parameters)
        units = {name: table.units.get(name) or unit_in(name) for name in priors}
        values = np.stack([table.columns[name] for name in priors], axis=1)
        bounds = [(p.prior["low"], p.prior["high"]) for p in priors.values()]
        design = "latin_hypercube" if stratified(values, bounds) else "random"
        remarks, index = _table_remarks(values), _numbers_of_files(table, x.indices)
    if files.observation is not None:
        _check_observation(files.observation, seen)
    if source is not None:
        _check_source(source, seen.n)
    splits = propose_splits(good, len(priors))
    method, why = _method(x, source, priors, splits)
    if method == "none":
        splits = propose_splits(good, len(priors), emulate=False)
    emulated = 0 if method == "none" else propose_emulated(math.prod(x.shape))
    return Proposal(
        files, x, source, priors, parameter_names(priors), units, index, left_out, design,
        splits, method, why, emulated,
        propose_training(x.spec("x"), emulated or splits.train), (*x.remarks, *remarks),
    )  # fmt: skip


def _method(
    x: Looked, source: Looked | None, priors: dict[str, ColumnPrior], splits: Splits
) -> tuple[str, str]:
    """Whether a method can emulate these fields, and which or why not."""
    names = parameter_names(priors)
    space = ParameterSpace(
        [Parameter(names[k], from_dict(column.prior)) for k, column in priors.items()]
    )
    given = None if source is None else source.spec("source")
    try:
        method, why = choose_method(Task(space, x.spec("x"), splits.train, given))
    except ConfigError as error:
        return "none", f"no method can emulate these fields: {error.got}"
    return "auto", f"{method.name}, at present: {why}"


def _check_source(source: Looked, n: int) -> None:
    if source.seen.n != n or source.seen.failed:
        raise StoreError(
            f"source in {source.file}", expected=f"{n} fields with finite values, one for each of "
            "x", got=f"{source.seen.n}, {source.seen.failed} of them not finite",
            fix="write one source field per simulation, in the same order",
        )  # fmt: skip


def _check_observation(file: str, seen: Seen) -> None:
    """Refuse data of another shape now, and not after hours."""
    array, unit = read_field(Path(file))
    shape = seen.shape[1:]
    if array.shape not in (shape, (1, *shape)):
        raise ShapeError(
            f"observation in {file}", expected=f"shape {shape}, as a simulation",
            got=f"{array.shape}", fix="cut, pad or regrid the field",
        )  # fmt: skip
    if unit and seen.unit and not same_unit(unit, seen.unit):
        raise ShapeError(
            f"unit of the observation in {file}", expected=repr(seen.unit), got=repr(unit),
            fix="convert the values",
        )  # fmt: skip


def _check_rows(files: Files, table: Table, n: int) -> None:
    if table.n != n:
        raise StoreError(
            f"{files.theta}", expected=f"{n} rows, one for each field of {files.x}",
            got=f"{table.n} rows", fix="one row per simulation, in the order of the fields",
        )  # fmt: skip


def _columns(
    table: Table, wanted: Sequence[str] | None
) -> tuple[dict[str, ColumnPrior], dict[str, str]]:
    """Priors of the columns that are parameters, and why the others are none."""
    left_out, columns = dict(table.other), describe_table(table)
    for name, column in columns.items():
        if column.missing:
            left_out[name] = f"{column.missing} rows without a finite number"
        elif column.constant:
            left_out[name] = f"constant, {column.minimum:.6g}"
        elif column.index:
            left_out[name] = "numbers the rows"
        elif wanted is not None and name not in wanted:
            left_out[name] = "not asked for"
    known = [name for name in columns if name not in left_out]
    bad = [name for name in wanted or () if name not in known]
    if bad or not known:
        got = "; ".join(
            f"{name}: {left_out.get(name, 'no such column')}" for name in bad or left_out
        )
        raise ParameterError(
            f"columns of {table.path}", expected="columns of numbers that vary, one per parameter",
            got=got or f"{list(table.names)}",
            fix=f"name some of {list(table.names)} with --parameters, or correct the table",
        )  # fmt: skip
    return {name: propose_prior(table.columns[name]) for name in known}, left_out


def _table_remarks(values: np.ndarray) -> list[str]:
    distinct = len(np.unique(values, axis=0))
    if distinct == len(values):
        return []
    return [
        f"only {distinct} of {len(values)} rows of parameters are distinct: if simulations of "
        "equal parameters share a volume, set group_size"
    ]


def _numbers_of_files(table: Table, indices: np.ndarray | None) -> str | None:
    """The column with the numbers in the names of the files, if there is one."""
    if indices is None:
        return None
    same = (n for n, c in table.columns.items() if np.array_equal(np.sort(c), np.sort(indices)))
    return next(same, None)
