"""The network of any field: what it is told about places, and axes of any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .denoiser import Denoiser
from .network import UNet
from .sizes import Sizes, padded

__all__ = ["FieldModel", "FieldNetwork"]


class FieldNetwork(nn.Module):
    """A `UNet` that is told where cells are, along axes on which that matters.

    Axes that the levels do not divide are made longer for the network: with cells from the other
    end where they close on themselves, with zeros at both ends else.

    Args:
        channels: of the fields.
        parameters: numbers of the condition.
        space: cells along each axis.
        periodic: whether each axis closes on itself.
        told: whether the network is told the place along it.
        sizes: of the network.
        seed: of the initial weights.
        beside: channels of a source that fields follow from.
    """

    places: Tensor

    def __init__(
        self, channels: int, parameters: int, space: Sequence[int], periodic: Sequence[bool],
        told: Sequence[bool], sizes: Sizes, seed: int, beside: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.space, self.around = tuple(space), tuple(periodic)
        self.whole = tuple(
            padded(n, sizes.multiple, p) for n, p in zip(space, periodic, strict=True)
        )
        axes = [
            "periodic" if p and n == w else "open"
            for n, w, p in zip(space, self.whole, periodic, strict=True)
        ]
        places = _places(space, told)
        self.net = UNet(
            channels, parameters, axes, sizes.widths, sizes.blocks, sizes.patch,
            position=len(places), seed=seed, beside=beside,
        )  # fmt: skip
        self.register_buffer("places", places[None])

    def forward(
        self, x: Tensor, level: Tensor, condition: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """As `UNet.forward`, of fields (B, C, *space).

        `position` is the source on their grid, (B, beside, *space), if there is one.
        """
        if position is not None:
            x = torch.cat([x, position.to(x)], 1)
        places = self._longer(self.places) if self.places.shape[1] else None
        out = self.net(self._longer(x), level, condition, places)
        for axis, (n, whole) in enumerate(zip(self.space, self.whole, strict=True), start=2):
            if n != whole:
                out = out.narrow(axis, (whole - n) // 2, n)
        return out

    def _longer(self, x: Tensor) -> Tensor:
        for axis, (n, whole, around) in enumerate(
            zip(self.space, self.whole, self.around, strict=True), start=2
        ):
            if n == whole:
                continue
            before = (whole - n) // 2
            if around:
                cells = torch.arange(-before, whole - before, device=x.device) % n
                x = x.index_select(axis, cells)
            else:
                ends = [0, 0] * (x.ndim - axis - 1) + [before, whole - n - before]
                x = nn.functional.pad(x, ends)
        return x


class FieldModel(Denoiser):
    """A denoiser, and what its fields were whitened by: all that a fit finds.

    Args:
        network: of the denoiser.
        arrays: of the whitening; shared, so that weights that are loaded reach it.
    """

    def __init__(self, network: FieldNetwork, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(network)
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array))


def _places(space: Sequence[int], told: Sequence[bool]) -> Tensor:
    """A ramp from -1 to 1 along each axis of which the network is told, (axes, *space)."""
    ramps = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in space]
    grids = torch.meshgrid(*ramps, indexing="ij")
    kept = [g for g, t in zip(grids, told, strict=True) if t]
    return torch.stack(kept) if kept else torch.zeros(0, *space)
