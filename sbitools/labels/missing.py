"""Values that stand for "nothing was measured here": masks, NaN, infinity, healpy.UNSEEN."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .kinds import Subject

__all__ = ["is_missing", "without_mask"]

_UNSEEN = -1.6375e30  # healpy.UNSEEN
_ROUNDING = 1.2e-7  # relative, of float32


def is_missing(values: Any) -> Any:
    """Where a tensor or array holds NaN, infinity or `healpy.UNSEEN`: truth values, its shape."""
    if isinstance(values, Tensor):
        if not (values.is_floating_point() or values.is_complex()):
            return torch.zeros_like(values, dtype=torch.bool)
        bad = ~torch.isfinite(values)
        if values.is_floating_point() and values.numel() and bool(values.min() <= _UNSEEN / 2):
            bad |= (values.double() / _UNSEEN - 1).abs() <= _ROUNDING
        return bad
    if values.dtype.kind not in "fc":
        return np.zeros(values.shape, bool)
    bad = ~np.isfinite(values)
    # The search for a minimum is cheap, and NaN in it are found already.
    if values.dtype.kind == "f" and values.size and np.fmin.reduce(values, None) <= _UNSEEN / 2:
        with np.errstate(invalid="ignore"):
            bad |= np.abs(values.astype(np.float64) / _UNSEEN - 1) <= _ROUNDING
    return bad


def without_mask(values: Any, subject: Subject) -> Any:
    """The values of a masked array (numpy, astropy, torch) that has no masked value."""
    mask: Any = getattr(values, "mask", None)
    if isinstance(values, np.ma.MaskedArray):
        masked, plain = int(np.count_nonzero(np.ma.getmaskarray(values))), values.data
    elif isinstance(mask, np.ndarray | np.bool_):  # astropy's arrays, and its NDData
        masked = int(np.count_nonzero(mask))
        plain = values.unmasked if hasattr(values, "unmasked") else values.data
    elif hasattr(values, "get_mask") and hasattr(values, "get_data"):  # torch
        masked, plain = int((~values.get_mask()).sum()), values.get_data()
    else:
        return values
    if masked:
        raise subject.refuse(
            "no masked values", f"{masked} masked values",
            "fill them (.filled(value)), with a mask step of the observation model where they "
            "are not to count",
        )  # fmt: skip
    return plain
