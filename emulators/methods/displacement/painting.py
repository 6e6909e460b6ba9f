"""Cloud-in-cell painting between particles and a periodic mesh.

Particle (i, j, k) of an n^3 lattice sits at q + displacement. On the CPU this is compiled code
that adds particles in one fixed order on one thread, so that its result does not depend on the
batch or the machine's load; on other devices it is torch. Both are differentiable once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sbitools.errors import ShapeError

__all__ = ["cic_deposit", "cic_gather", "density_contrast"]


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile once per machine if there is a place to keep the result, else once per process."""
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(function)


@_compile
def _deposit(displacement, cells, ratio, mesh):  # noqa: ANN001, ANN202 (types are inferred)
    """Add one unit of mass per particle to `mesh`; `cells` is mesh cells per Mpc/h."""
    n, m = displacement.shape[1], mesh.shape[0]
    for i in range(n):
        for j in range(n):
            for k in range(n):
                x = i * ratio + displacement[0, i, j, k] * cells
                y = j * ratio + displacement[1, i, j, k] * cells
                z = k * ratio + displacement[2, i, j, k] * cells
                fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
                dx, dy, dz = x - fx, y - fy, z - fz
                tx, ty, tz = 1 - dx, 1 - dy, 1 - dz
                x0, y0, z0 = int(fx) % m, int(fy) % m, int(fz) % m
                x1, y1, z1 = (x0 + 1) % m, (y0 + 1) % m, (z0 + 1) % m
                mesh[x0, y0, z0] += tx * ty * tz
                mesh[x0, y0, z1] += tx * ty * dz
                mesh[x0, y1, z0] += tx * dy * tz
                mesh[x0, y1, z1] += tx * dy * dz
                mesh[x1, y0, z0] += dx * ty * tz
                mesh[x1, y0, z1] += dx * ty * dz
                mesh[x1, y1, z0] += dx * dy * tz
                mesh[x1, y1, z1] += dx * dy * dz


@_compile
def _gather(fields, displacement, cells, ratio, out):  # noqa: ANN001, ANN202
    """Read `fields` (C, m, m, m) at the particles into `out` (C, n, n, n)."""
    n, m = displacement.shape[1], fields.shape[1]
    for i in range(n):
        for j in range(n):
            for k in range(n):
                x = i * ratio + displacement[0, i, j, k] * cells
                y = j * ratio + displacement[1, i, j, k] * cells
                z = k * ratio + displacement[2, i, j, k] * cells
                fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
                dx, dy, dz = x - fx, y - fy, z - fz
                tx, ty, tz = 1 - dx, 1 - dy, 1 - dz
                x0, y0, z0 = int(fx) % m, int(fy) % m, int(fz) % m
                x1, y1, z1 = (x0 + 1) % m, (y0 + 1) % m, (z0 + 1) % m
                for c in range(fields.shape[0]):
                    f = fields[c]
                    low = ty * (tz * f[x0, y0, z0] + dz * f[x0, y0, z1])
                    low += dy * (tz * f[x0, y1, z0] + dz * f[x0, y1, z1])
                    high = ty * (tz * f[x1, y0, z0] + dz * f[x1, y0, z1])
                    high += dy * (tz * f[x1, y1, z0] + dz * f[x1, y1, z1])
                    out[c, i, j, k] = tx * low + dx * high


@_compile
def _gather_gradient(field, displacement, cells, ratio, out):  # noqa: ANN001, ANN202
    """Gradient of the interpolated `field` with respect to each particle's position in cells."""
    n, m = displacement.shape[1], field.shape[0]
    for i in range(n):
        for j in range(n):
            for k in range(n):
                x = i * ratio + displacement[0, i, j, k] * cells
                y = j * ratio + displacement[1, i, j, k] * cells
                z = k * ratio + displacement[2, i, j, k] * cells
                fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
                dx, dy, dz = x - fx, y - fy, z - fz
                tx, ty, tz = 1 - dx, 1 - dy, 1 - dz
                x0, y0, z0 = int(fx) % m, int(fy) % m, int(fz) % m
                x1, y1, z1 = (x0 + 1) % m, (y0 + 1) % m, (z0 + 1) % m
                f000, f001 = field[x0, y0, z0], field[x0, y0, z1]
                f010, f011 = field[x0, y1, z0], field[x0, y1, z1]
                f100, f101 = field[x1, y0, z0], field[x1, y0, z1]
                f110, f111 = field[x1, y1, z0], field[x1, y1, z1]
                low = ty * (f100 - f000) + dy * (f110 - f010)
                out[0, i, j, k] = tz * low + dz * (ty * (f101 - f001) + dy * (f111 - f011))
                low = tx * (f010 - f000) + dx * (f110 - f100)
                out[1, i, j, k] = tz * low + dz * (tx * (f011 - f001) + dx * (f111 - f101))
                low = tx * (f001 - f000) + dx * (f101 - f100)
                out[2, i, j, k] = ty * low + dy * (tx * (f011 - f010) + dx * (f111 - f110))


def cic_deposit(displacement: np.ndarray, box_size: float, mesh: int) -> np.ndarray:
    """Mass per mesh cell in units of the mean (1 + density contrast), shape (mesh, mesh, mesh).

    Args:
        displacement: of the lattice particles in Mpc/h, shape (3, n, n, n).
        box_size: side in Mpc/h.
        mesh: cells per side.
    """
    n, real = displacement.shape[-1], displacement.dtype.type
    # Memory of torch is aligned to 64 bytes, which keeps the bits of an FFT of it reproducible.
    dtype = torch.from_numpy(displacement).dtype
    out = torch.zeros((mesh, mesh, mesh), dtype=dtype).numpy()
    _deposit(displacement, real(mesh / box_size), real(mesh / n), out)
    out *= real((mesh / n) ** 3)
    return out


def cic_gather(fields: np.ndarray, displacement: np.ndarray, box_size: float) -> np.ndarray:
    """Values of mesh fields at the particles, shape (C, n, n, n): the transpose of the deposit.

    Args:
        fields: shape (C, m, m, m), dtype of `displacement`.
        displacement: of the lattice particles in Mpc/h, shape (3, n, n, n).
        box_size: side in Mpc/h.
    """
    n, m, real = displacement.shape[-1], fields.shape[-1], displacement.dtype.type
    out = np.empty((len(fields), n, n, n), dtype=displacement.dtype)
    _gather(fields, displacement, real(m / box_size), real(m / n), out)
    return out


def density_contrast(displacement: Tensor, box_size: float, mesh: int | None = None) -> Tensor:
    """Density contrast rho / mean - 1 by cloud-in-cell, shape (B, mesh, mesh, mesh).

    Differentiable once in the displacement. On the CPU bit-equal whatever the batch.

    Args:
        displacement: of the lattice particles in Mpc/h, shape (B, 3, n, n, n).
        box_size: side in Mpc/h.
        mesh: cells per side; as many as particles if None.

    Raises:
        ShapeError: unless the displacement is (B, 3, n, n, n).
    """
    shape = tuple(displacement.shape)
    if len(shape) != 5 or shape[1] != 3 or len(set(shape[2:])) != 1:
        raise ShapeError(
            "displacement", expected="shape (B, 3, n, n, n)", got=f"shape {shape}",
            fix="pass one displacement vector per lattice particle, batch axis first",
        )  # fmt: skip
    m = mesh or shape[-1]
    if displacement.device.type == "cpu":
        return _CloudInCell.apply(displacement, float(box_size), m)  # type: ignore[no-any-return]
    return _deposit_torch(displacement, box_size, m)


class _CloudInCell(torch.autograd.Function):
    """The compiled deposit as a torch operation; its gradient is the transposed gather."""

    @staticmethod
    def forward(ctx: Any, displacement: Tensor, box_size: float, mesh: int) -> Tensor:
        ctx.save_for_backward(displacement)
        ctx.box_size, ctx.mesh = box_size, mesh
        boxes = displacement.detach().contiguous().numpy()
        out = torch.empty((len(boxes), mesh, mesh, mesh), dtype=displacement.dtype)
        for row, box in zip(out.numpy(), boxes, strict=True):
            row[...] = cic_deposit(box, box_size, mesh)
        return out.sub_(1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, upstream: Tensor
    ) -> tuple[Tensor, None, None]:
        (displacement,) = ctx.saved_tensors
        boxes, n, m = displacement.contiguous().numpy(), displacement.shape[-1], ctx.mesh
        out, real = np.empty_like(boxes), boxes.dtype.type
        cells, ratio = real(m / ctx.box_size), real(m / n)
        for row, box, field in zip(out, boxes, upstream.contiguous().numpy(), strict=True):
            _gather_gradient(field, box, cells, ratio, row)
        return torch.from_numpy(out) * ((m / n) ** 3 * m / ctx.box_size), None, None


def _deposit_torch(displacement: Tensor, box_size: float, m: int) -> Tensor:
    batch, n = displacement.shape[0], displacement.shape[-1]
    lattice = torch.arange(n, dtype=displacement.dtype, device=displacement.device) * (m / n)
    axes = (lattice[:, None, None], lattice[None, :, None], lattice[None, None, :])
    low, weight = [], []  # per axis: index of the lower cell, weights of the two cells
    for axis, q in enumerate(axes):
        position = q + displacement[:, axis] * (m / box_size)
        floor = position.detach().floor()
        low.append(floor.long())
        fraction = position - floor
        weight.append((1 - fraction, fraction))
    offset = torch.arange(batch, device=displacement.device).view(-1, 1, 1, 1) * m**3
    out = displacement.new_zeros(batch * m**3)
    for a in (0, 1):
        for b in (0, 1):
            for c in (0, 1):
                corner = [(i + s) % m for i, s in zip(low, (a, b, c), strict=True)]
                index = offset + (corner[0] * m + corner[1]) * m + corner[2]
                mass = weight[0][a] * weight[1][b] * weight[2][c]
                out = out.index_add(0, index.reshape(-1), mass.reshape(-1))
    return out.view(batch, m, m, m) * (m / n) ** 3 - 1
