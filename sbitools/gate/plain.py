"""The one gate for plain values: numbers, counts, switches and text as users pass them.

What comes out is a Python int, float, bool or str, whatever came in (a numpy scalar, a tensor of
one number, a whole float such as ``1e3``), so that it can be compared, counted with and written
as JSON. What is not meant is refused where it enters, by name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.errors import ConfigError, SbitoolsError

__all__ = ["as_path", "flag", "plain_value", "real", "text", "whole"]


def whole(
    value: Any, what: str, *, least: int | None = None, most: int | None = None,
    error: type[SbitoolsError] = ConfigError,
) -> int:  # fmt: skip
    """`value` as a Python int.

    Args:
        value: int, numpy integer, a tensor or array of one number, or a float that is whole.
        what: name for the message.
        least: smallest value allowed.
        most: largest value allowed.
        error: class to raise.

    Raises:
        SbitoolsError: of class `error`, for a truth value, text, a fraction, NaN, a sequence, or
            a number outside [least, most].
    """
    number = _number(value)
    inside = number is not None and _finite(number) and number == math.floor(number)
    if not inside or not _within(number, least, most):
        raise error(
            what, expected="a whole number" + _bounds(least, most), got=_shown(value),
            fix=f"pass one number, e.g. {_argument(what)}={least if least is not None else 1}",
        )  # fmt: skip
    return int(number)  # pyright: ignore[reportArgumentType]


def real(
    value: Any, what: str, *, least: float | None = None, above: float | None = None,
    most: float | None = None, error: type[SbitoolsError] = ConfigError,
) -> float:  # fmt: skip
    """`value` as a finite Python float.

    Args:
        value: number, numpy scalar, or a tensor or array of one number.
        what: name for the message.
        least: smallest value allowed.
        above: the value must be larger than this.
        most: largest value allowed.
        error: class to raise.

    Raises:
        SbitoolsError: of class `error`, for anything else.
    """
    number = _number(value)
    inside = number is not None and _finite(number) and (above is None or number > above)
    if not inside or not _within(number, least, most):
        limits = (
            _bounds(least, most)
            if above is None
            else f" > {above:g}" + (f", <= {most:g}" if most is not None else "")
        )
        raise error(
            what, expected=f"a finite number{limits}", got=_shown(value), fix="pass one number"
        )
    return float(number)  # pyright: ignore[reportArgumentType]


def flag(value: Any, what: str, *, error: type[SbitoolsError] = ConfigError) -> bool:
    """`value` as a Python bool; numbers and text are refused.

    Raises:
        SbitoolsError: of class `error`.
    """
    if not isinstance(value, bool | np.bool_):
        raise error(what, expected="True or False", got=_shown(value), fix="pass a truth value")
    return bool(value)


def text(value: Any, what: str, *, error: type[SbitoolsError] = ConfigError) -> str:
    """`value` as a Python str that can be written to a file.

    Raises:
        SbitoolsError: of class `error`, for what is no text, has a NUL, or is not Unicode.
    """
    if not isinstance(value, str):
        raise error(what, expected="text", got=_shown(value), fix="pass a string")
    try:
        value.encode()
    except UnicodeEncodeError as problem:
        raise error(
            what, expected="text in Unicode", got=ascii(value), fix="leave out lone surrogates"
        ) from problem
    if "\0" in value:
        raise error(what, expected="text without NUL", got=ascii(value), fix="leave it out")
    return str(value)


def as_path(value: Any, what: str = "path", *, error: type[SbitoolsError] = ConfigError) -> Path:
    """`value` as a path, with a leading ``~`` for the home folder.

    Raises:
        SbitoolsError: of class `error`, for what is no path, an empty one, or an unknown home.
    """
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise error(what, expected="a path", got=_shown(value), fix="pass the name of a file")
    path = Path(os.fsdecode(os.fspath(value)))
    try:
        os.fsencode(path)
    except UnicodeEncodeError as problem:
        raise error(
            what, expected="a path", got=ascii(str(path)), fix="leave out lone surrogates"
        ) from problem
    if "\0" in str(path):
        raise error(what, expected="a path without NUL", got=ascii(str(path)), fix="leave it out")
    try:
        return path.expanduser()
    except RuntimeError as problem:
        raise error(
            what, expected="a path", got=f"{path} ({problem})", fix="write the home folder out"
        ) from problem


def plain_value(value: Any) -> Any:
    """numpy's and torch's scalars as Python's, also within lists, tuples and tables."""
    if hasattr(value, "detach") and hasattr(value, "numel"):  # a tensor, without importing torch
        value = value.detach().cpu().numpy()
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        return value.tolist()
    if type(value) is list:
        return [plain_value(v) for v in value]
    if type(value) is tuple:
        return tuple(plain_value(v) for v in value)
    if isinstance(value, Mapping):
        return {k: plain_value(v) for k, v in value.items()}
    return value


def _number(value: Any) -> Any:
    """A Python number, or None for what is not one; truth values are not."""
    value = plain_value(value)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int beyond float
        return False


def _within(number: Any, least: float | None, most: float | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most)


def _bounds(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" in [{least:g}, {most:g}]"
    if least is not None:
        return f" >= {least:g}"
    return "" if most is None else f" <= {most:g}"


def _argument(what: str) -> str:
    """The name of the argument: "NBodySimulator steps" is about ``steps``."""
    return next((word for word in what.split() if not word[0].isupper()), what)


def _shown(value: Any) -> str:
    shown = repr(value)
    return f"{shown if len(shown) <= 80 else shown[:77] + '...'} ({type(value).__name__})"
