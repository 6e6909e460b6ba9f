"""Which fields the emulator of data vectors is for, and why not others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sbitools.simulator import FieldSpec

__all__ = ["FEWEST", "rank", "refused"]

FEWEST = 32
"""Simulations from which on there is something to learn, and to hold out."""

_MOST = 128  # numbers of which a correlation matrix can be learned
_LONG = 64  # cells of one axis of space from which on shifts tell more than a matrix
_ALONE = 'train on the reference simulations alone: method = "none"'


def refused(output: FieldSpec, source: FieldSpec | None) -> tuple[str, str, str] | None:
    """What is expected, what came and what to do instead; None for what it can learn."""
    numbers = math.prod(output.shape)
    if source is not None:
        return (
            "data vectors that follow from parameters and chance alone",
            f"a source, {source.name!r}", f"join the source to the vector, or {_ALONE}",
        )  # fmt: skip
    if np.issubdtype(np.dtype(output.dtype), np.complexfloating):
        return (
            "real numbers", output.dtype,
            f"store real and imaginary parts as two channels, or {_ALONE}",
        )  # fmt: skip
    if numbers > _MOST:
        return (
            f"{_MOST} numbers or fewer", f"{numbers}",
            'use method = "diffusion" for fields on a grid, summarise the data first, or '
            + _ALONE,
        )  # fmt: skip
    return None


def rank(output: FieldSpec) -> tuple[int, str]:
    """How well it suits what is not refused, and a sentence for the report."""
    numbers, space = math.prod(output.shape), [output.shape[i] for i in output.space]
    if "healpix" in output.kinds:
        return 0, f"a HEALPix map of {numbers} pixels, which it takes for a vector"
    if len(space) > 1:
        return 0, f"{numbers} numbers on {len(space)} axes of space, which it takes for a vector"
    if len(space) == 1 and space[0] > _LONG:
        return 0, f"an axis of {space[0]} cells, whose shifts it does not know"
    return 2, f"a data vector of {numbers} {'number' if numbers == 1 else 'numbers'}"
