"""The result of a calibration: checks, verdict in words, tables, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbitools.disk.files import parse_json, read_file, write_result
from sbitools.display.brief import cut, table_html
from sbitools.errors import ConfigError
from sbitools.gate.plain import as_path

from .check import Check, decode, encode
from .sets import CheckSets
from .verdict import verdict

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CalibrationResult"]

_SCHEMA = 1
_WORDS = {True: "passed", False: "FAILED", None: "measured"}


class CalibrationResult(CheckSets):
    """What `calibrate` found: checks by set (see `CheckSets`), and what they amount to."""

    def __repr__(self) -> str:
        lines = [
            f"  {kind}: " + "; ".join(_outcome(c) for c in checks)
            for kind, checks in self.sets().items()
        ]
        return cut("\n".join([f"CalibrationResult: {self.verdict}", *lines]))

    def _repr_html_(self) -> str:
        rows = [
            (kind, c.name, _WORDS[c.passed], "" if c.p_value is None else f"{c.p_value:.3g}",
             cut(c.summary, 120))
            for kind, checks in self.sets().items() for c in checks
        ]  # fmt: skip
        head = ("set", "check", "outcome", "p-value", "effect")
        return table_html(self.verdict, rows, head)

    @property
    def passed(self) -> bool:
        """True if no check of any set fails and no set lost too many tests."""
        return verdict(self).passed

    @property
    def verdict(self) -> str:
        """One or two sentences: self-consistent? transfers? by how much not?"""
        return verdict(self).text

    @property
    def checks(self) -> pd.DataFrame:
        """One row per check: set, name, passed, p_value, effect, band, false_alarm, power, ..."""
        import pandas as pd

        rows = [
            {
                "set": kind, "name": c.name, "passed": c.passed, "p_value": c.p_value,
                "statistic": c.statistic, "effect": c.effect,
                "band_low": c.band[0] if c.band else None,
                "band_high": c.band[1] if c.band else None,
                "false_alarm": c.false_alarm,
                **{f"power, {k}": v for k, v in c.details.get("power", {}).items()},
                "summary": c.summary, "note": c.note,
            }
            for kind, checks in self.sets().items() for c in checks
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def plot(self, name: str, ax: Any = None) -> Any:
        """A check on emulated and, if there are any, reference tests, on one pair of axes."""
        from .plots.kinds import draw_pair

        kinds = [k for k in ("emulated", "reference") if k in self.sets()]
        return draw_pair([(kind, self.check(name, kind)) for kind in kinds], ax)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `from_dict` gives an equal result."""
        sets = {kind: [c.to_dict() for c in checks] for kind, checks in self.sets().items()}
        rest = {
            "schema": _SCHEMA, "passed": self.passed, "verdict": self.verdict,
            "false_alarm": self.false_alarm, "counts": self.counts, "excluded": self.excluded,
            "info": self.info, "joint": self.joint,
        }  # fmt: skip
        return encode(rest, "calibration result") | sets

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CalibrationResult:
        """Inverse of `to_dict`.

        Raises:
            ConfigError: for another schema or missing fields.
        """
        if not isinstance(values, dict) or values.get("schema") != _SCHEMA:
            got = values.get("schema") if isinstance(values, dict) else type(values).__name__
            raise ConfigError(
                "calibration result", expected=f"schema {_SCHEMA}", got=str(got),
                fix="calibrate again with this version",
            )  # fmt: skip
        try:
            sets = {
                kind: [Check.from_dict(c) for c in values[kind]] if kind in values else None
                for kind in ("emulated", "reference", "transfer")
            }
            rest = {k: decode(values[k]) for k in ("false_alarm", "counts", "excluded", "info")}
            rest["joint"] = decode(values.get("joint", {}))
            return cls(**sets, **rest)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                "calibration result", expected="the fields that to_json writes",
                got=f"{type(error).__name__}: {error}", fix="calibrate again",
            ) from error  # fmt: skip

    def to_json(self, path: str | Path) -> Path:
        """Write everything, arrays of the plots included; numbers keep all their digits."""
        path = as_path(path)
        write_result(path, json.dumps(self.to_dict(), allow_nan=False).encode(), b'{"schema": ')
        return path

    @classmethod
    def from_json(cls, path: str | Path) -> CalibrationResult:
        """Inverse of `to_json`.

        Raises:
            ConfigError: if the file is not such a result.
        """
        try:
            values = parse_json(read_file(as_path(path)))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"calibration result {path}", expected="a JSON file written by to_json",
                got=f"{type(error).__name__}: {error}", fix="check the path, or calibrate again",
            ) from error  # fmt: skip
        return cls.from_dict(values)

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained HTML file: see `sbitools.report`."""
        from sbitools.report.page import write_calibration

        return write_calibration(self, path)


def _outcome(check: Check) -> str:
    p_value = "" if check.p_value is None else f" (p = {check.p_value:.2g})"
    return f"{check.name} {_WORDS[check.passed]}{p_value}"
