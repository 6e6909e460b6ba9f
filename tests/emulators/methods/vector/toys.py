"""Small simulators of data vectors, and stores of them."""

from __future__ import annotations

import numpy as np
import torch

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors

SPACE = ParameterSpace(
    [
        Parameter("a", priors.LogUniform(0.5, 2.0)),
        Parameter("n", priors.Uniform(-1.0, 1.0)),
        Parameter("kind", None, inferred=False, categories=("faint", "bright")),
    ]
)
PLAIN = ParameterSpace([*SPACE[:2], Parameter("boost", priors.Uniform(0, 1), inferred=False)])
SPEC = FieldSpec("spectrum", ("band",), (8,), unit="mK")
QUICK = {"network": False}
SHORT = {"network": True, "epochs": 1, "members": 1, "hidden": 8, "components": 2}

_BANDS = np.arange(1, 9) / 4
_MODES = 20 + 4 * np.arange(8)


def mean(theta: np.ndarray) -> np.ndarray:
    """Band powers (N, 8)."""
    a, n, boost = np.asarray(theta).T[:, :, None]
    return a * _BANDS**n * (1 + boost)


def spectra(
    n: int, seed: int, unit: float = 1.0, space: ParameterSpace = SPACE
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Theta (n, 3), and band powers with the scatter of a finite number of modes."""
    theta, rng = space.design(n, seed), np.random.default_rng(seed)
    x = mean(theta.numpy()) * rng.chisquare(_MODES, (n, 8)) / _MODES
    return theta, torch.from_numpy(unit * x)


def store(path, n: int = 120, seed: int = 1, unit: float = 1.0, space: ParameterSpace = SPACE):
    """A store of `spectra`."""
    theta, x = spectra(n, seed, unit, space)
    return SimulationStore.from_arrays(path, theta, x.float(), space, SPEC)
