"""One result of a calibration check: a p-value never comes without an effect size and its band."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sbitools.display.brief import cut
from sbitools.errors import ConfigError

__all__ = ["Check", "decode", "encode", "in_digits"]


@dataclass(frozen=True)
class Check:
    """What one check found.

    Args:
        name: e.g. ``"sbc"``.
        kind: which plot shows it: see `plots`.
        statistic: what was tested; the docstring of the check defines it.
        p_value: under the null hypothesis that the posterior is exact; None if nothing is tested.
            Values below 1e-12 are given as 1e-12.
        effect: how large the deviation is, in the unit that `summary` names.
        band: interval around the effect; `summary` says of which kind.
        passed: p_value >= false_alarm; None if nothing is tested.
        false_alarm: share of exact posteriors for which this check fails.
        summary: the effect in one plain sentence.
        note: what limits the p-value (dependent tests, few draws), or ``""``.
        details: arrays and numbers behind the plot, and ``"parameters"``: one row per parameter.
    """

    name: str
    kind: str
    statistic: float
    p_value: float | None
    effect: float
    band: tuple[float, float] | None
    passed: bool | None
    false_alarm: float | None
    summary: str = ""
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def plot(self, ax: Any = None, *, label: str | None = None, color: str | None = None) -> Any:
        """Draw the check.

        Args:
            ax: matplotlib axes, new ones if None. Two checks of one name may share them.
            label: of the curves, e.g. ``"reference"``.
            color: of the curves.

        Returns:
            The axes.
        """
        from .plots.kinds import draw

        return draw(self, ax, label=label, color=color)

    def __repr__(self) -> str:
        outcome = {True: "passed", False: "failed", None: "measured"}[self.passed]
        p_value = "" if self.p_value is None else f", p = {self.p_value:.3g}"
        return cut(f"Check({self.name}: {outcome}{p_value}, effect {self.effect:.3g}; "
                   f"{self.summary})")  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `from_dict` gives an equal check."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {key: encode(value, f"{self.name}.{key}") for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Check:
        """Inverse of `to_dict`."""
        values = {key: decode(value) for key, value in values.items()}
        band = values["band"]
        return cls(**{**values, "band": None if band is None else tuple(band)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Check) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]


def in_digits(value: float) -> str:
    """A share in text: three decimals, and three digits of what is nothing like a share."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"


def encode(value: Any, where: str = "value") -> Any:
    """Plain JSON values; an array becomes its dtype, shape and numbers.

    Raises:
        ConfigError: for a number that is not finite, or a type JSON does not have.
    """
    if isinstance(value, np.ndarray):
        numbers = [encode(v, where) for v in value.ravel().tolist()]
        return {"dtype": str(value.dtype), "shape": list(value.shape), "data": numbers}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {str(k): encode(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v, where) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(
            where, expected="a finite number", got=str(value), fix="report this calibration"
        )
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        where, expected="numbers, text, lists, dictionaries or arrays", got=type(value).__name__,
        fix="convert the value",
    )  # fmt: skip


_DTYPES = ("float64", "float32", "int64", "int32", "bool")


def decode(value: Any) -> Any:
    """Inverse of `encode` (tuples come back as lists).

    Raises:
        ConfigError: for an array of a dtype that `encode` does not write.
    """
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"dtype", "shape", "data"}:
        return {k: decode(v) for k, v in value.items()}
    if value["dtype"] not in _DTYPES:
        raise ConfigError(
            "array in a calibration result", expected=f"a dtype of {_DTYPES}",
            got=repr(value["dtype"]), fix="write the file again with to_json",
        )  # fmt: skip
    return np.array(value["data"], dtype=value["dtype"]).reshape(value["shape"])
