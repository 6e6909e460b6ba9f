"""Steps that work on the cells of a field."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sbitools import seeds as seeds_
from sbitools.disk.files import read_file
from sbitools.errors import ObservationError
from sbitools.gate import plain
from sbitools.gate.arrays import as_native
from sbitools.gate.plain import as_path, text, whole
from sbitools.labels import is_missing
from sbitools.simulator import FieldSpec

from .step import Step, along, check, checked_axes, real

__all__ = ["Coarsen", "Mask", "Noise", "Scale", "Smooth"]


def number(value: Any, what: str, above: float | None = None) -> float:
    """A finite number; a whole one keeps its kind, and with it the digest of the step."""
    checked = plain.real(value, what, above=above, error=ObservationError)
    return value if type(value) is int else checked


def _but_all(axes: tuple[int, ...], spec: FieldSpec) -> tuple[int, ...] | None:
    """None for all the axes of a field: how the steps of all such fields have been written."""
    return None if len(axes) == len(spec.shape) else axes


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    listed = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    return {k: v for k, v in listed.items() if v is not None}


@dataclass(frozen=True)
class Smooth(Step):
    """Gaussian smoothing along the axes of space: channels stay apart.

    A periodic axis closes on itself; where an axis ends (one that is open, or a line of sight),
    the field is continued by its mirror image. The axis of a data vector, such as a spectrum's,
    counts as periodic space unless its `FieldSpec` says otherwise.

    Args:
        radius: standard deviation of the kernel in cells.
        axes: numbers of the axes of one field; None for those of space, see `FieldSpec.space`.
        mirrored: those of them that end; None for what the field's specification says.
    """

    radius: float
    axes: tuple[int, ...] | None = None
    mirrored: tuple[int, ...] | None = None
    kind: ClassVar[str] = "smooth"

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "radius", number(self.radius, "observe step 'smooth': radius in cells", above=0))
        put(self, "axes", checked_axes(self.axes, self.kind))
        put(self, "mirrored", checked_axes(self.mirrored or None, self.kind))

    def bind(self, spec: FieldSpec) -> Self:
        """With the axes of space of this field."""
        axes = along(self.axes, spec, self.kind)
        if self.axes is None:  # bound once, by the field that it was made for
            ends = tuple(a for a in axes if spec.kinds[a] != "periodic") or None
            return replace(self, axes=_but_all(axes, spec), mirrored=self.mirrored or ends)
        return self

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field."""
        axes = along(self.axes, spec, self.kind)
        ends = set(self.mirrored or ())
        check(ends <= set(axes), self.kind, f"mirrored axes out of {axes}", self.mirrored)
        return real(spec, self.kind)

    def to_dict(self) -> dict[str, Any]:
        """Axes are named only where they are not all periodic axes of the field."""
        return _without_none(super().to_dict())

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Multiply each Fourier mode by exp(-k^2 r^2 / 2)."""
        ends = [1 + a for a in self.mirrored or ()]
        shape = x.shape
        for axis in ends:
            x = torch.cat([x, x.flip(axis)], axis)
        x = self._smooth(x)
        for axis in ends:
            x = x.narrow(axis, 0, shape[axis])
        return x

    def _smooth(self, x: Tensor) -> Tensor:
        axes = range(1, x.ndim) if self.axes is None else (1 + a for a in self.axes)
        axes = tuple(axes)
        modes = torch.fft.rfftn(x, dim=axes)
        for axis in axes:
            n = x.shape[axis]
            k = torch.fft.rfftfreq(n) if axis == axes[-1] else torch.fft.fftfreq(n)
            kernel = torch.exp(-0.5 * (2 * math.pi * k * self.radius) ** 2).to(x)
            modes = modes * kernel.view([-1 if a == axis else 1 for a in range(x.ndim)])
        return torch.fft.irfftn(modes, s=[x.shape[a] for a in axes], dim=axes)


@dataclass(frozen=True)
class Coarsen(Step):
    """Mean over blocks of `factor` cells along each axis of space: a cut in scale and in cost.

    Args:
        factor: cells per block, a divisor of each of these axes.
        axes: numbers of the axes of one field; None for those of space, see `FieldSpec.space`.
    """

    factor: int
    axes: tuple[int, ...] | None = None
    kind: ClassVar[str] = "coarsen"

    def __post_init__(self) -> None:
        factor = whole(
            self.factor, "observe step 'coarsen': factor", least=1, error=ObservationError
        )
        object.__setattr__(self, "factor", factor)
        object.__setattr__(self, "axes", checked_axes(self.axes, self.kind))

    def bind(self, spec: FieldSpec) -> Self:
        """With the axes of space of this field."""
        axes = along(self.axes, spec, self.kind)
        return self if self.axes is not None else replace(self, axes=_but_all(axes, spec))

    def output(self, spec: FieldSpec) -> FieldSpec:
        """A field with `factor` times fewer cells along each of the axes."""
        axes, f = along(self.axes, spec, self.kind), self.factor
        fits = all(spec.shape[a] % f == 0 for a in axes)
        check(fits, self.kind, f"axes that are multiples of {f}", spec.shape)
        shape = tuple(n // f if a in axes else n for a, n in enumerate(spec.shape))
        return replace(real(spec, self.kind), shape=shape)

    def to_dict(self) -> dict[str, Any]:
        """Axes are named only where they are not all axes of the field."""
        return _without_none(super().to_dict())

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Block means."""
        axes = range(x.ndim - 1) if self.axes is None else self.axes
        f, blocks, within = self.factor, [len(x)], []
        for a, n in enumerate(x.shape[1:]):
            blocks += [n // f, f] if a in axes else [n]
            within += [len(blocks) - 1] if a in axes else []
        return x.reshape(blocks).mean(dim=within) if within else x


@dataclass(frozen=True)
class Scale(Step):
    """x -> factor * x + offset, with a new unit: how units are changed.

    Args:
        factor: multiplies.
        offset: is added, in the new unit.
        unit: of the result; None keeps the old one.
    """

    factor: float = 1.0
    offset: float = 0.0
    unit: str | None = None
    kind: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        for name in ("factor", "offset"):
            object.__setattr__(
                self, name, number(getattr(self, name), f"observe step 'scale': {name}")
            )
        check(self.factor != 0, self.kind, "finite numbers, factor not 0", self)
        if self.unit is not None:
            unit = text(self.unit, "observe step 'scale': unit", error=ObservationError)
            object.__setattr__(self, "unit", unit)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field in the new unit."""
        spec = real(spec, self.kind)
        return spec if self.unit is None else replace(spec, unit=self.unit)

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Affine map."""
        return x * self.factor + self.offset


@dataclass(frozen=True)
class Noise(Step):
    """Independent normal noise in every cell, one draw per seed.

    Args:
        sigma: standard deviation in the field's unit.
    """

    sigma: float
    kind: ClassVar[str] = "noise"
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        sigma = number(
            self.sigma, "observe step 'noise': sigma, one number for all cells,", above=0
        )
        object.__setattr__(self, "sigma", sigma)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field."""
        return real(spec, self.kind)

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Add noise."""
        return x + self.sigma * seeds_.normal(seeds, x.shape[1:]).to(x)


class Mask(Step):
    """Set the cells outside a mask to a constant.

    Args:
        mask: True (or non-zero) where the field is seen, shape of the field.
        fill: value elsewhere, in the field's unit.
    """

    kind: ClassVar[str] = "mask"

    def __init__(self, mask: np.ndarray | Tensor, fill: float = 0.0) -> None:
        array = as_native(mask, "mask", batch=False, error=ObservationError)
        seen = f"{np.count_nonzero(array)} of {array.size}"
        numbers = array.dtype.kind in "biuf" and not bool(is_missing(array).any())
        expected = "finite numbers (not healpy.UNSEEN), some of them not zero"
        check(numbers and bool(array.any()), self.kind, expected, f"{seen}, dtype {array.dtype}")
        self.mask = torch.from_numpy(np.asarray(array != 0))
        self.fill = number(fill, "observe step 'mask': finite fill")

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field."""
        same = tuple(self.mask.shape) == spec.shape
        check(same, self.kind, f"a mask of shape {spec.shape}", tuple(self.mask.shape))
        return spec

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Fill what is not seen."""
        return x.masked_fill(~self.mask.to(x.device), self.fill)

    def to_dict(self) -> dict[str, Any]:
        """The mask as packed bits in base64."""
        bits = np.packbits(self.mask.numpy())
        return {
            "kind": self.kind, "fill": self.fill, "shape": list(self.mask.shape),
            "bits": base64.b64encode(bits.tobytes()).decode(),
        }  # fmt: skip

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """From `to_dict`, or from ``{"file": "mask.npy", "fill": 0.0}`` of a config."""
        if "file" in values:
            data = read_file(as_path(values["file"], "mask file"))
            array = np.load(io.BytesIO(data), allow_pickle=False)
            return cls(array, values.get("fill", 0.0))
        bits = np.frombuffer(base64.b64decode(values["bits"]), dtype=np.uint8)
        n = math.prod(values["shape"])
        check(0 <= n <= 8 * len(bits), cls.kind, "one bit per cell", f"{n} cells")
        return cls(np.unpackbits(bits, count=n).reshape(values["shape"]), values["fill"])
