"""How the networks of the emulator of data vectors are trained."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from sbitools.training import TrainingOptions

__all__ = ["VectorOptions"]

_FEW, _EPOCHS = 3000, 5
_PER_ENTRY = 10


class VectorOptions(TrainingOptions):
    """`TrainingOptions`, and the sizes of the networks; None is chosen from the simulations.

    Attributes:
        network: whether networks learn what the closed form leaves. None: where there are ten
            simulations or more for each entry; fewer only teach them noise.
        epochs: of each network, at most; an epoch is about 200 steps.
        members: networks in each stack.
        hidden: width of the networks.
        components: normals in each one-dimensional mixture.
        batch_size: see `TrainingOptions`.
        validation_fraction: of the simulations, that choose what the networks are worth.
    """

    network: bool | None = None
    batch_size: int = Field(128, ge=1)
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    patience: int | None = Field(4, ge=1)
    threads: int | None = Field(1, ge=1)
    members: int = Field(2, ge=1, le=64)
    hidden: int = Field(32, ge=1, le=4096)
    components: int = Field(4, ge=1, le=64)

    def learns(self, n: int, entries: int) -> bool:
        """Whether networks are trained with `n` simulations of so many entries that vary."""
        return n >= _PER_ENTRY * entries if self.network is None else self.network

    def sized(self, n: int) -> Self:
        """The same, its own defaults given, and few epochs for few simulations.

        Args:
            n: simulations that networks learn from.
        """
        given = {"patience": self.patience, "batch_size": self.batch_size}
        if n <= _FEW and "epochs" not in self.model_fields_set:
            given["epochs"] = _EPOCHS
        return self.model_copy(update=given)
