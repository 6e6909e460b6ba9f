"""A normal number, brought into its support by functions that increase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import transforms as tt

from sbitools.display.brief import Brief
from sbitools.errors import ParameterError
from sbitools.gate.plain import real

from .base import Prior, log_normal_pdf

__all__ = ["Transformed"]

Step = tuple[Any, ...]

# name: its arguments, where it may be applied, and the torch transform.
_STEPS: dict[str, tuple[int, tuple[float, float], Any]] = {
    "affine": (2, (-math.inf, math.inf), lambda loc, scale: tt.AffineTransform(loc, scale)),
    "exp": (0, (-math.inf, math.inf), tt.ExpTransform),
    "log": (0, (0.0, math.inf), lambda: tt.ExpTransform().inv),
    "sigmoid": (0, (-math.inf, math.inf), tt.SigmoidTransform),
    "tanh": (0, (-math.inf, math.inf), tt.TanhTransform),
    "softplus": (0, (-math.inf, math.inf), tt.SoftplusTransform),
    "power": (
        1,
        (0.0, math.inf),
        lambda e: tt.PowerTransform(torch.tensor(e, dtype=torch.float64)),
    ),
}


@dataclass(frozen=True, repr=False)
class Transformed(Brief, Prior):
    """theta = f_n(... f_1(t)) with t normal: log-normal, logit-normal and their like.

    Args:
        loc: mean of t.
        scale: standard deviation of t.
        steps: f_1 to f_n, each a name and its numbers: ``("affine", shift, factor)``,
            ``("power", p)``, ``("exp",)``, ``("log",)``, ``("sigmoid",)``, ``("tanh",)`` or
            ``("softplus",)``. Functions that decrease, with a factor or power below 0, are
            allowed in pairs.

    Raises:
        ParameterError: for unknown steps, steps that are not defined on all that comes in, or a
            function that decreases.
    """

    loc: float
    scale: float
    steps: tuple[Step, ...]
    kind: ClassVar[str] = "transformed"

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("loc", "scale"):
            what = f"prior {self.kind}: {name}"
            put(self, name, real(getattr(self, name), what, error=ParameterError))
        self._require(self.scale > 0, "scale > 0")
        listed = isinstance(self.steps, Sequence) and not isinstance(self.steps, str)
        put(self, "steps", tuple(map(_checked, self.steps if listed else [None])))
        put(self, "_maps", [_STEPS[step[0]][2](*step[1:]) for step in self.steps])
        low, high = -math.inf, math.inf
        for step, f in zip(self.steps, self._maps, strict=True):  # type: ignore[attr-defined]
            domain = _STEPS[step[0]][1]
            if low < domain[0] or high > domain[1]:
                raise ParameterError(
                    f"prior {self.kind}: {step[0]}", expected=f"numbers in {domain}",
                    got=f"numbers in {(low, high)} from the steps before",
                    fix="put a step before it that brings them there, such as exp",
                )  # fmt: skip
            low, high = sorted(f(torch.tensor([low, high], dtype=torch.float64)).tolist())
        put(self, "low", low)
        put(self, "high", high)
        ends = self.from_unconstrained(torch.tensor([-1.0, 1.0], dtype=torch.float64))
        self._require(bool(ends[0] < ends[1]), "a function that increases")

    def __getstate__(self) -> dict[str, Any]:
        return {f: getattr(self, f) for f in ("loc", "scale", "steps")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def contains(self, theta: Tensor) -> Tensor:
        """True inside the support; a bound where t is infinite is outside."""
        inside = torch.isfinite(theta) & (theta >= self.low) & (theta <= self.high)
        u = self._back(theta.where(inside, self._middle(theta)))[0]
        return inside & torch.isfinite(u)

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        return self._back(theta)[0]

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Prior`."""
        t = self.loc + self.scale * u
        for f in self._maps:  # type: ignore[attr-defined]
            t = f(t)
        # Not the ends themselves, which no normal number is brought to.
        return t.clamp(math.nextafter(self.low, self.high), math.nextafter(self.high, self.low))

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Prior`."""
        inside = self.contains(theta)
        u, log_det = self._back(theta.where(inside, self._middle(theta)))
        value = log_normal_pdf(u) - log_det - math.log(self.scale)
        return value.where(inside, torch.tensor(-math.inf, dtype=torch.float64))

    def _middle(self, theta: Tensor) -> Tensor:
        return self.from_unconstrained(torch.zeros_like(theta))

    def _back(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """u, and log |dtheta/dt|."""
        log_det = torch.zeros_like(theta)
        for f in reversed(self._maps):  # type: ignore[attr-defined]
            t = f.inv(theta)
            log_det = log_det + f.log_abs_det_jacobian(t, theta)
            theta = t
        return (theta - self.loc) / self.scale, log_det

    def to_dict(self) -> dict[str, Any]:
        """See `Prior`."""
        steps = [list(step) for step in self.steps]
        return {"kind": self.kind, "loc": self.loc, "scale": self.scale, "steps": steps}


def _checked(step: Any) -> Step:
    named = isinstance(step, list | tuple) and step and isinstance(step[0], str)
    known = _STEPS.get(step[0]) if named else None
    if known is None or len(step) != 1 + known[0]:
        forms = ", ".join(f"{name} ({k} numbers)" for name, (k, _, _) in _STEPS.items())
        raise ParameterError(
            "prior transformed: steps", expected=f"steps of {forms}", got=f"{step!r}",
            fix='for example [["exp"], ["affine", 1.0, 2.0]]',
        )  # fmt: skip
    numbers = [real(v, f"prior transformed: {step[0]}", error=ParameterError) for v in step[1:]]
    if numbers and numbers[-1] == 0:
        raise ParameterError(
            f"prior transformed: {step[0]}", expected="a factor or power that is not 0", got="0",
            fix="correct the number",
        )  # fmt: skip
    return (step[0], *numbers)
