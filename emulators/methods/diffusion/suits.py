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
    if source is not None:
        return (
            "fields that follow from parameters and chance alone", f"a source, {source.name!r}",
            f"declare the source a channel of the field, {_ALONE}",
        )  # fmt: skip
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
    return None
