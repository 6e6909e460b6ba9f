"""Steps in order, rebuilt from plain values."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools import seeds as seeds_
from sbitools.display.brief import names_in_brief
from sbitools.errors import ObservationError, ShapeError
from sbitools.gate.arrays import as_native, real_tensor
from sbitools.simulator import FieldSpec

from .curves import Asinh, Log
from .spectral_noise import SpectralNoise
from .step import Step
from .steps import Coarsen, Mask, Noise, Scale, Smooth

__all__ = ["Observation", "enter_step"]

# Keeps the seeds of observation noise apart from those of simulations.
_NOISE_KEY = 21

_STEPS: dict[str, type[Step]] = {
    step.kind: step for step in (Smooth, Coarsen, Scale, Noise, Mask, SpectralNoise, Log, Asinh)
}


def enter_step(step: type[Step]) -> None:
    """Make a kind of step known by its name."""
    _STEPS[step.kind] = step


class Observation:
    """Steps in order; without steps the field is observed as it is.

    Args:
        steps: in the order in which they act.

    Raises:
        ObservationError: for anything that is no step.

    `train` binds the steps to the axes of its fields, see `bind`; an observation that is called
    by itself takes every axis for space.

    Example:
        >>> import torch
        >>> observe = Observation([Smooth(1.0), Noise(0.1)])
        >>> observe(torch.zeros(2, 8, 8, 8), torch.tensor([1, 2])).shape
        torch.Size([2, 8, 8, 8])
    """

    def __init__(self, steps: Sequence[Step] = (), _first: int = 0) -> None:
        listed = isinstance(steps, Sequence) and not isinstance(steps, str | bytes)
        strange = [s for s in steps if not isinstance(s, Step)] if listed else [steps]
        if strange:
            raise ObservationError(
                "steps of an observation", expected="a list of steps of sbitools.observation",
                got=type(strange[0]).__name__, fix="for example Observation([Noise(0.1)])",
            )  # fmt: skip
        self.steps = tuple(steps)
        self._first = _first  # number of the first step, in the whole this is a part of

    def __call__(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Observed fields for simulated ones (B, *shape) and seeds (B,) of their noise.

        Every step draws from its own mix of the seeds: two noises differ, and the noise differs
        from whatever the simulator drew from the same seed.

        Raises:
            ObservationError: if there is not one seed per field.
        """
        if not isinstance(x, Tensor):
            x = real_tensor(x, "simulated x", ObservationError)
        seeds = _checked_seeds(seeds, len(x) if x.ndim else 0)
        for i, step in enumerate(self.steps, start=self._first):
            x = step.apply(x, seeds_.mix(seeds, seeds_.derive(i, _NOISE_KEY)))
        return x

    def __repr__(self) -> str:
        return f"Observation({names_in_brief([s.kind for s in self.steps])})"

    @classmethod
    def of(cls, value: Any) -> Observation:
        """An observation as it is, one of no steps for None, or one of a step or a list of them.

        Of several data products each has steps of its own, in a mapping by name.

        Raises:
            ObservationError: for anything else.
        """
        if isinstance(value, Observation):
            return value
        if isinstance(value, Mapping):
            make: Any = _STEPS["part"]
            return cls([make(name, steps) for name, steps in value.items()])
        return cls(() if value is None else [value] if isinstance(value, Step) else value)

    def bind(self, spec: FieldSpec) -> Observation:
        """The steps as they act on fields like `spec`: along its axes of space.

        Raises:
            ObservationError: if a step does not fit.
        """
        steps = []
        for step in self.steps:
            if spec.parts is not None and step.kind != "part":
                raise ObservationError(
                    f"observe step {step.kind!r}", expected="steps of each product, by its name",
                    got="one for all of them",
                    fix=f'for example observe={{"{spec.parts[0].name}": [step]}}',
                )  # fmt: skip
            steps.append(step.bind(spec))
            spec = step.output(spec)
        return Observation(steps, self._first)

    def output(self, spec: FieldSpec) -> FieldSpec:
        """What the observed field is; raises `ObservationError` if a step does not fit."""
        for step in self.steps:
            spec = step.output(spec)
        return spec

    def split(self) -> tuple[Observation, Observation]:
        """The steps before the first noise, which may be done once, and those from it on."""
        random = [step.random for step in self.steps]
        first = random.index(True) if any(random) else len(random)
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
        if not isinstance(values, Sequence) or isinstance(values, str | bytes):
            raise ObservationError(
                "observe steps", expected="a list of tables", got=type(values).__name__,
                fix='for example [{"kind": "noise", "sigma": 0.1}]',
            )  # fmt: skip
        return cls([_step(v) for v in values])

    @classmethod
    def from_checkpoint(cls, values: Sequence[dict[str, Any]], spec: FieldSpec) -> Observation:
        """From `to_dict` of an observation that was bound to fields like `spec`.

        What names no axes acts along all of them: it did when it was trained with.
        """
        every = list(range(len(spec.shape)))
        mixed = len(spec.space) < len(every)
        along_all = [Smooth.kind, Coarsen.kind] if mixed else []
        return cls.from_dict(
            [{"axes": every} | v if v.get("kind") in along_all else v for v in values]
        )

    def digest(self) -> str:
        """sha256 of the steps."""
        return hashlib.sha256(repr(self.to_dict()).encode()).hexdigest()


def _checked_seeds(seeds: Any, n: int) -> Tensor:
    """int64, (n,)."""
    try:
        rows = as_native(seeds, "seeds")
        rows = rows[None] if rows.ndim == 0 and n == 1 else rows
        got = f"{len(rows)}" if rows.ndim == 1 else f"shape {rows.shape}"
        if rows.dtype.kind in "iu" and rows.shape == (n,):
            return torch.from_numpy(rows.astype(np.int64))
        if rows.shape == (n,) and not n:
            return torch.empty(0, dtype=torch.int64)
    except ShapeError as problem:
        got = problem.got
    raise ObservationError(
        "seeds", expected=f"one for each of {n} fields, whole numbers", got=got,
        fix="make them with sbitools.seeds.simulation_seeds",
    )  # fmt: skip


def _step(values: Any) -> Step:
    if not isinstance(values, Mapping):
        raise ObservationError(
            "observe step", expected="a table with a kind", got=reprlib.repr(values),
            fix='for example {"kind": "noise", "sigma": 0.1}',
        )  # fmt: skip
    values = dict(values)
    kind = values.pop("kind", None)
    try:
        if not isinstance(kind, str):
            raise KeyError(kind)
        return _STEPS[kind].from_values(values)  # type: ignore[index]
    except OSError as error:
        raise ObservationError(
            f"observe step {kind!r}", expected="a file that can be read",
            got=f"{values.get('file')}: {error.strerror or error}",
            fix="correct the path; it is relative to the working directory",
        ) from error  # fmt: skip
    except (KeyError, TypeError, ValueError, EOFError) as error:
        raise ObservationError(
            "observe step", expected=f"a kind of {', '.join(sorted(_STEPS))} and its values",
            got=f"kind={kind!r} {reprlib.repr(values)}", fix=f"see sbitools.observation ({error})",
        ) from error  # fmt: skip
