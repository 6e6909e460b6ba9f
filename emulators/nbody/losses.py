"""The training loss: displacement, velocity and density errors, each as a logarithm.

Logarithms of mean squares weigh errors relative to what they already are, so that early and late
times, small and large errors pull alike (Jamieson et al. 2024, arXiv:2408.07699, section 3).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.statistics.grid import fft_modes

from .painting import _compile, cic_deposit

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
    mesh, squares, powers, phases = a.shape[-1], [], [], []
    for x, y in zip(a, b, strict=True):
        mine: Tensor = _Deposit.apply(x, box_size)  # pyright: ignore[reportAssignmentType]
        reference = _deposit(y, box_size, mesh)
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


def _deposit(displacement: Tensor, box_size: float, mesh: int) -> Tensor:
    return torch.from_numpy(
        cic_deposit(displacement.detach().contiguous().numpy(), box_size, mesh)
    )


class _Deposit(torch.autograd.Function):
    """Cloud-in-cell mass of one box with a compiled gradient.

    Scattering with torch operations costs as much as the network; this does not.
    """

    @staticmethod
    def forward(ctx: Any, displacement: Tensor, box_size: float) -> Tensor:
        ctx.save_for_backward(displacement)
        ctx.box_size = box_size
        return _deposit(displacement, box_size, displacement.shape[-1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (displacement,) = ctx.saved_tensors
        moved = displacement.detach().contiguous().numpy()
        out = np.empty_like(moved)
        cells = moved.dtype.type(moved.shape[-1] / ctx.box_size)
        _deposit_gradient(moved, cells, g.contiguous().numpy(), out)
        return torch.from_numpy(out), None


@_compile
def _deposit_gradient(displacement, cells, g, out):  # noqa: ANN001, ANN202 (types are inferred)
    """d/d(displacement) of sum(g * mass), mesh as fine as the lattice."""
    n = displacement.shape[1]
    for i in range(n):
        for j in range(n):
            for k in range(n):
                x = i + displacement[0, i, j, k] * cells
                y = j + displacement[1, i, j, k] * cells
                z = k + displacement[2, i, j, k] * cells
                fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
                dx, dy, dz = x - fx, y - fy, z - fz
                tx, ty, tz = 1 - dx, 1 - dy, 1 - dz
                x0, y0, z0 = int(fx) % n, int(fy) % n, int(fz) % n
                x1, y1, z1 = (x0 + 1) % n, (y0 + 1) % n, (z0 + 1) % n
                a, b = g[x0, y0, z0], g[x0, y0, z1]
                c, d = g[x0, y1, z0], g[x0, y1, z1]
                e, f = g[x1, y0, z0], g[x1, y0, z1]
                p, q = g[x1, y1, z0], g[x1, y1, z1]
                low_y, low_z = tx * a + dx * e, tx * b + dx * f
                high_y, high_z = tx * c + dx * p, tx * d + dx * q
                out[0, i, j, k] = cells * (
                    ty * (tz * (e - a) + dz * (f - b)) + dy * (tz * (p - c) + dz * (q - d))
                )
                out[1, i, j, k] = cells * (tz * (high_y - low_y) + dz * (high_z - low_z))
                out[2, i, j, k] = cells * (ty * (low_z - low_y) + dy * (high_z - high_y))
