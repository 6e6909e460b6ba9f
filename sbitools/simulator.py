"""What a simulator is: parameters in, fields out, one seed per simulation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from .errors import ShapeError
from .parameters import ParameterSpace
from .plain import text

__all__ = ["FieldSpec", "FunctionSimulator", "Simulator"]

_DTYPES = ("float32", "float64", "int32", "int64", "uint8", "complex64")


@dataclass(frozen=True)
class FieldSpec:
    """One field or data vector: its name, axes, shape, dtype and unit.

    Args:
        name: of the field, e.g. ``"density_contrast"``.
        dims: one name per axis, e.g. ``("x", "y", "z")``.
        shape: of one simulation, without the batch axis; ``()`` is a scalar.
        dtype: one of float32, float64, int32, int64, uint8, complex64.
        unit: as text, ``""`` if dimensionless.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(str(d) for d in self.dims))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if len(self.dims) != len(self.shape) or len(set(self.dims)) != len(self.dims):
            raise ShapeError(
                f"FieldSpec {self.name!r}", expected="one distinct dimension name per axis",
                got=f"dims {self.dims} for shape {self.shape}", fix="name every axis once",
            )  # fmt: skip
        if self.dtype not in _DTYPES or min(self.shape, default=1) < 1:
            raise ShapeError(
                f"FieldSpec {self.name!r}", expected=f"positive axes and a dtype of {_DTYPES}",
                got=f"shape {self.shape}, dtype {self.dtype!r}", fix="correct the specification",
            )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes of one simulation."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return getattr(torch, self.dtype)

    def check(self, x: Tensor | np.ndarray, batch: int | None = None, what: str = "x") -> None:
        """Raise `ShapeError` unless `x` has shape (batch, *shape) and this dtype."""
        shape, dtype = tuple(x.shape), str(x.dtype).removeprefix("torch.")
        if shape[1:] != self.shape or len(shape) == 0 or batch not in (None, shape[0]):
            rows = "batch" if batch is None else batch
            raise ShapeError(
                f"{what} ({self.name})", expected=f"shape ({rows}, {str(self.shape)[1:]}",
                got=f"shape {shape}", fix="put the batch axis first and keep the field's shape",
            )  # fmt: skip
        if dtype != self.dtype:
            raise ShapeError(
                f"{what} ({self.name})", expected=f"dtype {self.dtype}", got=f"dtype {dtype}",
                fix=f"convert it with .astype('{self.dtype}') or .to(torch.{self.dtype})",
            )  # fmt: skip

    def check_unit(self, unit: str, what: str = "x") -> None:
        """Raise `ShapeError` unless `unit` is this field's unit."""
        if unit != self.unit:
            raise ShapeError(
                f"unit of {what} ({self.name})", expected=repr(self.unit), got=repr(unit),
                fix="convert the values, or correct the FieldSpec they are declared with",
            )  # fmt: skip

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self) | {"dims": list(self.dims), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, values: dict) -> FieldSpec:
        """Inverse of `to_dict`."""
        return cls(**values)

    def digest(self) -> str:
        """sha256 of the specification."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


@runtime_checkable
class Simulator(Protocol):
    """Anything that turns theta and seeds into fields.

    Attributes:
        parameters: the parameter space; zero parameters are legal.
        output: what one simulation is.
        source: an input field besides theta that is stored beside x, or None.
        group_size: simulations that are made together or share a volume; never split between
            training and validation.

    A simulator may have a `version` (text): see `sbitools.identity`. Without, its code tells a
    store that another simulator comes with the same name.
    """

    parameters: ParameterSpace
    output: FieldSpec
    source: FieldSpec | None
    group_size: int

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Fields of shape (B, *output.shape) for theta (B, P) float64 and seeds (B,) int64.

        A simulator with a `source` returns a pair (x, source).
        """
        ...


class FunctionSimulator:
    """A simulator made of a plain function.

    Args:
        function: ``function(theta, seeds) -> x`` on batches, torch or numpy.
        parameters: its parameter space.
        output: what it returns.
        group_size: simulations that belong together.
        source: an input field that the function returns as second value.
        version: stands for the code of the function, so that it can be rewritten: to be changed
            whenever the same theta and seed give another x. Without, the code itself counts.

    Raises:
        ConfigError: if `version` is no text.

    Example:
        >>> from sbitools import FieldSpec, Parameter, ParameterSpace, priors, seeds
        >>> space = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
        >>> simulator = FunctionSimulator(
        ...     lambda theta, s: theta.float() + seeds.normal(s, (1,)), space,
        ...     FieldSpec("x", ("i",), (1,)))
    """

    version: str = ""

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        parameters: ParameterSpace,
        output: FieldSpec,
        group_size: int = 1,
        source: FieldSpec | None = None,
        version: str = "",
    ) -> None:
        self.function, self.parameters, self.output = function, parameters, output
        self.group_size, self.source = group_size, source
        if text(version, "version of the simulator"):
            self.version = version

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Call the function."""
        return self.function(theta, seeds)
