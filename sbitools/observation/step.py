"""What every step of an observation model is."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from torch import Tensor

from sbitools.errors import ObservationError
from sbitools.gate.plain import whole
from sbitools.simulator import FieldSpec

__all__ = ["Step", "along", "check", "checked_axes", "real"]


class Step:
    """One step of an observation model."""

    kind: ClassVar[str]
    random: ClassVar[bool] = False
    """Whether it draws from the seeds: such a step is done again at every step of training."""

    def bind(self, spec: FieldSpec) -> Self:
        """The step as it acts on fields like `spec`; raises `ObservationError` if it cannot."""
        return self

    def output(self, spec: FieldSpec) -> FieldSpec:
        """What the step makes of a field like `spec`; raises `ObservationError` if it cannot."""
        return spec

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """x (B, *shape) and one seed per row; only noise uses the seeds."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Registry name and plain values."""
        return {"kind": self.kind} | dict(vars(self))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """From `to_dict` without the kind, or from a table of a config."""
        return cls(**values)


def check(ok: bool, step: str, expected: str, got: object) -> None:
    """Raise `ObservationError` about the step of this kind unless `ok`."""
    if not ok:
        raise ObservationError(
            f"observe step {step!r}", expected=expected, got=str(got), fix="correct the step"
        )


def real(spec: FieldSpec, step: str) -> FieldSpec:
    """The same specification, which must be of real numbers."""
    floats = spec.dtype in ("float32", "float64")
    check(floats, step, "a float32 or float64 field (convert it in the simulator)", spec.dtype)
    return spec


def checked_axes(axes: Any, step: str) -> tuple[int, ...] | None:
    """Numbers of axes as a tuple; raises `ObservationError` for anything else."""
    if axes is None:
        return None
    listed = isinstance(axes, list | tuple) and len(axes) > 0
    check(listed, step, "axes as a tuple of numbers, or None", repr(axes))
    numbers = [whole(a, f"axes of {step}", least=0, error=ObservationError) for a in axes]
    check(len(set(numbers)) == len(numbers), step, "each axis once", repr(axes))
    return tuple(sorted(numbers))


def along(axes: tuple[int, ...] | None, spec: FieldSpec, step: str) -> tuple[int, ...]:
    """Numbers of the axes of a field that a step acts along: `axes`, or those of space.

    Raises:
        ObservationError: if the field has pixels of a HEALPix map or no axis of space, or not
            the axes that were asked for.
    """
    if axes is not None:
        check(axes[-1] < len(spec.shape), step, f"axes below {len(spec.shape)}", axes)
        return axes
    if "healpix" in spec.kinds or not spec.space:
        raise ObservationError(
            f"observe step {step!r}", expected="a field with axes of space",
            got=f"{spec.name!r} with axes {spec.dims}, of kinds {spec.kinds}",
            fix="numbers of pixels and of channels are no neighbours: do it in the simulator (for "
            "maps, with healpy), or say what the axes are with FieldSpec(..., axes=...)",
        )  # fmt: skip
    return spec.space
