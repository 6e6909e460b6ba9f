"""The smallest N-body system that has everything: 8^3 particles, two redshifts."""

from __future__ import annotations

import torch

from emulators.nbody.simulator import NBodySimulator
from sbitools.seeds import simulation_seeds
from sbitools.store import SimulationStore

TINY = {"n": 8, "box_size": 25.0, "steps": 4}
OPTIONS = {
    "epochs": 2, "passes": 2, "channels": (4, 6), "validation_fraction": 0.3, "seed": 5,
    "precision": "float32", "checkpoint_seconds": 0.0,
}  # fmt: skip


def particles(path, n, seed=3):
    """A store of `n` simulations at redshifts 0 and 1."""
    simulator = NBodySimulator(**TINY, redshifts=(0.0, 1.0), quantity="particles")
    theta, seeds = simulator.parameters.design(n, seed), simulation_seeds(seed, range(n))
    store = SimulationStore.create(
        path, simulator.parameters, simulator.output, theta, seeds,
        source=simulator.source, seed=seed,
    )  # fmt: skip
    x, source = simulator.simulate(theta, torch.from_numpy(seeds))
    store.add_many(0, x.numpy(), source.numpy())
    return store
