"""Harmonic coefficients and angular power spectra of HEALPix maps, differentiable.

Conventions are those of `healpy.anafast` with `iter=0`: every pixel has the weight
4 pi / n_pixels, and (HEALPix and COSMO; Zaldarriaga & Seljak 1997, astro-ph/9609170)

    a_T = int T Y*,   a_E +- i a_B = -int (Q +- i U) +-2Y*,   C_l = sum_m a a'* / (2 l + 1).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sbitools.errors import ConfigError, ShapeError

from .ring_transform import RingTransform
from .sphere_maps import UNSEEN, check_nside, check_ordering

__all__ = ["SphericalSpectra"]


class SphericalSpectra(nn.Module):
    """Harmonic coefficients and spectra of batches of maps; gradients of any order pass.

    Args:
        nside: of the maps, a power of two.
        lmax: largest multipole; 3 nside - 1 if None.
        ordering: of the maps, ``"ring"`` or ``"nested"``.
        dtype: of tables and results, float32 or float64.
        weights: mask or apodisation that maps are multiplied by, shape (12 nside^2,) in the same
            ordering; pixels of weight zero may hold anything. Spectra are then pseudo spectra:
            nothing is divided by the sky fraction.

    Raises:
        ConfigError: for an Nside, an lmax, an ordering or a dtype that is none.
        ShapeError: for weights of another shape, or not finite.
    """

    weights: Tensor | None
    _multiplicity: Tensor

    def __init__(
        self, nside: int, lmax: int | None = None, *, ordering: str,
        dtype: torch.dtype = torch.float32, weights: Tensor | np.ndarray | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.nside, self.ordering = check_nside(nside), check_ordering(ordering)
        self.lmax = _check_lmax(3 * nside - 1 if lmax is None else lmax)
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                "dtype", expected="torch.float32 or torch.float64", got=str(dtype),
                fix="half precision is too coarse for these sums",
            )  # fmt: skip
        self.transform = RingTransform(self.nside, self.lmax, ordering, dtype)
        index = torch.arange(self.lmax + 1, dtype=torch.float64)
        both = (1 + (index > 0).double())[:, None] / (2 * index + 1)  # m and -m, over 2 l + 1
        self.register_buffer("_multiplicity", both.to(dtype), persistent=False)
        self.register_buffer("weights", None, persistent=False)
        if weights is not None:
            self.weights = self._checked(torch.as_tensor(weights), 1, "weights").clone()

    def alm(self, maps: Tensor) -> Tensor:
        """Scalar maps (B, n_pixels) to a_lm, complex, (B, lmax + 1 (l), lmax + 1 (m)), m >= 0."""
        return _complex(self._scalar(maps))[:, 0]

    def alm_eb(self, maps: Tensor) -> Tensor:
        """Q, U maps (B, 2, n_pixels) to E, B: complex, (B, 2, lmax + 1 (l), lmax + 1 (m))."""
        return _complex(self._polarised(maps))

    def power(self, maps: Tensor, others: Tensor | None = None) -> Tensor:
        """C_l (B, lmax + 1) of scalar maps (B, n_pixels), or of their pairs with `others`."""
        alm = self._scalar(maps)
        return self._sum(alm, alm if others is None else self._scalar(others))[:, 0]

    def power_eb(self, maps: Tensor) -> Tensor:
        """EE, BB and EB spectra (B, 3, lmax + 1) of Q, U maps (B, 2, n_pixels)."""
        alm = self._polarised(maps)
        return torch.cat([self._sum(alm, alm), self._sum(alm[:, :, :, :1], alm[:, :, :, 1:])], 1)

    def _sum(self, first: Tensor, second: Tensor) -> Tensor:
        """Coefficients (M, L, 2, F, B) to spectra (B, F, L)."""
        product = (first * second).sum(2)
        return (product * self._multiplicity[..., None, None]).sum(0).permute(2, 1, 0)

    def _scalar(self, maps: Tensor) -> Tensor:
        return self._transformed(self._checked(maps, 2, "maps")[:, None])

    def _polarised(self, maps: Tensor) -> Tensor:
        return self._transformed(self._checked(maps, 3, "Q, U maps"))

    def _transformed(self, maps: Tensor) -> Tensor:
        if self.weights is not None:
            maps = torch.where(self.weights == 0, 0.0, maps) * self.weights
        return self.transform(maps)

    def _checked(self, maps: Tensor, n_axes: int, what: str) -> Tensor:
        """Maps in the dtype of the tables, if their shape and their seen pixels are right."""
        pixels = 12 * self.nside**2
        shape = {1: (pixels,), 2: ("B", pixels), 3: ("B", 2, pixels)}[n_axes]
        right = maps.ndim == n_axes and maps.shape[-1] == pixels and len(maps) > 0
        if not right or (n_axes == 3 and maps.shape[1] != 2) or maps.is_complex():
            raise ShapeError(
                what, expected=f"real numbers {shape}, Nside {self.nside}",
                got=f"shape {tuple(maps.shape)}, {maps.dtype}",
                fix="pass whole maps of this Nside, Q and U on the second axis",
            )  # fmt: skip
        size = maps.detach().abs().amax(tuple(range(n_axes - 1)))
        if self.weights is not None:
            size = size[self.weights != 0]
        if not bool((size < UNSEEN).all()):  # NaN is not less than anything
            raise ShapeError(
                what, expected="no NaN, infinity or healpy.UNSEEN where weights are not zero",
                got=f"{int((~(size < UNSEEN)).sum())} such pixels",
                fix="give these pixels weight zero, and choose the same ones in every map",
            )  # fmt: skip
        return maps.to(self._multiplicity.dtype)


def _complex(coefficients: Tensor) -> Tensor:
    """(M, L, 2, F, B) to complex (B, F, L, M)."""
    return torch.view_as_complex(coefficients.permute(4, 3, 1, 0, 2).contiguous())


def _check_lmax(lmax: int) -> int:
    whole = isinstance(lmax, int | np.integer) and not isinstance(lmax, bool)
    if not whole or lmax < 2:
        raise ConfigError(
            "lmax", expected="an integer from 2", got=repr(lmax), fix="pass 2 nside, say"
        )
    return int(lmax)
