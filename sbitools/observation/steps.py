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
from sbitools.arrays import as_native
from sbitools.errors import ObservationError
from sbitools.labels import is_missing
from sbitools.plain import as_path
from sbitools.simulator import FieldSpec

from .step import Step, check, real

__all__ = ["Coarsen", "Mask", "Noise", "Scale", "Smooth"]


@dataclass(frozen=True)
class Smooth(Step):
    """Gaussian smoothing of a periodic field.

    Args:
        radius: standard deviation of the kernel in cells.
    """

    radius: float
    kind: ClassVar[str] = "smooth"

    def __post_init__(self) -> None:
        check(0 < self.radius < math.inf, self.kind, "radius > 0, in cells", self.radius)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field."""
        check(len(spec.shape) > 0, self.kind, "a field with at least one axis", spec.shape)
        return real(spec, self.kind)

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Multiply each Fourier mode by exp(-k^2 r^2 / 2)."""
        axes = tuple(range(1, x.ndim))
        modes = torch.fft.rfftn(x, dim=axes)
        for axis in axes:
            n = x.shape[axis]
            k = torch.fft.rfftfreq(n) if axis == axes[-1] else torch.fft.fftfreq(n)
            kernel = torch.exp(-0.5 * (2 * math.pi * k * self.radius) ** 2).to(x)
            modes = modes * kernel.view([-1 if a == axis else 1 for a in range(x.ndim)])
        return torch.fft.irfftn(modes, s=x.shape[1:], dim=axes)


@dataclass(frozen=True)
class Coarsen(Step):
    """Mean over blocks of `factor` cells along every axis: a cut in scale and in cost.

    Args:
        factor: cells per block, a divisor of every axis.
    """

    factor: int
    kind: ClassVar[str] = "coarsen"

    def __post_init__(self) -> None:
        check(int(self.factor) == self.factor >= 1, self.kind, "a whole factor", self.factor)
        object.__setattr__(self, "factor", int(self.factor))

    def output(self, spec: FieldSpec) -> FieldSpec:
        """A field with `factor` times fewer cells along every axis."""
        fits = all(n % self.factor == 0 for n in spec.shape)
        check(fits, self.kind, f"axes that are multiples of {self.factor}", spec.shape)
        return replace(real(spec, self.kind), shape=tuple(n // self.factor for n in spec.shape))

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Block means."""
        f = self.factor
        blocks = [m for n in x.shape[1:] for m in (n // f, f)]
        return x.reshape(len(x), *blocks).mean(dim=tuple(range(2, 2 * x.ndim, 2))[: x.ndim - 1])


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
        finite = math.isfinite(self.factor) and math.isfinite(self.offset) and self.factor != 0
        check(finite, self.kind, "finite numbers, factor not 0", self)

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
        check(0 < self.sigma < math.inf, self.kind, "sigma > 0", self.sigma)

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
        array = as_native(mask, "mask", error=ObservationError)
        seen = f"{np.count_nonzero(array)} of {array.size}"
        numbers = array.dtype.kind in "biuf" and not bool(is_missing(array).any())
        expected = "finite numbers (not healpy.UNSEEN), some of them not zero"
        check(numbers and bool(array.any()), self.kind, expected, f"{seen}, dtype {array.dtype}")
        self.mask = torch.from_numpy(array != 0)
        self.fill = float(fill)
        check(math.isfinite(self.fill), self.kind, "a finite fill", fill)

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
            data = as_path(values["file"], "mask file").read_bytes()
            array = np.load(io.BytesIO(data), allow_pickle=False)
            return cls(array, values.get("fill", 0.0))
        bits = np.frombuffer(base64.b64decode(values["bits"]), dtype=np.uint8)
        n = math.prod(values["shape"])
        return cls(np.unpackbits(bits, count=n).reshape(values["shape"]), values["fill"])
