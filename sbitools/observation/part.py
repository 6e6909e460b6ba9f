"""Steps of one of several data products: `Part`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from sbitools.errors import ObservationError
from sbitools.simulator import FieldSpec

from .observation import Observation, enter_step
from .step import Step

__all__ = ["Part"]


class Part(Step):
    """Steps that act on one part of x, see `FieldSpec.of_parts`.

    Args:
        name: of the product's field.
        steps: in the order in which they act.
        spec: all of x before these steps, as `bind` notes it.

    Raises:
        ObservationError: for anything that is no step.
    """

    kind: ClassVar[str] = "part"

    def __init__(
        self, name: str, steps: Observation | Sequence[Step] | Step, spec: FieldSpec | None = None
    ) -> None:
        self.name, self.steps, self.spec = name, Observation.of(steps), spec
        self.random = any(step.random for step in self.steps.steps)  # type: ignore[misc]

    def bind(self, spec: FieldSpec) -> Self:
        """With the place and the axes of the product."""
        return type(self)(self.name, self.steps.bind(self._own(spec)), spec)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """x with what the steps make of this product."""
        self._own(spec)
        return FieldSpec.of_parts(
            [self.steps.output(p) if p.name == self.name else p for p in spec.parts or ()]
        )

    def apply(self, x: Tensor, seeds: Tensor) -> Tensor:
        """The steps of this product, and the others as they are."""
        if self.spec is None or self.spec.parts is None:
            raise ObservationError(
                f"observation of product {self.name!r}", expected="one that is bound to x",
                got="one that does not know where the product is",
                fix="call observation.bind(spec) first, as train does",
            )  # fmt: skip
        parts = [
            self.steps(part, seeds) if own.name == self.name else part
            for own, part in zip(self.spec.parts, self.spec.split(x), strict=True)
        ]
        return self.spec.pack(parts)

    def to_dict(self) -> dict[str, Any]:
        """With the steps' own plain values."""
        spec = None if self.spec is None else self.spec.to_dict()
        values = {"kind": self.kind, "name": self.name, "steps": self.steps.to_dict()}
        return values if spec is None else values | {"spec": spec}

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """From `to_dict` without the kind."""
        spec = values.get("spec")
        steps = Observation.from_dict(values["steps"])
        return cls(values["name"], steps, None if spec is None else FieldSpec.from_dict(spec))

    def _own(self, spec: FieldSpec) -> FieldSpec:
        names = {p.name: p for p in spec.parts or ()}
        if self.name not in names:
            raise ObservationError(
                "observation of several products", expected=f"names out of {list(names)}",
                got=repr(self.name), fix="name the field of one of the stores",
            )  # fmt: skip
        return names[self.name]


enter_step(Part)
