"""What stands for the program that made a user's simulations."""

from __future__ import annotations

from torch import Tensor

from sbitools.errors import CampaignError
from sbitools.parameters import Parameter, ParameterSpace
from sbitools.priors.joint import joint_from_dict
from sbitools.simulator import FieldSpec

from .settings import FieldSettings, OwnSettings

__all__ = ["OwnSimulator"]


class OwnSimulator:
    """The parameters and the output of simulations that only their owner can make.

    Args:
        settings: of the system.

    Raises:
        ParameterError: for priors or names that cannot be used.
        ShapeError: for axes that do not fit the shape.
    """

    def __init__(self, settings: OwnSettings) -> None:
        self.parameters = ParameterSpace(
            [
                Parameter.from_dict(p.model_dump(exclude_none=True, exclude={"column"}))
                for p in settings.parameters
            ],
            [joint_from_dict(values) for values in settings.joint],
        )
        self.output = _spec(settings.x)
        self.source = None if settings.source is None else _spec(settings.source)
        self.group_size = settings.group_size

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Raises `CampaignError`: the program is not known."""
        raise CampaignError(
            f"simulations of {self.output.name!r}", expected="files of simulations, or a program",
            got="neither",
            fix="name the files in [settings] (x.file and theta), or run `sbitools simulate "
            "CONFIG --store ... --command '...'`, or `sbitools import`",
        )  # fmt: skip


def _spec(field: FieldSettings) -> FieldSpec:
    return FieldSpec(field.name, field.dims, field.shape, field.dtype, field.unit, field.axes)
