"""SimulationStore: simulations on disk, with their provenance, states and failures.

A store is a directory: ``store.json`` (specifications), ``design-<hash>.h5`` (planned theta,
seeds and groups) and immutable ``parts/*.h5`` (see `sbitools.store.parts`). Nothing in it is ever
half-written, and memory does not grow with it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sbitools.disk.files import move_directory, temporary_name, typed
from sbitools.errors import ShapeError, StoreError
from sbitools.formats.reading import reading
from sbitools.gate.plain import as_path, text, whole
from sbitools.identity import origin
from sbitools.labels import field_values, require_same_rows
from sbitools.parameters import ParameterSpace, as_space
from sbitools.seeds import check_seed, simulation_seeds
from sbitools.simulator import FieldSpec, as_spec

from .contents import Failure, StoreContents
from .intake import as_native, checked_rows, checked_theta
from .layout import Layout
from .manifest import DesignTable, Manifest, adding, check_folder, prepare_folder
from .parts import DONE, FAILED, PENDING, PartData, row_digests, write_part

if TYPE_CHECKING:
    import xarray

__all__ = ["Failure", "SimulationStore", "default_task_size"]

_PART_BYTES = 64_000_000
_SIGNED = 256  # simulations that tell an imported set from another
_MAX_TASK = 1024
_DESIGNS = ("random", "sobol", "latin_hypercube", "imported")
_MIN_TASKS = 16  # per campaign, so that workers share the work; never a matter of their number


def default_task_size(n: int, layout: Layout, group_size: int) -> int:
    """Simulations per part: about 64 MB, at least 16 parts, whole groups."""
    nbytes = sum(spec.nbytes for spec in layout.fields.values())
    size = min(max(_PART_BYTES // nbytes, 1), _MAX_TASK, max(-(-n // _MIN_TASKS), 1))
    return max(size // group_size, 1) * group_size


class SimulationStore(StoreContents):
    """Simulations on disk. Made by `simulate`, `create`, `from_arrays`, or `open`.

    Args:
        path: directory of an existing store.
        verify: hash each part when it is first read.

    Raises:
        StoreError: if there is no store at `path`, or it is damaged.

    Example:
        >>> theta = space.design(30, seed=4)
        >>> x = theta.float() + torch.tensor([[0.5, -0.5]])
        >>> made = SimulationStore.from_arrays("own", theta, x, space, field, design="random")
        >>> again = SimulationStore("own")
        >>> len(again), torch.equal(again.read([0, 1]), x[:2])
        (30, True)
    """

    @classmethod
    def create(
        cls,
        path: str | Path,
        parameters: ParameterSpace,
        output: FieldSpec,
        theta: Tensor | np.ndarray,
        seeds: Tensor | np.ndarray | Sequence[int],
        *,
        source: FieldSpec | None = None,
        seed: int | None = None,
        group_size: int = 1,
        groups: np.ndarray | None = None,
        task_size: int | None = None,
        design: str = "random",
        simulator: str = "",
        code_version: str = "",
        identity: Mapping[str, str] | None = None,
    ) -> SimulationStore:
        """A store in which everything is planned and nothing is done yet.

        Args:
            path: of the new directory.
            parameters: the parameter space.
            output: what one simulation gives.
            theta: planned parameters, (n, P), inside the priors.
            seeds: one per simulation, (n,), in [0, 2^63).
            source: an input field stored beside x.
            seed: of the campaign, if theta and seeds derive from one.
            group_size: simulations that are made together.
            groups: group of each simulation; ``index // group_size`` if None.
            task_size: simulations per part; see `default_task_size`.
            design: how theta was drawn; p-values assume ``"random"``.
            simulator: label for provenance.
            code_version: of the simulator.
            identity: what the simulator is, see `sbitools.identity`.

        Raises:
            StoreError: if `path` is taken or the tables differ in length.
            ParameterError: if theta is outside the priors.
        """
        simulator, identity = text(simulator, "simulator"), dict(identity or {})
        layout = Layout(parameters, output, source, origin(simulator, identity))
        path = as_path(path, error=StoreError)
        group_size, task_size = _sizes(group_size, task_size)
        if design not in _DESIGNS:
            raise StoreError(
                "design", expected=f"one of {_DESIGNS}", got=repr(design),
                fix="correct the argument",
            )  # fmt: skip
        code_version = text(code_version, "code_version")
        seed = None if seed is None else check_seed(seed)
        parameters = layout.parameters
        table = _design_table(parameters, theta, seeds, groups, group_size)
        n = len(table.seeds)
        size = task_size or default_task_size(n, layout, group_size)
        manifest = Manifest(
            layout, seed, design, (n,), size, group_size, simulator, code_version,
            identity=identity,
        )  # fmt: skip
        prepare_folder(path)
        manifest.begin(path, table)
        return cls(path)

    @classmethod
    def from_arrays(
        cls,
        path: str | Path,
        theta: Tensor | np.ndarray,
        x: Tensor | np.ndarray,
        parameters: ParameterSpace,
        output: FieldSpec,
        *,
        seeds: Tensor | np.ndarray | None = None,
        group_size: int = 1,
        groups: np.ndarray | None = None,
        unit: str | None = None,
        source: FieldSpec | None = None,
        source_x: Tensor | np.ndarray | None = None,
        nonfinite: str = "error",
        task_size: int | None = None,
        design: str = "imported",
        simulator: str = "imported",
    ) -> SimulationStore:
        """Import an existing set of simulations; see `sbitools.store.imports` for files.

        Args:
            path: of the new store, new or an empty directory. It appears when everything is in:
                until then there is a hidden directory ``.<name>.*.tmp`` beside it, which only a
                killed import leaves behind.
            theta: parameters, (n, P).
            x: fields, (n, *output.shape), read slice by slice: a memory map or an HDF5 dataset
                is never loaded whole.
            parameters: the parameter space.
            output: what x is.
            seeds: one per simulation; derived from the index if None.
            group_size: number of consecutive simulations that belong together.
            groups: group of each simulation, instead of `group_size`.
            unit: unit of the values in x; checked against `output` if given.
            source: specification of a source field.
            source_x: its values, (n, *source.shape).
            nonfinite: ``"error"``, or ``"fail"`` to record such simulations as failed.
            task_size: simulations per part.
            design: ``"random"`` if theta are independent draws from the priors: p-values of
                calibration are valid for these only.
            simulator: label for provenance.

        Raises:
            StoreError: for NaN or Inf (the message names the row), different lengths, or a taken
                path; nothing is left behind.
            ShapeError: for a wrong shape, dtype or unit.
            ParameterError: for theta outside the priors.
        """
        parameters, path = as_space(parameters), as_path(path, error=StoreError)
        for spec in (output, *([] if source is None else [source])):
            as_spec(spec)
        if nonfinite not in ("error", "fail"):
            raise StoreError(
                "nonfinite", expected="'error' or 'fail'", got=repr(nonfinite),
                fix="'fail' records simulations with NaN or Inf as failed",
            )  # fmt: skip
        require_same_rows(
            {"theta": theta, "x": x, "source_x": source_x, "seeds": seeds, "groups": groups},
            StoreError,
            (*parameters.names, *output.dims, *(() if source is None else source.dims)),
        )  # fmt: skip
        theta = checked_theta(parameters, theta)
        x = field_values(x, output, "x", ShapeError)
        if source is not None and source_x is not None:
            source_x = field_values(source_x, source, "source", ShapeError)
        if seeds is None:
            seeds = simulation_seeds(0, range(len(theta)))
        if unit is not None:
            output.check_unit(unit)
        with typed(path):
            target, here = path.resolve(), Path.cwd()
        check_folder(target, here)
        temp = temporary_name(target)
        try:
            store = cls.create(
                temp, parameters, output, theta, seeds, source=source, group_size=group_size,
                groups=groups, task_size=task_size, design=design, simulator=simulator,
            )  # fmt: skip
            store._import(x, source_x, nonfinite)
            store.close()
            move_directory(temp, target)
        finally:
            shutil.rmtree(temp, ignore_errors=True)  # nothing is there after the move
        return cls(path)

    def _import(self, x: Any, source_x: Any, nonfinite: str) -> None:
        for name, array in (("x", x), ("source", source_x)):
            sized = hasattr(array, "__len__") and getattr(array, "shape", None) != ()
            rows = len(array) if sized else 0
            if (name == "x" or array is not None) and rows != len(self):
                raise StoreError(
                    name, expected=f"{len(self)} rows, as many as theta", got=f"{rows} rows",
                    fix="give one row per row of the parameter table",
                )  # fmt: skip
        for start, stop in self.manifest.tasks():
            rows = slice(start, stop)
            with reading("x or source"):
                fields = x[rows], None if source_x is None else source_x[rows]
            if start == 0:
                self._sign(x, source_x)
            self.add_many(start, *fields, nonfinite=nonfinite)

    def _sign(self, x: Any, source_x: Any) -> None:
        """Nobody says who made an imported set: it is known by simulations from all over it."""
        h = hashlib.sha256()
        chosen = np.unique(np.linspace(0, len(self) - 1, min(len(self), _SIGNED)).astype(int))
        for array, spec in ((x, self.output), (source_x, self.source)):
            if array is None:
                continue
            for i in chosen:
                with reading("x or source"):
                    row = array[int(i) : int(i) + 1]
                values = as_native(row, "x", spec)
                if values.dtype.kind in "fiuc":  # others are refused later
                    h.update(values.reshape(-1).view(np.uint8).data)
        m, table = self.manifest, {"simulations": h.hexdigest()[:32]}
        layout = replace(m.layout, origin=origin(m.simulator, table))
        replace(m, layout=layout, identity=table).write_texts(self.path)
        self._load()

    def add(
        self,
        index: int,
        x: Tensor | np.ndarray,
        source: Tensor | np.ndarray | None = None,
        *,
        unit: str | None = None,
    ) -> None:
        """Add the result of simulation `index`, made elsewhere; see `add_many`.

        Args:
            index: of the simulation in this store's design.
            x: shape output.shape.
            source: shape source.shape, if the store keeps one.
            unit: of x; checked if given.
        """
        one = None
        if source is not None:
            one = as_native(source, "source", self.source, batch=False)[None]
        self.add_many(index, as_native(x, "x", self.output, batch=False)[None], one, unit=unit)

    def add_many(
        self,
        start: int,
        x: Tensor | np.ndarray,
        source: Tensor | np.ndarray | None = None,
        *,
        unit: str | None = None,
        nonfinite: str = "error",
    ) -> None:
        """Add simulations `start`, `start` + 1, ... as one part.

        Adding the same content again does nothing.

        Args:
            start: index of the first.
            x: (k, *output.shape).
            source: (k, *source.shape), if the store keeps one.
            unit: of x; checked if given.
            nonfinite: ``"error"``, or ``"fail"`` to record such simulations as failed.

        Raises:
            ShapeError: for a wrong shape, dtype or unit.
            StoreError: for values that are not finite, other content than was added before, an
                index outside the design, a running campaign, or a full disk.
        """
        start = whole(start, "index of a simulation", error=StoreError)
        data = checked_rows(self.layout, self._table, start, x, source, unit, nonfinite)
        self._write(data)

    def fail(self, index: int, message: str) -> None:
        """Record that simulation `index`, made elsewhere, failed; a later `add` replaces it."""
        index = whole(index, "index of a simulation", error=StoreError)
        message = text(message, "message", error=StoreError)
        fields = {
            k: np.zeros((1, *spec.shape), spec.dtype) for k, spec in self.layout.fields.items()
        }
        data = checked_rows(
            self.layout, self._table, index, fields["x"], fields.get("source"), None, "error"
        )
        data.state[:], data.errors[:] = FAILED, [message]
        self.refresh()
        if self._catalog.state[index] == PENDING:
            self._write(data)

    def _write(self, data: PartData) -> None:
        rows, digests = slice(data.start, data.stop), row_digests(data)
        with adding(self.path):
            self.refresh()
            equal = (self._catalog.digests[rows] == digests).all(1)
            clash = (self._catalog.state[rows] == DONE) & (data.state == DONE) & ~equal
            if clash.any():
                raise StoreError(
                    f"simulation {data.start + int(clash.argmax())}",
                    expected="the content that was added before", got="other content",
                    fix="a finished simulation is never replaced: add it to a new store",
                )  # fmt: skip
            if not equal.all():
                path = write_part(self.path / "parts", self.layout, data, digests)
                self._catalog.add(path.name)

    def to_xarray(self) -> xarray.Dataset:
        """All finished simulations; see `sbitools.store.export.to_xarray`."""
        from .export import to_xarray

        return to_xarray(self)

    def export_design(self, path: str | Path) -> Path:
        """Write index, seed and theta as .csv or .npz; see `sbitools.store.export`."""
        from .export import export_design

        return export_design(self, path)

    def compact(self) -> None:
        """Merge the small parts that `add` made; see `sbitools.store.export.compact`."""
        from .export import compact

        compact(self)


def _sizes(group_size: Any, task_size: Any) -> tuple[int, int | None]:
    group_size = whole(group_size, "group_size", least=1, error=StoreError)
    if task_size is not None:
        task_size = whole(task_size, "task_size", least=1, error=StoreError)
    return group_size, task_size


def _design_table(
    parameters: ParameterSpace,
    theta: Tensor | np.ndarray,
    seeds: Tensor | np.ndarray | Sequence[int],
    groups: np.ndarray | None,
    group_size: int,
) -> DesignTable:
    arrays = {"theta": theta, "seeds": seeds, "groups": groups}
    require_same_rows(arrays, StoreError, parameters.names)
    values = checked_theta(parameters, theta)
    numbers = as_native(seeds, "seeds").reshape(-1)
    if groups is None:
        groups = np.arange(len(values)) // max(group_size, 1)
    groups = as_native(groups, "groups").reshape(-1)
    whole = numbers.dtype.kind in "iu" and (numbers.astype(np.int64) >= 0).all()
    whole = whole and groups.dtype.kind in "iu"
    lengths = len(values), len(numbers), len(groups)
    if len(set(lengths)) != 1 or not lengths[0] or not whole or group_size < 1:
        raise StoreError(
            "theta, seeds, groups", expected="one row, one seed in [0, 2^63), one group each",
            got=f"{lengths[0]} rows, {lengths[1]} seeds ({numbers.dtype}), {lengths[2]} groups, "
            f"group_size {group_size}", fix="give tables of equal length",
        )  # fmt: skip
    return DesignTable(values, numbers.astype(np.int64), groups.astype(np.int64))
