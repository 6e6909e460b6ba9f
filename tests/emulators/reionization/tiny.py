"""Toy 21cm fields that need no 21cmFAST: a filtered Gaussian field, its highest peaks ionised."""

from __future__ import annotations

import numpy as np
import torch

from emulators.reionization.simulator import ReionizationSimulator
from sbitools.seeds import simulation_seeds
from sbitools.store import SimulationStore

OPTIONS = {
    "steps": 8, "batch_size": 4, "widths": (8, 8), "validation_fraction": 0.3, "seed": 5,
    "precision": "float32", "checkpoint_seconds": 0.0, "window": 8, "overlap": 4,
    "sampler_steps": 4,
}  # fmt: skip


def simulator(quantity="slice", **changes):
    """A small simulator, of which only the specification is used."""
    cone = {"n_los": 24} if quantity == "lightcone" else {}
    sizes = {"n": 16, "box_size": 32.0} | cone | changes
    return ReionizationSimulator(quantity, **sizes)


def fields(theta, seeds, shape):
    """Brightness temperatures in mK, float32: the first parameter sets how much is ionised."""
    low, high = theta.min(0).values, theta.max(0).values
    unit = (theta - low) / (high - low).clamp(min=1e-9)
    out = np.empty((len(theta), *shape), dtype=np.float32)
    for x, seed, u in zip(out, seeds, unit.numpy(), strict=True):
        white = np.random.default_rng(int(seed)).standard_normal(shape)
        k = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")))
        smooth = np.fft.ifftn(np.fft.fftn(white) * np.exp(-0.5 * (8 * k) ** 2)).real
        smooth /= smooth.std()
        x[:] = np.where(smooth > 2 - 3 * u[0], 0.0, 20 + (3 + 3 * u[-1]) * (white + smooth))
    return np.clip(out, 0, None)


def store(path, reference, n, seed=3):
    """A store like one of `reference`'s training simulator."""
    training = reference.training_simulator()
    theta = training.parameters.design(n, seed)
    seeds = simulation_seeds(seed, range(n))
    x = fields(theta, seeds, training.output.shape)
    return SimulationStore.from_arrays(
        path, theta, torch.from_numpy(x), training.parameters, training.output, seeds=seeds
    )
