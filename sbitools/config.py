"""One TOML file describes one run of the chain.

Every table is a pydantic model that forbids unknown fields; what is wrong becomes a `ConfigError`
that names the field by its path, says what was expected and how to mend it. A configuration never
names code: `system` is looked up among the installed ones, options are plain values.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .disk.files import read_file, utf8
from .errors import ConfigError
from .gate.models import PlainModel
from .gate.names import or_else
from .gate.plain import as_path

__all__ = [
    "CalibrateSection", "ComparisonSection", "EmulatedSection", "ObservationSection",
    "ReferenceSection", "RepairSection", "ReportSection", "RunConfig", "apply_overrides",
    "load_config", "parse_config", "validate_model",
]  # fmt: skip


M = TypeVar("M", bound=BaseModel)


class _Section(PlainModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReferenceSection(_Section):
    """How many simulations of the expensive simulator there are."""

    n_train: int = Field(default=64, ge=1, description="simulations the emulator is fitted to")
    n_validation: int = Field(default=8, ge=1, description="held-out ones, to validate it")
    n_test: int = Field(default=512, ge=1, description="independent ones, for the transfer check")
    task_size: int | None = Field(default=None, ge=1, description="simulations in one part file")
    time_limit: float | None = Field(default=None, gt=0, description="seconds for one simulation")


class EmulatedSection(_Section):
    """How many fields the emulator makes."""

    n_train: int = Field(default=4096, ge=1, description="fields the posterior is trained on")
    n_test: int = Field(default=512, ge=1, description="independent ones, for self-consistency")
    task_size: int | None = Field(default=None, ge=1, description="simulations in one part file")
    time_limit: float | None = Field(default=None, gt=0, description="seconds for one field")


class ComparisonSection(_Section):
    """The posterior against those that are trained on reference simulations; the best is kept."""

    enabled: bool = Field(default=True, description="train and score the others, too")


class CalibrateSection(_Section):
    """Calibration of the posterior."""

    n_draws: int = Field(default=1000, ge=20, description="posterior draws per test simulation")
    false_alarm: float = Field(default=0.01, gt=0, lt=1, description="of each set of checks")


class RepairSection(_Section):
    """Repair of the posterior with the reference's test simulations; off by default."""

    method: Literal["none", "auto", "recalibrate", "reweight", "fine_tune"] = Field(
        default="none", description="how; auto tries all and keeps the best"
    )
    folds: int = Field(default=5, ge=2, description="each is judged by a repair of the others")
    n: int | None = Field(default=None, ge=20, description="simulations used; default: all")
    n_draws: int = Field(default=500, ge=50, description="posterior draws per simulation")


class ObservationSection(_Section):
    """The data whose posterior is wanted."""

    file: Path = Field(description="file with one field, as the simulations are")
    dataset: str | None = Field(default=None, description="name of the array in it")
    unit: str | None = Field(default=None, description="of the values, to be checked")
    simulated: bool = Field(
        default=False, description="a simulated field: the steps of observe are applied to it"
    )
    n_draws: int = Field(default=4000, ge=1, description="posterior draws")

    @field_validator("file", mode="before")
    @classmethod
    def _at_home(cls, path: Any) -> Path:
        return as_path(path, "observation.file")


class ReportSection(_Section):
    """The report."""

    title: str | None = Field(default=None, description="heading; default: the system")
    examples: int = Field(default=3, ge=1, le=8, description="corner plots of reference fields")


class RunConfig(_Section):
    """Everything one run of the chain needs."""

    system: str = Field(description="name of an installed system")
    run_dir: Path = Field(description="folder of all artifacts, relative to the working directory")
    seed: int = Field(ge=0, lt=1 << 63, description="every other seed is derived from it")
    workers: int = Field(default=2, ge=1, le=1024, description="local processes of a campaign")
    settings: dict[str, Any] = Field(default_factory=dict, description="the system's own settings")
    reference: ReferenceSection = Field(default_factory=ReferenceSection)
    emulator: dict[str, Any] = Field(default_factory=dict, description="options of emulator.fit")
    emulated: EmulatedSection = Field(default_factory=EmulatedSection)
    observe: list[dict[str, Any]] = Field(default=[], description="steps, applied in this order")
    train: dict[str, Any] = Field(default_factory=dict, description="options of sbitools.train")
    comparison: ComparisonSection = Field(default_factory=ComparisonSection)
    calibrate: CalibrateSection = Field(default_factory=CalibrateSection)
    repair: RepairSection = Field(default_factory=RepairSection)
    observation: ObservationSection | None = Field(default=None, description="the data, if any")
    report: ReportSection = Field(default_factory=ReportSection)

    @field_validator("run_dir", mode="before")
    @classmethod
    def _at_home(cls, path: Any) -> Path:
        return as_path(path, "run_dir")


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a TOML file and check every field of it.

    Args:
        path: the file.
        overrides: texts ``key.path=value``, value in TOML syntax (bare words are strings).

    Raises:
        ConfigError: for a missing or unreadable file, TOML syntax, and unknown, missing or invalid
            fields.
    """
    path = as_path(path, "configuration file")
    try:
        text = utf8(read_file(path))
    except OSError as error:
        raise ConfigError(
            str(path), expected="a TOML file that can be read", got=str(error.strerror),
            fix="check the path; `sbitools demo --print-config` prints one to start from",
        ) from error  # fmt: skip
    except ValueError as error:
        raise ConfigError(
            str(path), expected="TOML in UTF-8", got=str(error), fix="save it as UTF-8"
        ) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            str(path), expected="valid TOML", got=str(error), fix="correct that line"
        ) from error
    return parse_config(apply_overrides(values, overrides))


def parse_config(values: Mapping[str, Any]) -> RunConfig:
    """A checked `RunConfig` of plain values; raises `ConfigError`."""
    return validate_model(RunConfig, values)


def validate_model(model: type[M], values: Mapping[str, Any] | None = None, prefix: str = "") -> M:
    """`model` filled with `values`.

    Args:
        model: a pydantic model.
        values: plain values.
        prefix: path of the table in the file, for messages.

    Raises:
        ConfigError: naming the first wrong field by its path, with the closest known name.
    """
    try:
        return model.model_validate(dict(values or {}))
    except ValidationError as error:
        raise _config_error(model, error, prefix) from None


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """`values` with ``key.path=value`` texts applied; numbers in a path index lists.

    Raises:
        ConfigError: for a text without ``=`` or a path through something that is not a table.
    """
    out: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    for text in overrides:
        key, equals, value = text.partition("=")
        steps = key.strip().split(".")
        if not equals or not all(steps):
            raise ConfigError(
                "--set", expected="key.path=value", got=repr(text),
                fix="write for example --set train.epochs=3",
            )  # fmt: skip
        try:
            _assign(out, steps, _toml_value(value.strip()))
        except (TypeError, ValueError, IndexError) as error:
            raise ConfigError(
                f"--set {key}", expected="a path through tables (and list positions)",
                got=str(error), fix="compare the path with the configuration file",
            ) from error  # fmt: skip
    return out


def _assign(target: Any, steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        target = target[int(step)] if isinstance(target, list) else target.setdefault(step, {})
        if not isinstance(target, dict | list):
            raise TypeError(f"{step!r} is a value, not a table")
    if isinstance(target, list):
        target[int(steps[-1])] = value
    else:
        target[steps[-1]] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _config_error(model: type[BaseModel], error: ValidationError, prefix: str) -> ConfigError:
    first, *rest = error.errors(include_url=False)
    path = ".".join([*filter(None, [prefix]), *(str(part) for part in first["loc"])])
    more = f" (and {len(rest)} more)" if rest else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        name = str(first["loc"][-1])
        fix = or_else(name, known, f"remove {path!r}")
        expected = f"one of {sorted(known)}"
        return ConfigError(path, expected=expected, got=f"unknown field {name!r}{more}", fix=fix)
    if first["type"] == "missing":
        field = _fields_at(model, first["loc"][:-1])[str(first["loc"][-1])]
        expected = field.description or f"a value of type {field.annotation}"
        fix = f"add `{first['loc'][-1]} = ...`" + (f" to [{_table(path)}]" if "." in path else "")
        return ConfigError(path, expected=expected, got=f"nothing{more}", fix=fix)
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return ConfigError(
        path or "configuration", expected=expected, got=f"{first['input']!r}{more}",
        fix=f"correct {path!r} in the file, or with --set {path}=...",
    )  # fmt: skip


def _table(path: str) -> str:
    return path.rpartition(".")[0]


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> dict[str, Any]:
    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(str(part))
        current = getattr(field, "annotation", None)
    return dict(getattr(current, "model_fields", {}))
