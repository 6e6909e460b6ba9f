"""Compilation of inner loops with numba, and the vectors that the innermost are written with.

A vector fills one register: `load` takes it from neighbouring elements of an array, `store` puts
it back; `+`, `-` and `*` work on its elements, the first operand may be one number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = ["compiled", "lanes", "load", "store"]

_BITS = 512 if get_host_cpu_features().get("avx512f") else 256
_built_in: Any = intrinsic  # what it makes is called without the first argument
_infer: Any = infer_global


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile once per machine if there is a place to keep the result, else once per process.

    The compiled function releases the interpreter's lock; sums may be reordered to run in vector
    registers, always in the same way.
    """
    options: dict[str, Any] = {
        "nogil": True, "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    }  # fmt: skip
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**options)(function)


class _Vector(types.Type):
    def __init__(self, dtype: Any) -> None:
        self.dtype, self.size = dtype, _BITS // dtype.bitwidth
        super().__init__(f"vector of {self.size} {dtype}")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Vector) -> None:
        number = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(number, kind.size))


def _pointer(context: Any, builder: Any, kinds: Any, array: Any, index: Any) -> Any:
    """Pointer to the vector that begins at an index: an integer, or a tuple of them."""
    many = isinstance(kinds[1], types.BaseTuple)
    at = cgutils.unpack_tuple(builder, index) if many else [index]
    array = context.make_array(kinds[0])(context, builder, array)
    pointer = cgutils.get_item_pointer(context, builder, kinds[0], array, at)
    return builder.bitcast(pointer, context.get_value_type(_Vector(kinds[0].dtype)).as_pointer())


@_built_in
def lanes(_: Any, array: Any) -> Any:
    """Number of elements of an array that a vector holds, a constant."""
    size = _Vector(array.dtype).size
    return types.intp(array), lambda context, *_: context.get_constant(types.intp, size)


@_built_in
def load(_: Any, array: Any, index: Any) -> Any:
    """The vector that begins at an index of an array; the last axis is contiguous."""

    def code(context: Any, builder: Any, made: Any, args: Any) -> Any:
        align = array.dtype.bitwidth // 8
        return builder.load(_pointer(context, builder, made.args, *args), align=align)

    return _Vector(array.dtype)(array, index), code


@_built_in
def store(_: Any, vector: Any, array: Any, index: Any) -> Any:
    """Put a vector where `load` would find it."""

    def code(context: Any, builder: Any, made: Any, args: Any) -> Any:
        align = array.dtype.bitwidth // 8
        pointer = _pointer(context, builder, made.args[1:], *args[1:])
        builder.store(args[0], pointer, align=align)
        return context.get_dummy_value()

    return types.void(vector, array, index), code


def _arithmetic(symbol: Callable[..., Any], instruction: str) -> None:
    class Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return signature(args[1], *args) if isinstance(args[-1], _Vector) else None

    def code(context: Any, builder: Any, made: Any, args: Any) -> Any:
        first, second = args
        if isinstance(made.args[0], types.Float):
            empty = ir.Constant(second.type, ir.Undefined)
            number = context.cast(builder, first, made.args[0], made.args[1].dtype)
            one = builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0))
            places = ir.Constant(ir.VectorType(ir.IntType(32), second.type.count), None)
            first = builder.shuffle_vector(one, empty, places)
        return getattr(builder, instruction)(first, second, flags=("contract",))

    _infer(symbol)(Typing)
    lower_builtin(symbol, _Vector, _Vector)(code)
    lower_builtin(symbol, types.Float, _Vector)(code)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
