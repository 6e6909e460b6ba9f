"""Units that values carry: converted, compared, or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .kinds import Subject
from .missing import is_missing, without_mask

__all__ = ["check_stated", "same_unit", "stated_unit", "without_units"]

_NONE = ("", "1", "dimensionless", "none")
_ATTRIBUTES = ("units", "unit", "BUNIT")


def stated_unit(attributes: Mapping[str, Any]) -> str | None:
    """The unit that attributes of an array say, or None."""
    for name in _ATTRIBUTES:
        if (value := attributes.get(name)) is not None:
            first = np.ravel(np.asarray(value))[:1].tolist()
            text = first[0] if first else ""
            return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return None


def same_unit(a: str, b: str) -> bool:
    """Whether two texts are one unit; nothing is converted."""
    a, b = a.strip(), b.strip()
    return a == b or (a.lower() in _NONE and b.lower() in _NONE)


def check_stated(stated: str | None, unit: str | None, subject: Subject) -> None:
    """Refuse a unit that is said to be another; `unit` is None where none is known."""
    if stated is not None and not same_unit(stated, unit or ""):
        raise Subject(f"unit of {subject.what}", subject.error).refuse(
            f"values in the unit {unit!r}" if unit else "values without a unit",
            f"the unit {stated!r}", "convert the values, or correct what says their unit",
        )  # fmt: skip


def without_units(values: Any, unit: str | None, subject: Subject) -> Any:
    """Values in `unit`, without mask; what carries no unit is returned as it is.

    Args:
        values: an array, or a quantity of astropy, unyt or pint.
        unit: to convert to; None or "" for none.
        subject: for messages.
    """
    plain = without_mask(values, subject)
    carried = getattr(values, "unit", None) or getattr(values, "units", None)
    if carried is None or callable(carried):
        return plain
    if plain is values or not hasattr(plain, "unit"):  # astropy's columns have units, too
        plain = getattr(values, "quantity", plain)
    if same_unit(str(carried), unit or ""):
        return _magnitude(plain)
    convert = getattr(plain, "to_value", None) or getattr(plain, "m_as", None)
    if not unit:
        raise subject.refuse(
            "values without a unit, as the specification has none", f"the unit '{carried}'",
            "state the unit in the specification, or pass the numbers (.value)",
        )  # fmt: skip
    if convert is None:
        raise subject.refuse(
            f"values in the unit {unit!r}", f"the unit '{carried}'", "convert the values"
        )
    return _converted(plain, convert, unit, str(carried), subject)


def _magnitude(values: Any) -> Any:
    for name in ("value", "magnitude"):
        if hasattr(values, name) and not callable(getattr(values, name)):
            return getattr(values, name)
    return values if hasattr(values, "__len__") else getattr(values, "data", values)  # NDData


def _converted(
    values: Any, convert: Callable[[str], Any], unit: str, carried: str, subject: Subject
) -> Any:
    try:
        before, after = np.asarray(_magnitude(values)), convert(unit)
    except Exception as problem:  # each maker of units has errors of its own
        raise subject.refuse(
            f"values in the unit {unit!r}", f"the unit '{carried}'",
            f"convert them and pass the numbers (.value): {problem}",
        ) from problem  # fmt: skip
    unseen = int(np.count_nonzero(is_missing(before)))
    if unseen:
        raise subject.refuse(
            "measured values", f"{unseen} that are NaN, infinite or healpy.UNSEEN",
            "mask them before units are converted",
        )  # fmt: skip
    return after
