"""What a simulator is: parameters in, fields out, one seed per simulation."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from .axes import AXIS_KINDS, MEMBERS, SPACE, kinds_of
from .display.brief import names_in_brief
from .errors import ParameterError, ShapeError
from .gate.plain import text, whole
from .parameters import ParameterSpace, as_space

__all__ = ["FieldSpec", "FunctionSimulator", "Simulator", "as_spec"]

_MEMBER = "member"  # name of the axis of a set
_NOT_IN_FLOAT64 = ("int64", "complex64")

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
        axes: what each axis is, out of `sbitools.axes.AXIS_KINDS`: ``"periodic"``, ``"open"`` or
            ``"evolving"`` space, ``"healpix"`` pixels, ``"channel"``, which counts fields, or, of
            the first axis, ``"set"``, which counts members in no order: see `set_of`. None for
            what the names say: see `kinds`.
        parts: the fields that lie in it side by side: see `of_parts`.

    Raises:
        ShapeError: for a name, an axis, a shape or a dtype that cannot be used.

    Example:
        >>> from sbitools import FieldSpec
        >>> spec = FieldSpec("density", ("x", "y"), (64, 64))
        >>> spec.nbytes, spec.kinds
        (16384, ('periodic', 'periodic'))
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str = ""
    axes: tuple[str, ...] | None = None
    parts: tuple[FieldSpec, ...] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "name", _named(self.name, "name of a FieldSpec"))
        what = f"FieldSpec {self.name!r}"
        dims, shape = _each(self.dims, f"dims of {what}"), _each(self.shape, f"shape of {what}")
        put(self, "dims", tuple(_named(d, f"dims of {what}") for d in dims))
        put(self, "shape", tuple(whole(n, f"shape of {what}", error=ShapeError) for n in shape))
        put(self, "dtype", _dtype(self.dtype, what))
        put(self, "unit", text(self.unit, f"unit of {what}", error=ShapeError))
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
        if self.axes is not None:
            put(self, "axes", _kinds(self.axes, len(self.dims), what))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each axis is: `axes`, or what the names of the axes say.

        ``"los"`` is evolving; ``"pixel"``, ``"pixel_ring"``, ``"pixel_nested"`` and ``"healpix"``
        are pixels; ``"channel"``, ``"map"``, ``"slice"`` and ``"item"`` count fields, and so do
        ``"band"``, ``"stokes"``, ``"frequency"`` and the like beside other axes; any other name is
        periodic space.
        """
        return kinds_of(self.dims) if self.axes is None else self.axes

    @property
    def space(self) -> tuple[int, ...]:
        """Numbers of the axes along which neighbours in the array are neighbours in space."""
        return tuple(i for i, kind in enumerate(self.kinds) if kind in SPACE)

    def set_of(self, n: int) -> FieldSpec:
        """Sets of `n` fields like this one, in no order: several observations of one theta.

        Raises:
            ShapeError: if this is a set already, or `n` is no number of members.
        """
        n = whole(n, "number of members", least=1, error=ShapeError)
        if self.kinds[:1] == (MEMBERS,) or _MEMBER in self.dims or self.parts is not None:
            raise ShapeError(
                f"members of a set of {self.name!r}", expected="one field without an axis of "
                f"members or one named {_MEMBER!r}", got=f"axes {self.dims} of kinds {self.kinds}",
                fix="put all members on one axis, or rename the axis",
            )  # fmt: skip
        return replace(
            self, dims=(_MEMBER, *self.dims), shape=(n, *self.shape), axes=(MEMBERS, *self.kinds)
        )

    @classmethod
    def of_parts(cls, parts: Sequence[FieldSpec]) -> FieldSpec:
        """Several fields of one theta side by side, flattened, as float64.

        Raises:
            ShapeError: for fields of one name, and values that float64 does not hold.
        """
        parts = tuple(as_spec(p, "a part of a FieldSpec") for p in parts)
        names = [p.name for p in parts]
        strange = [p.name for p in parts if p.dtype in _NOT_IN_FLOAT64 or p.parts is not None]
        if not parts or len(set(names)) < len(names) or strange:
            raise ShapeError(
                "fields side by side", expected="one or more, each with a name of its own, real, "
                "none of int64 or of parts", got=f"{names}" + f"; {strange}" * bool(strange),
                fix="give each its name, and convert it",
            )  # fmt: skip
        n = sum(math.prod(p.shape) for p in parts)
        return cls(
            "+".join(names), ("entry",), (n,), "float64", axes=("channel",), parts=parts
        )  # fmt: skip

    def pack(self, values: Sequence[Tensor]) -> Tensor:
        """Parts (B, *shape) side by side, (B, N) float64."""
        return torch.cat(
            [v.double().reshape(len(v), math.prod(v.shape[1:])) for v in values], dim=1
        )

    def split(self, x: Tensor, cast: bool = True) -> list[Tensor]:
        """Parts (B, *shape) of x (B, N), in their own dtypes unless `cast` is False."""
        parts = self.parts or ()
        pieces = x.split([math.prod(p.shape) for p in parts], dim=1)
        shaped = [v.reshape(len(x), *p.shape) for v, p in zip(pieces, parts, strict=True)]
        return (
            [v.to(p.torch_dtype) for v, p in zip(shaped, parts, strict=True)] if cast else shaped
        )

    @property
    def member(self) -> FieldSpec | None:
        """One member of what is a set, see `set_of`; None if this is none."""
        if self.kinds[:1] != (MEMBERS,):
            return None
        return replace(self, dims=self.dims[1:], shape=self.shape[1:], axes=self.kinds[1:])

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
        values = asdict(self) | {"dims": list(self.dims), "shape": list(self.shape)}
        # Named only if given: a specification keeps its digest.
        axes, parts = values.pop("axes"), values.pop("parts")
        values |= {} if axes is None else {"axes": list(axes)}
        return values | (
            {} if parts is None else {"parts": [p.to_dict() for p in self.parts or ()]}
        )

    @classmethod
    def from_dict(cls, values: dict) -> FieldSpec:
        """Inverse of `to_dict`.

        Raises:
            ShapeError: for values that are no specification.
        """
        try:
            if values.get("parts") is not None:
                return cls.of_parts([cls.from_dict(part) for part in values["parts"]])
            return cls(**values)
        except (TypeError, AttributeError) as error:
            raise ShapeError(
                "FieldSpec", expected="name, dims, shape, dtype, unit and axes",
                got=str(error), fix="correct the specification",
            ) from error  # fmt: skip

    def digest(self) -> str:
        """sha256 of the specification."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def as_spec(value: Any, what: str = "output") -> FieldSpec:
    """`value` if it is a `FieldSpec`; raises `ShapeError` otherwise."""
    if not isinstance(value, FieldSpec):
        raise ShapeError(
            what, expected="a FieldSpec", got=type(value).__name__,
            fix='say what a field is, e.g. FieldSpec("x", ("i",), (10,))',
        )  # fmt: skip
    return value


def _named(value: Any, what: str) -> str:
    name = text(value, what, error=ShapeError)
    if name in (".", ".."):
        raise ShapeError(what, expected="a name", got=repr(value), fix="call it otherwise")
    return name


def _each(values: Any, what: str) -> tuple[Any, ...]:
    """One value per axis; a single one stands for the only axis."""
    if isinstance(values, str) or not hasattr(values, "__iter__") or np.ndim(values) == 0:
        return (values,)
    if not isinstance(values, Sequence | np.ndarray):
        raise ShapeError(
            what, expected="one value per axis, in order", got=type(values).__name__,
            fix="pass a tuple",
        )  # fmt: skip
    return tuple(values)


def _dtype(value: Any, what: str) -> str:
    """The name of a dtype, given as numpy, torch or Python know it."""
    if isinstance(value, str) and value in _DTYPES:
        return str(value)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    try:
        return np.dtype(value if value is not None else "V").name
    except (TypeError, ValueError, SyntaxError) as error:
        raise ShapeError(
            what, expected=f"a dtype of {_DTYPES}", got=repr(value), fix="name one of these"
        ) from error


def _kinds(values: Any, n: int, what: str) -> tuple[str, ...]:
    kinds = _each(values, f"axes of {what}")
    if len(kinds) != n or not all(isinstance(k, str) and k in AXIS_KINDS for k in kinds):
        raise ShapeError(
            f"axes of {what}", expected=f"one of {', '.join(AXIS_KINDS)} for each of {n} axes",
            got=repr(values), fix="leave it out, or say what each axis is",
        )  # fmt: skip
    if MEMBERS in kinds[1:]:
        raise ShapeError(
            f"axes of {what}", expected=f"{MEMBERS!r} of the first axis alone", got=repr(values),
            fix="put the members of a set on the first axis",
        )  # fmt: skip
    return tuple(map(str, kinds))


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

    Example:
        >>> from sbitools import FieldSpec, Parameter, ParameterSpace, Simulator, priors, seeds
        >>> class Noisy:
        ...     parameters = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
        ...     output = FieldSpec("x", ("i",), (2,))
        ...     source, group_size = None, 1
        ...
        ...     def simulate(self, theta, own):
        ...         return theta.float() + seeds.normal(own, (2,))
        >>> isinstance(Noisy(), Simulator)
        True
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
            whenever the same theta and seed give another x. Without, the code itself counts, but
            no file that it reads: see `sbitools.identity.identity`.

    Raises:
        SbitoolsError: for arguments of another kind.

    Example:
        >>> from sbitools import FieldSpec, Parameter, ParameterSpace, priors, seeds
        >>> space = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
        >>> simulator = FunctionSimulator(
        ...     lambda theta, s: theta.float() + seeds.normal(s, (1,)), space,
        ...     FieldSpec("x", ("i",), (1,)))
        >>> simulator.simulate(space.design(3, seed=1), torch.tensor([4, 5, 6])).shape
        torch.Size([3, 1])
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
        if not callable(function):
            raise ParameterError(
                "function of a FunctionSimulator", expected="function(theta, seeds) -> x",
                got=type(function).__name__, fix="pass the function itself",
            )  # fmt: skip
        self.function, self.parameters = function, as_space(parameters)
        self.output = as_spec(output, "output")
        self.group_size = whole(group_size, "group_size", least=1)
        self.source = None if source is None else as_spec(source, "source")
        if text(version, "version of the simulator"):
            self.version = version

    def __repr__(self) -> str:
        called = getattr(self.function, "__qualname__", type(self.function).__name__)
        names = names_in_brief(self.parameters.names)
        return f"FunctionSimulator({called}: {names} -> {self.output.name} {self.output.shape})"

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Call the function."""
        return self.function(theta, seeds)
