"""All that an emulated map must have in common with simulated ones, in one vector."""

from __future__ import annotations

import torch
from torch import Tensor

from sbitools.statistics import SphericalSpectra

from .wavelets.filters import Frame
from .wavelets.transform import ScatteringCovariance

__all__ = ["Summaries"]


class Summaries:
    """Scattering covariances of standardised Q and U maps, and their EE, BB and EB spectra.

    Args:
        nside: of the maps.
        levels: scales of the scattering covariance; None goes down to Nside 2.
        orientations: of the wavelets.
        pole: longitude and latitude in degrees of what the orientations are measured from.
    """

    def __init__(
        self, nside: int, levels: int | None = None, orientations: int = 4,
        pole: tuple[float, float] = (0.0, 90.0),
    ) -> None:  # fmt: skip
        self.scattering = ScatteringCovariance(
            nside, 2, levels, orientations, Frame("meridian", pole)
        )
        self.spectra = SphericalSpectra(nside, ordering="nested")
        self.groups = self._groups()
        self.size = len(self.groups)

    def __call__(self, y: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """(B, size) of standardised maps y (B, 2, pixels) that stand for y * scale + offset.

        Args:
            y: maps without mean, of unit variance in every pixel.
            scale: standard deviation of every pixel over that of all, broadcast to y.
            offset: mean of every pixel in the same unit.
        """
        return torch.cat([self.scattering(y), self.of_spectra(y * scale + offset)], 1)

    def of_spectra(self, maps: Tensor) -> Tensor:
        """The last `n_spectra` numbers: EE, BB and EB from l = 2 on, of maps (B, 2, pixels)."""
        return self.spectra.power_eb(maps)[:, :, 2:].flatten(1)

    def weights(self) -> Tensor:
        """Share of each number in the loss: scattering and spectra have one half each."""
        spectra = torch.arange(self.size) >= self.size - self.n_spectra
        return torch.where(spectra, 0.5 / self.n_spectra, 0.5 / (self.size - self.n_spectra))

    def _groups(self) -> Tensor:
        """Which numbers are of one kind, by an integer each."""
        kinds: list[Tensor] = []
        for i, size in enumerate(self.scattering.block_sizes):
            kinds.append(torch.full((size,), i))
        first = len(kinds)
        multipoles = torch.arange(2, self.spectra.lmax + 1)
        self.n_spectra = 3 * len(multipoles)
        for spectrum in range(3):  # five neighbouring multipoles are of one kind
            kinds.append(first + 1000 * (spectrum + 1) + multipoles // 5)
        return torch.unique(torch.cat(kinds), return_inverse=True)[1]
