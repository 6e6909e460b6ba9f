"""Tables of options: pydantic models whose numbers pass the gate of `sbitools.gate.plain`.

Pydantic takes True for 1, "3" for 3 and infinity for a float, and refuses numpy's numbers. Here
numpy's and torch's numbers become Python's, and what is no number is not made into one.
"""

from __future__ import annotations

import math
import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationInfo, field_validator

from .plain import plain_value

__all__ = ["PlainModel"]


class PlainModel(BaseModel):
    """A pydantic model of plain values."""

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name] if info.field_name else None
        kinds = _kinds(None if field is None else field.annotation)
        value = plain_value(value)
        numeric, switch = bool({int, float} & kinds), bool in kinds
        if numeric and isinstance(value, bool) and not switch:
            raise ValueError("a number, not a truth value")
        if numeric and isinstance(value, str) and str not in kinds:
            raise ValueError("a number, not text")
        if numeric and isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a finite number")
        if switch and not numeric and not isinstance(value, bool | type(None)):
            raise ValueError("true or false")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation allows at its top level."""
    if get_origin(annotation) in (Union, types.UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return {type(v) for v in get_args(annotation)}
    return {annotation}
