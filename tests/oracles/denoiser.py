"""The exact denoiser of a Gaussian field, whose samples are known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from emulators.methods.diffusion import Denoise


def unit_gaussian_denoiser(power: Tensor) -> Denoise:
    """The exact denoiser of a periodic Gaussian field: the oracle of the samplers.

    Args:
        power: variance of each Fourier mode, in the normalisation in which white noise of unit
            variance has 1 everywhere, shape (*n).
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        noise = sigma.view(-1, *[1] * (x.ndim - 1)) ** 2
        gain = power / (power + noise)
        return torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * gain, dim=axes).real

    return denoise
