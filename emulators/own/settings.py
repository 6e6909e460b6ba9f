"""What ``[settings]`` says about a user's own simulations: where they are, and what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_serializer

from sbitools.gate.models import PlainModel

__all__ = ["FieldSettings", "OwnParameter", "OwnSettings"]

Place = Annotated[str, Field(min_length=1)]


def _row(value: Any) -> Any:
    """A single axis may be written without its list."""
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


class OwnParameter(PlainModel):
    """One column of the table, and the prior it was drawn from.

    Attributes:
        name: of the parameter, an identifier.
        column: heading of its column, where that is not its name.
        prior: ``{kind = "uniform", low = 0.1, high = 0.5}``; kinds as in `sbitools.priors`. None
            if a joint prior says it.
        unit: as text, ``""`` if dimensionless.
        latex: for figures.
        inferred: False for one that varies but is not to be inferred.
        categories: names of the values of a categorical parameter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    column: str | None = Field(None, exclude=True)
    prior: dict[str, Any] | None = None
    unit: str = ""
    latex: str | None = None
    inferred: bool = True
    categories: tuple[str, ...] | None = None


class FieldSettings(PlainModel):
    """Fields in files, and what they are.

    Attributes:
        file: an array file with one row per simulation; a folder or a pattern with ``*`` or
            ``{index}`` for one file per simulation.
        dataset: name of the array in it.
        name: of the field.
        shape: of one simulation.
        dims: one name per axis.
        axes: what each axis is: ``"periodic"``, ``"open"``, ``"evolving"``, ``"healpix"`` or
            ``"channel"``.
        dtype: of the values.
        unit: as text, ``""`` if dimensionless.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Where files are may change: they are known by what is in them.
    file: Place | None = Field(None, exclude=True)
    dataset: str | None = Field(None, exclude=True)
    name: str = "x"
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_row)]
    dims: Annotated[tuple[str, ...], BeforeValidator(_row)]
    axes: Annotated[tuple[str, ...], BeforeValidator(_row)] | None = None
    dtype: str = "float32"
    unit: str = ""


class OwnSettings(PlainModel):
    """Simulations that somebody made with a program of their own.

    Attributes:
        x: the fields. Without a ``file`` they come from a command, or by ``sbitools import``.
        theta: file of the parameter table, with one named column per parameter.
        theta_dataset: its name in a file of several.
        index: column of the table that has the numbers in the names of files, of which there is
            one per simulation; without, rows are in the order of these numbers.
        parameters: columns and priors.
        joint: priors of several parameters together, one table each: ``{kind = "copula", names =
            ["a", "b"], correlation = 0.5}``, ``{kind = "ordered", names = ["a", "b"]}``,
            ``"sequential"`` likewise, and ``"multivariate_normal"`` with ``mean`` and
            ``covariance``; see `sbitools.priors`.
        priors_confirmed: whether somebody has looked at the priors; the report says so if not.
        source: input fields besides theta, row by row with x.
        group_size: consecutive simulations that share a volume, so that they are never on both
            sides of a split.
        design: ``"random"`` if the parameters are independent draws from the priors: p-values of
            calibration are exact for these alone.
        shuffle: seed of the split into training, validation and test simulations.
        nonfinite: ``"fail"`` records simulations with NaN or Inf as failed; ``"error"`` refuses.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    x: FieldSettings
    theta: Place | None = Field(None, exclude=True)
    theta_dataset: str | None = Field(None, exclude=True)
    index: str | None = None
    parameters: tuple[OwnParameter, ...] = ()
    joint: tuple[dict[str, Any], ...] = ()
    priors_confirmed: bool = Field(False, exclude=True)
    source: FieldSettings | None = None
    group_size: int = Field(1, ge=1)
    design: Literal["random", "sobol", "latin_hypercube", "imported"] = "imported"
    shuffle: int = Field(0, ge=0, lt=1 << 63)
    nonfinite: Literal["error", "fail"] = "fail"

    @model_serializer(mode="wrap")
    def _plain_values(self, handler: Callable[[OwnSettings], dict[str, Any]]) -> dict[str, Any]:
        """Without what is new and not used: runs know their settings by these values."""
        values = handler(self)
        if not self.joint:
            values.pop("joint", None)
        return values
