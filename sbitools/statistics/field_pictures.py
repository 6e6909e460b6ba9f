"""One field of each set as a picture: an image, or a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .by_axes import AxesPlan

if TYPE_CHECKING:
    from sbitools.simulator import FieldSpec

__all__ = ["field_pictures"]

_IMAGE, _LINE = 512, 4096  # cells a side, cells of a line
_NAMES = {"reference": "reference", "emulator": "emulator", "again": "emulator, other seed"}


def field_pictures(
    spec: FieldSpec, plan: AxesPlan, fields: dict[str, np.ndarray], names: Sequence[str]
) -> dict[str, Any]:
    """``fields`` with their label, range and caption.

    Args:
        spec: of the fields.
        plan: how they are cut.
        fields: one of ``"reference"``, ``"emulator"`` and ``"again"`` each, of one theta.
        names: of the channels.
    """
    shown = {_NAMES[name]: plan.cut(x[None])[0] for name, x in fields.items()}
    unit = f" [{spec.unit}]" if spec.unit else ""
    if plan.kind == "vector":
        pictures, what, along = dict(shown), "", "entry"
    else:
        pictures = {name: channels[0] for name, channels in shown.items()}
        what, along = f", {names[0]}" if names[0] else "", "cell"
    if plan.kind == "sphere":
        pictures = {name: _equal_area(p, plan.ordering) for name, p in pictures.items()}
        what += "; longitude, sin(latitude)"
    elif len(plan.shape) > 1:
        keep = sorted(np.argsort(plan.shape, kind="stable")[::-1][:2]) if (
            len(set(plan.shape)) > 1) else [0, 1]  # fmt: skip
        place = tuple(slice(_IMAGE) if i in keep else n // 2 for i, n in enumerate(plan.shape))
        pictures = {name: p[place] for name, p in pictures.items()}
        what += ", one slice" if len(plan.shape) > 2 else ""
        what += f", the first {_IMAGE} cells" if max(plan.shape) > _IMAGE else ""
    else:
        pictures = {name: p[:_LINE] for name, p in pictures.items()}
        what += f", the first {_LINE} cells" if max(plan.shape, default=0) > _LINE else ""
    everything = np.concatenate([p.ravel() for p in pictures.values()])
    low, high = np.quantile(everything, [0.005, 0.995])
    power = _power_of_ten(max(abs(low), abs(high)))
    if power:  # numbers on axes stay short
        pictures = {name: p / 10.0**power for name, p in pictures.items()}
        low, high, unit = (
            low / 10.0**power,
            high / 10.0**power,
            f" [1e{power} {spec.unit}".rstrip() + "]",
        )
    pictures = {name: p.T if p.ndim == 2 and p.shape[1] > 3 * p.shape[0] else p
                for name, p in pictures.items()}  # fmt: skip
    out: dict[str, Any] = {
        "fields": pictures, "fields_label": f"{spec.name}{unit}{what}", "fields_x_label": along,
        "fields_caption": "A held-out simulation, and two emulated ones of the same parameters "
        "and other seeds: they should look alike in kind, no feature is expected at the same "
        "place.",
    }  # fmt: skip
    return out | ({"fields_range": np.array([low, high])} if high > low else {})


def _power_of_ten(size: float) -> int:
    """What to divide by; 0 for sizes that are easily read."""
    return 0 if size == 0 or 1e-3 <= size < 1e5 else math.floor(math.log10(size))


def _equal_area(values: np.ndarray, ordering: str, size: int = 240) -> np.ndarray:
    """Longitude from 180 to -180 degrees by sin(latitude), (size, size / 2)."""
    import healpy

    phi = np.pi - (np.arange(size) + 0.5) / size * 2 * np.pi
    theta = np.arccos((np.arange(size // 2) + 0.5) / (size // 2) * 2 - 1)
    nside = math.isqrt(len(values) // 12)
    pixels = healpy.ang2pix(nside, theta[None, :], phi[:, None], nest=ordering == "nested")
    return values[pixels]
