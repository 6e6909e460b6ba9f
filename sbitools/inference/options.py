"""Options that every method of inference shares."""

from __future__ import annotations

import reprlib
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from sbitools.axes import LINE_OF_SIGHT
from sbitools.errors import ConfigError
from sbitools.gate.names import or_else
from sbitools.simulator import FieldSpec
from sbitools.training import TrainingOptions

from .methods import Method, find_method
from .symmetry import Symmetry, turned_axes

__all__ = ["CommonOptions", "check_options", "only", "parse_options"]


class CommonOptions(TrainingOptions):
    """How to train, and on what.

    Attributes:
        symmetry: ``"cube"`` shows the network a randomly flipped and permuted field at each step:
            for statistically isotropic fields on a cube, 48 times the data; on a square, 8 times.
            ``"sky"`` leaves the last axis, the line of sight of a light cone, as it is.
        device: torch device to train on; ``"auto"`` takes a GPU if there is one.
        workers: pieces of a batch that are computed at the same time on a CPU, one thread each;
            the result does not depend on it.
        frozen: ``"embedding"`` leaves the summary network as it is (for fine-tuning).
        pretrain_epochs: epochs in which the embedding alone learns to predict the parameters; then
            the rest is trained on top of it for as many, and at last both: the three stages of
            21cmPIE-INN (arXiv:2401.04174). For long training sets of expensive fields.
    """

    symmetry: Symmetry = "none"
    device: str = "auto"
    threads: int | None = Field(1, ge=1)
    workers: int = Field(2, ge=1)
    frozen: Literal["none", "embedding"] = "none"
    pretrain_epochs: int = Field(0, ge=0)


def parse_options(method: Method, options: dict[str, Any]) -> Any:
    """The options of a method, checked.

    Raises:
        ConfigError: naming the first wrong option.
    """
    try:
        return method.options(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        known, got = list(method.options.model_fields), reprlib.repr(options.get(name))
        expected, fix = first["msg"].removeprefix("Value error, "), f"correct {name!r}"
        if first["type"] == "extra_forbidden":
            expected, got = f"an option of {method.title}", f"an unknown one, {name}={got}"
            fix = f"{or_else(name, known, 'leave it out')} There are {', '.join(known)}"
        raise ConfigError(
            f"option {name!r} of train", expected=expected, got=got, fix=fix
        ) from error


def check_options(options: Any, spec: FieldSpec) -> None:
    """Refuse options that would change nothing, or make no sense, for fields like `spec`.

    Args:
        options: of a method, see `parse_options`.
        spec: of the observed field.

    Raises:
        ConfigError: naming the first such option.
    """
    fields = type(options).model_fields
    for name, instead in find_method(options.method).unused(options, spec).items():
        if name in fields and getattr(options, name) != fields[name].default:
            raise ConfigError(
                f"option {name!r} of train",
                expected=f"its default, {fields[name].default!r}, for method {options.method!r} "
                f"and x of shape {spec.shape}, where it has no meaning",
                got=repr(getattr(options, name)),
                fix="leave it out" + (f", or {instead}" if instead else ""),
            )  # fmt: skip
    _check_symmetry(getattr(options, "symmetry", "none"), spec)


def _check_symmetry(symmetry: Symmetry, spec: FieldSpec) -> None:
    cone = spec.kinds[-1:] == ("evolving",)
    if (symmetry == "cube" and "evolving" in spec.kinds) or (symmetry == "sky" and not cone):
        raise ConfigError(
            "option 'symmetry' of train", expected="'sky' for light cones, whose last axis is "
            f"named {LINE_OF_SIGHT!r} and is not to be mirrored, 'cube' for others",
            got=f"{symmetry!r} for axes {spec.dims}",
            fix="use symmetry='sky' and put the line of sight last"
            if symmetry == "cube" else "use symmetry='cube', or name the axis",
        )  # fmt: skip
    turned = turned_axes(spec, symmetry)
    sides = [spec.shape[i] for i in turned]
    if symmetry != "none" and (len(sides) < 2 or len(set(sides)) == len(sides)):
        raise ConfigError(
            "option 'symmetry' of train",
            expected="two or more axes of space of equal length, which can change places",
            got=f"{symmetry!r} for axes {spec.dims} of shape {spec.shape}, of which "
            f"{[spec.dims[i] for i in turned] or 'none'} can be turned",
            fix="leave it out; or say what the axes are: FieldSpec(..., axes=...)",
        )  # fmt: skip


def only(model: type[BaseModel], options: BaseModel) -> Any:
    """Those of the options that belong to `model`."""
    return model(**{k: getattr(options, k) for k in model.model_fields})
