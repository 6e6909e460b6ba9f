"""Parts of the closed form of data vectors against the truth that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.methods.vector.emulator import VectorEmulator
from emulators.methods.vector.process import Processes
from emulators.methods.vector.shrinkage import choose_correlation
from sbitools.seeds import simulation_seeds
from tests.emulators.methods.vector import toys


def divergence(found, true):
    """Kullback-Leibler divergence of normal laws with these correlations, nats."""
    share = np.linalg.solve(found, true)
    return 0.5 * (np.trace(share) - len(true) - np.linalg.slogdet(share)[1])


def distances(n):
    return np.abs(np.arange(n)[:, None] - np.arange(n))


@pytest.mark.parametrize(
    ("true", "nats"),
    [  # numbers that 200 rows do not tell, halves of a nat: 30 of a band, 1 of a mode, none
        (0.5 ** distances(30), 0.3),
        (np.where(distances(30) == 0, 1.0, 0.5), 0.7),
        (np.eye(30), 0.1),
    ],
    ids=["neighbours", "one mode", "none"],
)
def test_correlations_are_found_from_few_rows(true, nats):
    rng = np.random.default_rng(1)
    z = torch.from_numpy(rng.standard_normal((200, 30)) @ np.linalg.cholesky(true).T)
    found = choose_correlation(z, torch.arange(200) % 4).numpy()
    assert divergence(found, true) < nats
    sample = np.corrcoef(z.numpy().T)
    assert divergence(sample, true) > 1.4  # what shrinkage is for


def test_what_a_process_does_not_know_is_as_large_as_its_error():
    """In units of the stated error, errors at new points have a size of about 1."""
    rng, c = np.random.default_rng(3), torch.linspace(-1, 1, 400, dtype=torch.float64)[:, None]
    ratios, sizes = [], []
    for n in (12, 96):
        errors = []
        for k in range(8):
            true = torch.sin(2.5 * c + k)
            rows = torch.from_numpy(rng.integers(0, 400, n))
            t = true[rows] + 0.3 * torch.from_numpy(rng.standard_normal((n, 1)))
            process, _ = Processes.fit(c[rows], t, torch.ones(n, dtype=torch.float64))
            stated = process.unknown(c)
            errors.append(((process(c) - true) / stated)[:, 0])
            sizes.append(float(stated.mean()))
        ratios.append(float(torch.cat(errors).square().mean().sqrt()))
    # Eight curves, each with some four independent errors: 13 %, and lengths that are fitted.
    assert all(0.6 < ratio < 1.6 for ratio in ratios)
    assert np.mean(sizes[:8]) > 1.8 * np.mean(sizes[8:])


def test_vectors_scatter_by_what_is_not_known_of_their_mean(tmp_path):
    emulator = VectorEmulator(toys.SPACE, toys.SPEC)
    emulator.fit(toys.store(tmp_path / "s", n=48), toys.QUICK, run_dir=tmp_path / "run")
    module, theta = emulator.module(), torch.tensor([[2.0, 1.0, 1.0]], dtype=torch.float64)
    seeds = torch.from_numpy(simulation_seeds(1, range(4000)))
    latent = emulator.latent(theta, seeds)
    known = latent.clone()
    known[:, module.density.mixture.n_latents :] = 0
    drawn, at_mean = (emulator.decode(theta.expand(4000, 3), z).double() for z in (latent, known))
    more = drawn.var(0) / at_mean.var(0)
    assert bool((more > 1.01).all())  # a corner of the prior, 48 simulations
    assert torch.allclose(drawn.median(0).values, at_mean.median(0).values, rtol=0.02)
    loaded = VectorEmulator.load(emulator.save(tmp_path / "saved") or tmp_path / "saved")
    assert torch.equal(loaded.decode(theta.expand(4000, 3), latent).double(), drawn)
