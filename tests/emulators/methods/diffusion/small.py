"""Small fields of every kind that the emulator takes, and stores of them."""

from __future__ import annotations

import numpy as np
import torch

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors

SPACE = ParameterSpace(
    [
        Parameter("amplitude", priors.Uniform(0.5, 2.0)),
        Parameter("slope", priors.Uniform(0.5, 2.5)),
    ]
)
OPTIONS = {
    "steps": 6, "batch_size": 4, "widths": (8, 8), "patch": 1, "seed": 5, "pieces": 1,
    "precision": "float32", "checkpoint_seconds": 0.0, "sampler_steps": 4,
    "validation_fraction": 0.3,
}  # fmt: skip


def wavenumber(shape):
    grids = np.meshgrid(*[np.fft.fftfreq(n) * n for n in shape], indexing="ij")
    k = np.sqrt(sum(g**2 for g in grids))
    k.flat[0] = np.inf
    return k


def gaussian(theta, shape, seed):
    """Periodic Gaussian fields, power amplitude^2 k^-slope, float64."""
    rng, k = np.random.default_rng(seed), wavenumber(shape)
    out = []
    for amplitude, slope in np.asarray(theta):
        white = np.fft.fftn(rng.standard_normal(shape))
        out.append(np.fft.ifftn(white * amplitude * k ** (-slope / 2)).real)
    return np.array(out)


def bubbles(theta, shape, seed):
    """Exponentials of Gaussian fields, 0 where these are low."""
    g = gaussian(theta, shape, seed)
    return np.where(g < -0.3, 0.0, np.exp(g))


def store(path, x, theta, output, space=SPACE):
    values = torch.from_numpy(np.asarray(x, dtype=output.dtype))
    return SimulationStore.from_arrays(path, theta, values, space, output)


PLANE = FieldSpec("plane", ("y", "x"), (16, 16), unit="K")
