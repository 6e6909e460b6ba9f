"""The training loss: displacement, velocity and density errors, each as a logarithm.

Logarithms of mean squares weigh errors relative to what they already are, so that early and late
times, small and large errors pull alike (Jamieson et al. 2024, arXiv:2408.07699, section 3).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sbitools.statistics.grid import fft_modes

from .painting import density_contrast

__all__ = ["density_errors", "mean_square"]

# Below this 1 - r is float32 round-off.
_PHASE_FLOOR = 1e-6


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Mean square difference of each box, shape (B,)."""
    return (a - b).square().flatten(1).mean(1)


def density_errors(a: Tensor, b: Tensor, box_size: float) -> tuple[Tensor, Tensor, Tensor]:
    """How far the cloud-in-cell densities of two sets of particles are apart.

    Args:
        a: displacement in Mpc/h (B, 3, n, n, n), differentiable.
        b: displacement it is compared with; no gradient.
        box_size: side in Mpc/h.

    Returns:
        Mean square difference of the density contrasts, (B,); mean over wavenumbers of the
        squared logarithm of the ratio of power spectra, (B,): a minimal mean square alone makes
        fields too smooth, since it prefers no structure to structure in the wrong place; and mean
        over wavenumbers of log(1 - r), (B,), with the cross-correlation r: phases on large scales,
        nearly right already, count as much as those on small ones.
    """
    squares, powers, phases = [], [], []
    densities = (density_contrast(a, box_size), density_contrast(b.detach(), box_size))
    for mine, reference in zip(*densities, strict=True):
        squares.append((mine - reference).square().mean())
        own, its = torch.fft.rfftn(mine), torch.fft.rfftn(reference)
        own_power, its_power = _shell_sum(own, own), _shell_sum(its, its)
        powers.append((own_power / its_power).log().square().mean())
        r = _shell_sum(own, its) / (own_power * its_power).sqrt()
        phases.append((1 - r + _PHASE_FLOOR).log().mean())
    return torch.stack(squares), torch.stack(powers), torch.stack(phases)


def _shell_sum(a: Tensor, b: Tensor) -> Tensor:
    """Sum of Re(a b*) over shells one fundamental wide up to the Nyquist frequency."""
    n = a.shape[0]
    product = a.real * b.real + a.imag * b.imag
    shells, weight = _shells(n)
    total = product.new_zeros(n // 2 + 2).index_add(0, shells, (product * weight).flatten())
    return total[1 : n // 2 + 1]


@lru_cache(maxsize=4)
def _shells(n: int) -> tuple[Tensor, Tensor]:
    """Shell of each mode of an n^3 real FFT, and 2 where its conjugate is left out."""
    k2, weight = map(torch.from_numpy, fft_modes(n))
    return (k2.sqrt() + 0.5).long().clamp(max=n // 2 + 1).flatten(), weight.float()
