"""How the emulator of any field is trained: what is not said is chosen from field and store."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from .layout import Layout
from .options import DiffusionOptions
from .sizes import choose_sizes

__all__ = ["FieldOptions", "Symmetry"]

Symmetry = Literal["shift", "flip", "turn"]

_PASSES = 150  # times that each simulation is seen, at most
_STEPS = (500, 2000)


class FieldOptions(DiffusionOptions):
    """`DiffusionOptions`; None is what `sized` chooses.

    Attributes:
        symmetries: under which fields are as likely as before: ``"shift"`` along periodic axes,
            ``"flip"`` of axes (not of those along which fields evolve), ``"turn"``: equal axes
            exchanged. None: shifts along periodic axes on which held-out simulations show no
            place to differ from another.
        network: False keeps Gaussian fields of the spectra that were found, made cell by cell what
            the transform says; for a quick look.
        steps: see `DiffusionOptions`.
        batch_size: see `DiffusionOptions`.
        widths: see `DiffusionOptions`.
        patch: see `DiffusionOptions`.
        patience: see `TrainingOptions`.
    """

    symmetries: tuple[Symmetry, ...] | None = None
    network: bool = True
    steps: int | None = Field(None, ge=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    widths: tuple[Annotated[int, Field(ge=1, le=4096)], ...] | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        None, min_length=1, max_length=6
    )
    patch: int | None = Field(None, ge=1, le=256)  # pyright: ignore[reportIncompatibleVariableOverride]
    patience: int | None = Field(4, ge=1)

    def sized(self, layout: Layout, n: int) -> Self:
        """The same, all chosen.

        Args:
            layout: of the fields.
            n: simulations that are learned from.
        """
        sizes = choose_sizes(
            layout.space, layout.periodic, self.widths, self.patch, self.blocks
        )  # fmt: skip
        steps = self.steps
        if steps is None:
            low, high = _STEPS
            steps = min(high, max(low, n * _PASSES // self.batch_size))
        changes = {"widths": sizes.widths, "patch": sizes.patch, "steps": steps}
        return self.model_copy(update=changes).resolved()
