"""Noise with a given power spectrum, and the removal of modes that an instrument does not see."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sbitools import seeds as seeds_
from sbitools.axes import LINE_OF_SIGHT
from sbitools.disk.files import parse_json, read_file, write_atomic
from sbitools.errors import ObservationError
from sbitools.gate.plain import as_path
from sbitools.simulator import FieldSpec

from .spectral_filter import ModePower, cube_amplitude, plane_amplitude
from .step import Step, check, real

__all__ = ["SpectralNoise"]

_MAX_FILE = 64 << 20

# Numbers of the slabs of one length, and sqrt(P / v) of their modes.
_Filters = list[tuple[list[int], Tensor]]


class SpectralNoise(Step):
    """Gaussian noise of power Delta^2_N(k); modes with infinite noise are removed from the field.

    The field has the axes (x, y, line of sight), periodic on the sky, or is a plane (x, y) across
    the line of sight, one cell thick. Along the line of sight it may consist of slabs, each with
    a table of its own, and transformed on its own; their noises are independent. In each slab

        x(k) -> x(k) + n(k) if the mode k is seen, else 0,   <|n(k)|^2> = V 2 pi^2 Delta^2_N / k^3.

    Not seen are modes outside the table or where it is infinite or reaches `limit` (the recipe of
    Neutsch, Heneka & Brueggen 2022, arXiv:2201.07587), those in the foreground wedge,
    |k_par| < slope k_perp + buffer (e.g. Pober et al. 2014, arXiv:1310.7031), and those whose
    k_perp no baseline measures. The mean of the field is never seen.

    The noise of a plane is that of one plane of a cube with `depth` cells along the line of sight
    (`spectral_filter` derives it). Of the signal, a plane keeps every k_perp that is seen with any
    k_par: which part of it came from modes along the line of sight that are lost cannot be told
    from the plane alone. A wedge that matters is to be studied with cubes and light cones.

    Fields are observed one by one, in about twelve times the memory of one, whatever the batch;
    a filter of half its size is kept.

    Args:
        k: nodes of the table in 1/`length`, ascending, (n_k,).
        delta2: Delta^2_N in (`unit`)^2, positive, infinite where nothing is measured,
            (n_slabs, n_k); or (n_k,) for one slab.
        cell_size: side of a cell in `length`, or (on the sky, along the line of sight).
        edges: cells at which slabs begin, and where the last one ends, (n_slabs + 1,), the first
            one 0; None for one slab of any length.
        variable: ``"k"``, or ``"k_perp"`` if noise depends on that alone: then
            P_N = 2 pi^2 Delta^2_N(k_perp) / k_perp^3.
        limit: values of the table from which on modes are removed, in (`unit`)^2; None: no limit.
        wedge_slope: one number, or one per slab; 0 with a buffer of 0 removes nothing.
        wedge_buffer: in 1/`length`.
        k_perp_min: of the shortest baseline, in 1/`length`; one number, or one per slab.
        k_perp_max: of the longest one, the angular resolution; None: no limit.
        depth: cells along the line of sight of the cube that a plane belongs to; None: as many as
            along x.
        unit: of the field.
        length: ``"Mpc"`` or ``"Mpc/h"``.

    Raises:
        ObservationError: for values that cannot be used.
    """

    kind: ClassVar[str] = "spectral_noise"
    random: ClassVar[bool] = True

    def __init__(
        self,
        k: ArrayLike,
        delta2: ArrayLike | Sequence[Any],
        cell_size: float | Sequence[float],
        *,
        edges: Sequence[int] | None = None,
        variable: str = "k",
        limit: float | None = None,
        wedge_slope: ArrayLike = 0.0,
        wedge_buffer: float = 0.0,
        k_perp_min: ArrayLike = 0.0,
        k_perp_max: ArrayLike | Sequence[Any] | None = None,
        depth: int | None = None,
        unit: str = "mK",
        length: str = "Mpc",
    ) -> None:
        self.unit, self.length, self.depth = unit, length, depth
        power = np.atleast_2d(_numbers(delta2, "delta2"))
        n = len(power)
        self.edges = None if edges is None else _whole(edges)
        self.modes = ModePower(
            np.atleast_1d(_numbers(k, "k")), power, variable, _number(limit, "limit"),
            _per_slab(wedge_slope, n, "wedge_slope"), _number(wedge_buffer, "wedge_buffer"),
            _per_slab(k_perp_min, n, "k_perp_min"), _per_slab(k_perp_max, n, "k_perp_max"),
        )  # fmt: skip
        cells = np.atleast_1d(_numbers(cell_size, "cell_size"))
        check(cells.shape in ((1,), (2,)), self.kind, "one or two cell sizes", cell_size)
        self.cell = (float(cells[0]), float(cells[-1]))
        _check_table(self.modes)
        self._check_geometry()
        self._kept: tuple[object, _Filters] | None = None

    def _check_geometry(self) -> None:
        n, edges = len(self.modes.delta2), self.edges
        good = all(0 < side < math.inf for side in self.cell)
        check(good, self.kind, "positive finite cell sizes", self.cell)
        if edges is None:
            check(n == 1, self.kind, "edges of the slabs, as there are several", None)
        else:
            ascending = edges[:1] == (0,) and all(np.diff(edges) > 0) and len(edges) == n + 1
            check(ascending, self.kind, f"{n + 1} ascending edges, the first one 0", edges)
        whole = self.depth is None or (isinstance(self.depth, int) and self.depth >= 1)
        check(whole, self.kind, "a depth of 1 or more cells", self.depth)
        known = self.length in ("Mpc", "Mpc/h")
        check(known, self.kind, "a length in 'Mpc' or 'Mpc/h'", repr(self.length))
        check(isinstance(self.unit, str), self.kind, "a unit as text", repr(self.unit))

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field."""
        real(spec, self.kind)
        space = len(spec.shape) in (2, 3) and len(spec.space) == len(spec.shape)
        check(space, self.kind, "axes (x, y) or (x, y, line of sight)", spec.dims)
        apart = "evolving" not in spec.kinds[:2]
        check(apart, self.kind, f"{LINE_OF_SIGHT!r} as third and last axis, if at all", spec.dims)
        check(spec.unit == self.unit, self.kind, f"a field in {self.unit!r}", repr(spec.unit))
        self._slabs(spec.shape)
        return spec

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Remove modes and add noise, one field after the other: bit-equal whatever the batch."""
        rows = []
        for i, field in enumerate(x):
            white = seeds_.normal(seeds[i : i + 1], field.shape)[0].to(field)
            rows.append(self._observe(field, white))
        return torch.stack(rows) if rows else x

    def remove(self, x: Tensor) -> Tensor:
        """x (B, *shape) without the modes that are not seen, and without noise.

        It is what real data need that still hold such modes.
        """
        return torch.stack([self._observe(field, None) for field in x]) if len(x) else x

    def _observe(self, field: Tensor, white: Tensor | None) -> Tensor:
        edges = self._slabs(tuple(field.shape))
        out = [field] * (len(edges) - 1)
        for slabs, amplitude in self._filters(field):
            modes = torch.where(amplitude > 0, _transform(field, edges, slabs), 0)
            if white is not None:
                modes = modes + _transform(white, edges, slabs) * amplitude
            sides = (*field.shape[:-1], edges[slabs[0] + 1] - edges[slabs[0]])
            axes = tuple(range(1, modes.ndim))
            for i, piece in zip(slabs, torch.fft.irfftn(modes, s=sides, dim=axes), strict=True):
                out[i] = piece
        return torch.cat(out, dim=-1)

    def _slabs(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Edges of the slabs along the last axis of a field of this shape."""
        if len(shape) == 2 or self.edges is None:
            one = len(self.modes.delta2) == 1
            check(one, self.kind, "one slab for a plane", f"{len(self.modes.delta2)}")
            return (0, shape[-1])
        fits = self.edges[-1] == shape[-1]
        check(fits, self.kind, f"{self.edges[-1]} cells along the line of sight", shape)
        return self.edges

    def _filters(self, field: Tensor) -> _Filters:
        """Slabs of equal length are transformed together, so they share an entry."""
        key = (field.shape, field.dtype, field.device)
        if self._kept is None or self._kept[0] != key:
            edges, shape = self._slabs(tuple(field.shape)), tuple(field.shape)
            lengths = np.diff(edges)
            groups = [np.flatnonzero(lengths == n).tolist() for n in np.unique(lengths)]
            made = [
                (
                    slabs,
                    torch.stack([_cast(self._amplitude(i, shape, edges), field) for i in slabs]),
                )
                for slabs in groups
            ]
            self._kept = (key, made)
        return self._kept[1]

    def _amplitude(self, slab: int, shape: tuple[int, ...], edges: tuple[int, ...]) -> Tensor:
        if len(shape) == 2:
            plane = plane_amplitude(self.modes, shape, self.cell, self.depth or shape[0])
            return torch.from_numpy(plane)
        sides = (*shape[:2], edges[slab + 1] - edges[slab])
        return torch.from_numpy(cube_amplitude(self.modes, slab, sides, self.cell))

    def to_dict(self) -> dict[str, Any]:
        """The whole table, so that no file is needed; None stands for infinity, as in JSON."""
        m = self.modes
        return {
            "kind": self.kind, "k": _plain(m.k), "delta2": _plain(m.delta2),
            "cell_size": list(self.cell), "edges": None if self.edges is None else [*self.edges],
            "variable": m.variable, "limit": _plain(m.limit), "wedge_slope": _plain(m.slope),
            "wedge_buffer": m.buffer, "k_perp_min": _plain(m.k_perp_min),
            "k_perp_max": _plain(m.k_perp_max), "depth": self.depth, "unit": self.unit,
            "length": self.length,
        }  # fmt: skip

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """From `to_dict`, or from ``{"file": "noise.json"}`` of a config: see `write`."""
        if "file" not in values:
            return cls(**values)
        check(set(values) == {"file"}, cls.kind, "nothing beside a file", sorted(values))
        return cls(**_read(as_path(values["file"], "noise file")))

    def write(self, path: str | Path) -> None:
        """Write `to_dict` as JSON, whole or not at all, for a config to name.

        Raises:
            StoreError: if the disk refuses.
        """
        write_atomic(as_path(path), json.dumps(self.to_dict(), allow_nan=False).encode())


def _cast(amplitude: Tensor, field: Tensor) -> Tensor:
    """In the dtype of the field; 0 stays what is removed alone, in whatever unit."""
    out = amplitude.to(field)
    least = torch.full_like(out, torch.finfo(out.dtype).tiny)
    return torch.where(amplitude.to(field.device) > 0, out.maximum(least), out)


def _transform(x: Tensor, edges: tuple[int, ...], slabs: list[int]) -> Tensor:
    """Modes of slabs of equal length, (slabs, *modes)."""
    pieces = torch.stack([x[..., edges[i] : edges[i + 1]] for i in slabs])
    return torch.fft.rfftn(pieces, dim=tuple(range(1, pieces.ndim)))


def _read(path: Path) -> dict[str, Any]:
    """What `SpectralNoise.write` wrote, without the kind."""
    kind = SpectralNoise.kind
    try:
        content = parse_json(read_file(path, most=_MAX_FILE))
    except ValueError:  # truncated, or not JSON
        content = None
    if not isinstance(content, dict) or content.pop("kind", None) != kind or "file" in content:
        raise _wrong("a whole file that SpectralNoise.write made", path)
    return content


def _wrong(expected: str, got: object) -> ObservationError:
    return ObservationError(
        f"observe step {SpectralNoise.kind!r}", expected=expected, got=str(got),
        fix="correct the step",
    )  # fmt: skip


def _numbers(values: Any, name: str) -> np.ndarray:
    """As float64; None is infinity."""
    try:
        return np.array(_infinite(values), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong(f"numbers for {name}", str(values)[:80]) from error


def _infinite(values: Any) -> Any:
    if values is None:
        return math.inf
    return [_infinite(v) for v in values] if isinstance(values, list | tuple) else values


def _number(value: Any, name: str) -> float:
    number = _numbers(value, name)
    check(number.ndim == 0, SpectralNoise.kind, f"one number for {name}", f"{str(value)[:80]}")
    return float(number)


def _per_slab(values: Any, n: int, name: str) -> np.ndarray:
    array = _numbers(values, name)
    fits = array.shape in ((), (n,))
    check(fits, SpectralNoise.kind, f"{name}: one number, or one for each of {n} slabs",
          f"shape {array.shape}")  # fmt: skip
    return np.broadcast_to(array, (n,))


def _whole(edges: Any) -> tuple[int, ...]:
    numbers = np.atleast_1d(_numbers(edges, "edges"))
    whole = numbers.ndim == 1 and bool((numbers == np.floor(numbers)).all())
    check(whole and bool(np.isfinite(numbers).all()), SpectralNoise.kind, "whole edges", edges)
    return tuple(int(edge) for edge in numbers)


def _plain(values: np.ndarray | float) -> Any:
    if isinstance(values, np.ndarray):
        return [_plain(v) for v in values.tolist()] if values.ndim == 1 else [*map(_plain, values)]
    return None if values == math.inf else values


def _check_table(m: ModePower) -> None:
    kind = SpectralNoise.kind
    nodes = m.k.ndim == 1 and len(m.k) >= 2 and bool((np.diff(m.k) > 0).all())
    check(nodes and m.k[0] > 0 and bool(np.isfinite(m.k).all()), kind,
          "two or more ascending positive nodes k", f"{m.k.tolist()}"[:80])  # fmt: skip
    shape = m.delta2.ndim == 2 and m.delta2.shape[1] == len(m.k)
    check(shape, kind, f"delta2 (n_slabs, {len(m.k)})", f"shape {m.delta2.shape}")
    bad = ~(m.delta2 > 0)  # also NaN
    check(not bad.any(), kind, "positive delta2, infinite where nothing is measured",
          f"{m.delta2[bad][:3].tolist()} and {int(bad.sum())} such in all")  # fmt: skip
    check(m.variable in ("k", "k_perp"), kind, "variable 'k' or 'k_perp'", repr(m.variable))
    check(m.limit > 0, kind, "a positive limit, or None", m.limit)
    flat = np.append(m.slope, m.buffer)
    check(bool(((flat >= 0) & (flat < np.inf)).all()), kind,
          "a wedge of slope and buffer 0 or more", f"{m.slope.tolist()}, {m.buffer}")  # fmt: skip
    order = bool(((m.k_perp_min >= 0) & (m.k_perp_min < m.k_perp_max)).all())
    check(
        order,
        kind,
        "0 <= k_perp_min < k_perp_max",
        f"{m.k_perp_min.tolist()}, {m.k_perp_max.tolist()}",
    )
