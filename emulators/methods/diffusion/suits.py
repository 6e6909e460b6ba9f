"""Which fields the emulator of any field is for, and why not others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sbitools.simulator import FieldSpec

__all__ = ["FEWEST", "refused"]

FEWEST = 16
"""Simulations from which on there is something to learn, and to hold out."""

_AXES = 3
_MOST = 1 << 24  # cells of a field: noise and some copies of it in float64 fit into 4 GB
_ALONE = 'or train on the reference simulations alone: method = "none"'


def refused(output: FieldSpec, source: FieldSpec | None) -> tuple[str, str, str] | None:
    """What is expected, what came and what to do instead; None for a field that it can learn."""
    kinds, space = output.kinds, len(output.space)
    if "healpix" in kinds:
        return (
            "a grid of one to three axes", "a HEALPix map",
            f"use a method for maps on the sphere, {_ALONE}",
        )  # fmt: skip
    if not 1 <= space <= _AXES:
        return (
            "one to three axes of space", f"{space}: {dict(zip(output.dims, kinds, strict=True))}",
            f"say which axes are channels, FieldSpec(..., axes=...), {_ALONE}",
        )  # fmt: skip
    if not np.issubdtype(np.dtype(output.dtype), np.floating):
        return (
            "real numbers, float32 or float64", output.dtype,
            "store counts as float32, and complex numbers as two channels",
        )  # fmt: skip
    cells = int(np.prod(output.shape))
    if cells > _MOST:
        return (
            f"{_MOST} cells or fewer", f"{cells}", f"coarsen the fields, {_ALONE}"
        )  # fmt: skip
    return None if source is None else _refused_source(output, source)


def _refused_source(output: FieldSpec, source: FieldSpec) -> tuple[str, str, str] | None:
    leave = f"or leave the source out, and x is emulated as a whole, {_ALONE}"
    grids = [{f.dims[i]: f.shape[i] for i in f.space} for f in (output, source)]
    names, cells = [list(g) for g in grids], [list(g.values()) for g in grids]
    what = f"a source {source.name!r}"
    fine = len(cells[0]) == len(cells[1]) and "healpix" not in source.kinds
    if not fine or any(n % m for n, m in zip(*cells, strict=True)):
        return (
            f"a source with the axes of space of the field, {grids[0]}, each with as many cells "
            "or a whole fraction of them",
            f"{what} with {dict(zip(source.dims, source.shape, strict=True))}",
            f"bring it to such a grid (numbers without a place are parameters), {leave}",
        )  # fmt: skip
    if names[0] != names[1] and sorted(names[0]) == sorted(names[1]):
        return (
            f"a source with axes in the order of the field, {names[0]}", f"{what} with {names[1]}",
            "transpose one of them",
        )  # fmt: skip
    if np.issubdtype(np.dtype(source.dtype), np.complexfloating):
        return "a source of real numbers", f"{what} of {source.dtype}", "store two channels"
    channels = int(np.prod(source.shape)) // int(np.prod(cells[1]))
    if channels * int(np.prod(cells[0])) > _MOST:
        return (
            f"a source of {_MOST} cells or fewer on the grid of the field",
            f"{what} of {channels} channels", f"coarsen the fields, {leave}",
        )  # fmt: skip
    return None
