"""Mean and spread of observed fields, cell by cell: what every network's scale is made of.

All of it in float64, about the first field, batch by batch (Chan, Golub & LeVeque 1983,
"Algorithms for computing the sample variance", eq. 2.1): neither a large offset nor a small unit
costs a digit, and a constant has a spread of exactly 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sbitools.errors import TrainingError
from sbitools.simulator import FieldSpec

__all__ = ["Moments", "measure", "varies"]

# What varies by fewer units in the last place than this is a constant, and rounding.
_LAST_PLACES = 8

# Deviations whose squares float64 holds with all digits.
_SMALLEST, _LARGEST = 1e-150, 1e150


@dataclass(frozen=True)
class Moments:
    """Of observed fields, each of the shape of one field.

    Attributes:
        mean: float64.
        std: float64; exactly 0 where nothing varies but the last digits.
        common: where a cell that never varied holds a value that other cells take and leave: it
            is not filled, it is one of a sparse field that happened not to vary.
    """

    mean: Tensor
    std: Tensor
    common: Tensor


def varies(mean: Tensor, std: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Where values vary by more than their rounding; NaN counts as varying.

    Args:
        mean: of each cell.
        std: of each cell.
        dtype: of the values; that of `mean` if None.
    """
    kind = dtype or mean.dtype
    eps = torch.finfo(kind if kind.is_floating_point else torch.float64).eps
    return ~(std <= _LAST_PLACES * eps * mean.abs())


def measure(batches: Iterable[Tensor], spec: FieldSpec) -> Moments:
    """Mean and standard deviation of fields.

    Args:
        batches: fields, (B, *shape) each, of any real dtype.
        spec: of the observed field, for messages.

    Raises:
        TrainingError: if a value is not finite, if squares of deviations leave float64, or if no
            cell varies by more than its rounding.
    """
    count, dtype = 0, torch.float64
    first = mean = total = most = torch.empty(0, dtype=torch.float64)
    for batch in batches:
        if not len(batch):
            continue
        dtype, y = batch.dtype, batch.double()
        if not bool(torch.isfinite(y).all()):
            raise _refused(spec, "finite values", f"{int((~torch.isfinite(y)).sum())} that are not"
                           f" in {len(y)} observed fields")  # fmt: skip
        if not count:
            first, mean, total, most = y[0].clone(), *torch.zeros(3, *y.shape[1:]).to(y)
        y = y - first
        here = y.mean(0)
        step = here - mean
        share = len(y) / (count + len(y))
        total = total + ((y - here) ** 2).sum(0) + step**2 * (count * share)
        mean, most = mean + step * share, most.maximum(y.abs().amax(0))
        count += len(y)
    return _finished(first, mean, (total / max(count, 1)).sqrt(), most, dtype, spec)


def _finished(
    first: Tensor, mean: Tensor, std: Tensor, most: Tensor, dtype: torch.dtype, spec: FieldSpec
) -> Moments:
    moving = varies(first, most, dtype)
    lost = moving & ~((most < _LARGEST) & (std > _SMALLEST))
    if bool(lost.any()):
        raise _refused(spec, f"deviations between {_SMALLEST:g} and {_LARGEST:g}, whose squares "
                       "float64 holds", f"{float(most[lost].max()):.3g} in {int(lost.sum())} "
                       "cells")  # fmt: skip
    mean = first + mean
    moving &= varies(mean, std, dtype)
    if first.numel() and not bool(moving.any()):
        raise _refused(spec, f"a cell that varies by more than the rounding of {spec.dtype}",
                       f"none of {first.numel()}")  # fmt: skip
    common = ~moving & torch.isin(first, first[moving])
    return Moments(mean, std.where(moving, torch.zeros_like(std)), common)


def _refused(spec: FieldSpec, expected: str, got: str) -> TrainingError:
    unit = f"unit {spec.unit!r}" if spec.unit else "no unit"
    more = "" if spec.dtype == "float64" else ", or declare the field as float64"
    return TrainingError(
        f"observed x ({spec.name}, {spec.dtype}, {unit})", expected=expected, got=got,
        fix="simulate in another unit, in which x is of order 1 (or its logarithm), or take out a "
        f"constant offset{more}",
    )  # fmt: skip
