"""The observation model: what an instrument makes of a simulated field.

One object serves training (where its noise is redrawn at every step), calibration and sampling, so
that a posterior is always asked about data of the kind it was trained on. Steps are applied in
order; each is named in a registry, so that an observation model is plain values in a file.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from . import seeds as seeds_
from .errors import ObservationError
from .simulator import FieldSpec

__all__ = ["Coarsen", "Mask", "Noise", "Observation", "Scale", "Smooth", "Step"]


# Keeps the seeds of observation noise apart from those of simulations.
_NOISE_KEY = 21


class Step:
    """One step of an observation model."""

    kind: ClassVar[str]

    def output(self, spec: FieldSpec) -> FieldSpec:
        """What the step makes of a field like `spec`; raises `ObservationError` if it cannot."""
        return spec

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """x (B, *shape) and one seed per row; only noise uses the seeds."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Registry name and plain values."""
        return {"kind": self.kind} | dict(vars(self))


def _check(ok: bool, step: str, expected: str, got: object) -> None:
    if not ok:
        raise ObservationError(
            f"observe step {step!r}", expected=expected, got=str(got), fix="correct the step"
        )


def _real(spec: FieldSpec, step: str) -> FieldSpec:
    real = spec.dtype in ("float32", "float64")
    _check(real, step, "a float32 or float64 field (convert it in the simulator)", spec.dtype)
    return spec


@dataclass(frozen=True)
class Smooth(Step):
    """Gaussian smoothing of a periodic field.

    Args:
        radius: standard deviation of the kernel in cells.
    """

    radius: float
    kind: ClassVar[str] = "smooth"

    def __post_init__(self) -> None:
        _check(0 < self.radius < math.inf, self.kind, "radius > 0, in cells", self.radius)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field."""
        _check(len(spec.shape) > 0, self.kind, "a field with at least one axis", spec.shape)
        return _real(spec, self.kind)

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
        _check(int(self.factor) == self.factor >= 1, self.kind, "a whole factor", self.factor)
        object.__setattr__(self, "factor", int(self.factor))

    def output(self, spec: FieldSpec) -> FieldSpec:
        """A field with `factor` times fewer cells along every axis."""
        fits = all(n % self.factor == 0 for n in spec.shape)
        _check(fits, self.kind, f"axes that are multiples of {self.factor}", spec.shape)
        return replace(_real(spec, self.kind), shape=tuple(n // self.factor for n in spec.shape))

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
        _check(finite, self.kind, "finite numbers, factor not 0", self)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field in the new unit."""
        spec = _real(spec, self.kind)
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

    def __post_init__(self) -> None:
        _check(0 < self.sigma < math.inf, self.kind, "sigma > 0", self.sigma)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field."""
        return _real(spec, self.kind)

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
        array = np.asarray(mask)
        seen = f"{np.count_nonzero(array)} of {array.size}"
        finite = bool(np.isfinite(array).all())
        _check(finite and bool(array.any()), self.kind, "finite values, some of them seen", seen)
        self.mask = torch.from_numpy(array != 0)
        self.fill = float(fill)
        _check(math.isfinite(self.fill), self.kind, "a finite fill", fill)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """The same field."""
        same = tuple(self.mask.shape) == spec.shape
        _check(same, self.kind, f"a mask of shape {spec.shape}", tuple(self.mask.shape))
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
    def from_values(cls, values: dict[str, Any]) -> Mask:
        """From `to_dict`, or from ``{"file": "mask.npy", "fill": 0.0}`` of a config."""
        if "file" in values:
            array = np.load(io.BytesIO(Path(values["file"]).read_bytes()), allow_pickle=False)
            return cls(array, values.get("fill", 0.0))
        bits = np.frombuffer(base64.b64decode(values["bits"]), dtype=np.uint8)
        n = math.prod(values["shape"])
        return cls(np.unpackbits(bits, count=n).reshape(values["shape"]), values["fill"])


_STEPS: dict[str, Any] = {k.kind: k for k in (Smooth, Coarsen, Scale, Noise, Mask)}


class Observation:
    """Steps in order; without steps the field is observed as it is.

    Args:
        steps: in the order in which they act.

    Example:
        >>> observe = Observation([Smooth(1.0), Noise(0.1)])
        >>> observe(torch.zeros(2, 8, 8, 8), torch.tensor([1, 2])).shape
        torch.Size([2, 8, 8, 8])
    """

    def __init__(self, steps: Sequence[Step] = (), _first: int = 0) -> None:
        self.steps = tuple(steps)
        self._first = _first  # number of the first step, in the whole this is a part of

    def __call__(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Observed fields for simulated ones (B, *shape) and seeds (B,) of their noise.

        Every step draws from its own mix of the seeds: two noises differ, and the noise differs
        from whatever the simulator drew from the same seed.

        Raises:
            ObservationError: if there is not one seed per field.
        """
        if len(seeds) != len(x):
            raise ObservationError(
                "seeds", expected=f"one for each of {len(x)} fields", got=f"{len(seeds)}",
                fix="make them with sbitools.seeds.simulation_seeds",
            )  # fmt: skip
        for i, step in enumerate(self.steps, start=self._first):
            x = step.apply(x, seeds_.mix(seeds, seeds_.derive(i, _NOISE_KEY)))
        return x

    def __repr__(self) -> str:
        return f"Observation({', '.join(s.kind for s in self.steps)})"

    def output(self, spec: FieldSpec) -> FieldSpec:
        """What the observed field is; raises `ObservationError` if a step does not fit."""
        for step in self.steps:
            spec = step.output(spec)
        return spec

    def split(self) -> tuple[Observation, Observation]:
        """The steps before the first noise, which may be done once, and those from it on."""
        kinds = [isinstance(step, Noise) for step in self.steps]
        first = kinds.index(True) if any(kinds) else len(kinds)
        return Observation(self.steps[:first]), Observation(self.steps[first:], first)

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values, for JSON."""
        return [step.to_dict() for step in self.steps]

    @classmethod
    def from_dict(cls, values: Sequence[dict[str, Any]]) -> Observation:
        """From `to_dict`, or from the ``[[observe]]`` tables of a config.

        Raises:
            ObservationError: for an unknown step or wrong values.
        """
        return cls([_step(dict(v)) for v in values])

    def digest(self) -> str:
        """sha256 of the steps."""
        return hashlib.sha256(repr(self.to_dict()).encode()).hexdigest()


def _step(values: dict[str, Any]) -> Step:
    kind = values.pop("kind", None)
    try:
        if kind == "mask":
            return Mask.from_values(values)
        return _STEPS[kind](**values)  # type: ignore[index]
    except OSError as error:
        raise ObservationError(
            f"observe step {kind!r}", expected="a mask file that can be read",
            got=f"{values.get('file')}: {error.strerror or error}",
            fix="correct the path; it is relative to the working directory",
        ) from error  # fmt: skip
    except (KeyError, TypeError, ValueError, EOFError) as error:
        raise ObservationError(
            "observe step", expected=f"a kind of {', '.join(sorted(_STEPS))} and its values",
            got=f"kind={kind!r} {values}", fix=f"see sbitools.observation ({error})",
        ) from error  # fmt: skip
