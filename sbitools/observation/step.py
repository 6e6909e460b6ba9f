"""What every step of an observation model is."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from torch import Tensor

from sbitools.errors import ObservationError
from sbitools.simulator import FieldSpec

__all__ = ["Step", "check", "real"]


class Step:
    """One step of an observation model."""

    kind: ClassVar[str]
    random: ClassVar[bool] = False
    """Whether it draws from the seeds: such a step is done again at every step of training."""

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
