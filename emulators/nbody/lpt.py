"""Lagrangian perturbation theory on a periodic cube: Zel'dovich and second order displacements.

Particles start on a lattice q of n^3 points and move to x = q + D psi1(q) + E psi2(q), with D and
E the growth functions of `cosmology`. The linear density is white noise, drawn in real space,
times sqrt(P(k)): a seed has the same phases whatever the cosmology. Everything here is torch, and
differentiable in the white noise and in the power.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sbitools import seeds as rng
from sbitools.statistics.grid import fft_modes

__all__ = [
    "linear_modes", "one_thread", "second_order", "wavenumbers", "white_noise", "zeldovich",
]  # fmt: skip

Power = Callable[[np.ndarray], np.ndarray]


class _Users:
    """Who is inside `one_thread`, over all threads of Python."""

    lock = threading.Lock()
    count = 0
    before = 1  # torch's number of threads when the first of them came


_mine = threading.local()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: the rounding of its FFT depends on how many there are.

    Part of torch's setting belongs to the process and part to each thread of Python, so every
    user makes it one, and the last one to leave restores it; who left earlier stays at one.
    """
    with _Users.lock:
        if _Users.count == 0 and not getattr(_mine, "left_early", False):
            _Users.before = torch.get_num_threads()
        _Users.count += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _Users.lock:
            _Users.count -= 1
            _mine.left_early = _Users.count > 0
            if not _mine.left_early:
                torch.set_num_threads(_Users.before)


def white_noise(seeds: Tensor | Sequence[int], n: int) -> Tensor:
    """Standard normal numbers on the lattice, float32, shape (B, n, n, n); one seed per box."""
    return rng.normal(seeds, (n, n, n))


def wavenumbers(n: int, box_size: float, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Wave vector components of an n^3 real FFT in h/Mpc, broadcastable to (n, n, n // 2 + 1).

    Args:
        n: points per side.
        box_size: side in Mpc/h.
        like: its device, and the real dtype that goes with its dtype, are used.
    """
    real = like.real.dtype if like.is_complex() else like.dtype
    unit = 2 * math.pi / box_size
    full = torch.fft.fftfreq(n, 1 / n, dtype=real, device=like.device) * unit
    half = torch.fft.rfftfreq(n, 1 / n, dtype=real, device=like.device) * unit
    return full[:, None, None], full[None, :, None], half[None, None, :]


@lru_cache(maxsize=8)
def _shells(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct |k|^2 of the n^3 grid in units of the fundamental, and where each occurs."""
    k2, _ = fft_modes(n)
    squares, index = np.unique(k2, return_inverse=True)
    return squares, index.reshape(k2.shape).astype(np.int32)


def linear_modes(white: Tensor, box_size: float, power: Power) -> Tensor:
    """Fourier modes of the linear density contrast, shape (B, n, n, n // 2 + 1), complex.

    The mean is zero. So are the modes at the Nyquist frequency of any axis: a real field has no
    gradient there, and a displacement would not be the same in all three directions.

    Args:
        white: real, shape (B, n, n, n), n even.
        box_size: side in Mpc/h.
        power: P(k) in (Mpc/h)^3 for k in h/Mpc; exact at every k of the grid, not interpolated.
    """
    n = white.shape[-1]
    squares, index = _shells(n)
    k = 2 * math.pi / box_size * np.sqrt(np.maximum(squares, 1))
    amplitude = np.sqrt(power(k) * (n / box_size) ** 3)
    amplitude[squares == 0] = 0
    table = torch.as_tensor(amplitude, dtype=white.dtype, device=white.device)
    scale = table[torch.as_tensor(index, device=white.device)]
    scale[n // 2], scale[:, n // 2], scale[:, :, n // 2] = 0, 0, 0
    # One transform per box, and memory aligned alike: the bits must not depend on the batch.
    return torch.stack([torch.fft.rfftn(box.clone()) * scale for box in white])


def zeldovich(modes: Tensor, box_size: float) -> Tensor:
    """psi1 = -grad laplace^-1 delta at D = 1 in Mpc/h, shape (B, 3, n, n, n).

    Args:
        modes: of `linear_modes`.
        box_size: side in Mpc/h.
    """
    return torch.stack([_minus_inverse_gradient(box, box_size) for box in modes])


def _minus_inverse_gradient(modes: Tensor, box_size: float) -> Tensor:
    """-grad laplace^-1 of one box, i k / k^2 in Fourier space."""
    n = modes.shape[0]
    k = wavenumbers(n, box_size, modes)
    k2 = _square(k)
    return torch.stack([torch.fft.irfftn(modes * (1j * ki / k2), s=(n, n, n)) for ki in k])


def _square(k: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """|k|^2, with 1 at the origin: what is divided by it is zero there."""
    k2 = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    k2[0, 0, 0] = 1
    return k2


def second_order(modes: Tensor, box_size: float) -> Tensor:
    """psi2 in Mpc/h, shape (B, 3, n, n, n), so that x = q + D psi1 + E psi2.

    psi2 = grad laplace^-1 sum_{i<j} (phi_ii phi_jj - phi_ij^2) with laplace phi = delta. The
    products are formed on a grid 3/2 as fine, so that they are free of aliasing.

    Args:
        modes: of `linear_modes`.
        box_size: side in Mpc/h.

    References:
        | Bouchet, Colombi, Hivon & Juszkiewicz (1995), A&A 296, 575;
        | Scoccimarro (1998), arXiv:astro-ph/9711187, appendix D
    """
    return torch.stack([_second_order_box(box, box_size) for box in modes])


def _second_order_box(modes: Tensor, box_size: float) -> Tensor:
    n = modes.shape[0]
    fine = 3 * n // 2
    k = wavenumbers(n, box_size, modes)
    k2 = _square(k)

    def hessian(i: int, j: int) -> Tensor:
        padded = _resize(modes * (k[i] * k[j] / k2), fine)
        return torch.fft.irfftn(padded, s=(fine, fine, fine))

    xx, yy, zz = hessian(0, 0), hessian(1, 1), hessian(2, 2)
    source = xx * yy + yy * zz + zz * xx
    for i, j in ((0, 1), (1, 2), (2, 0)):
        source = source - hessian(i, j) ** 2
    second = _resize(torch.fft.rfftn(source), n)
    second[0, 0, 0] = 0
    return -_minus_inverse_gradient(second, box_size)


def _resize(modes: Tensor, m: int) -> Tensor:
    """The same periodic function on m^3 points; modes at or above either Nyquist are dropped."""
    n = modes.shape[0]
    low = min(n, m) // 2
    out = modes.new_zeros((m, m, m // 2 + 1))
    ends = (slice(0, low), slice(1 - low, None))
    for a in ends:
        for b in ends:
            out[a, b, :low] = modes[a, b, :low]
    return out * (m / n) ** 3
