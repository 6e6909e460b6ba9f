"""Options that every method of inference shares."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from sbitools.errors import ConfigError
from sbitools.training import TrainingOptions

from .methods import Method

__all__ = ["CommonOptions", "only", "parse_options"]


class CommonOptions(TrainingOptions):
    """How to train, and on what.

    Attributes:
        symmetry: ``"cube"`` shows the network a randomly flipped and permuted field at each step:
            for statistically isotropic fields on a cube, 48 times the data.
        device: torch device to train on; ``"auto"`` takes a GPU if there is one.
        workers: pieces of a batch that are computed at the same time on a CPU, one thread each;
            the result does not depend on it.
        frozen: ``"embedding"`` leaves the summary network as it is (for fine-tuning).
        pretrain_epochs: epochs in which the embedding alone learns to predict the parameters; then
            the rest is trained on top of it for as many, and at last both: the three stages of
            21cmPIE-INN (arXiv:2401.04174). For long training sets of expensive fields.
    """

    symmetry: Literal["none", "cube"] = "none"
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
        raise ConfigError(
            f"option {name!r} of train", expected=first["msg"], got=repr(options.get(name)),
            fix=f"choose among {', '.join(method.options.model_fields)}",
        ) from error  # fmt: skip


def only(model: type[BaseModel], options: BaseModel) -> Any:
    """Those of the options that belong to `model`."""
    return model(**{k: getattr(options, k) for k in model.model_fields})
