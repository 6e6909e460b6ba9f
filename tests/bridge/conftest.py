"""A linear Gaussian problem with a box prior, and the posterior that sbi makes of it."""

import contextlib
import io
import warnings

import pytest
import torch

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors, seeds

SPEC = FieldSpec("x", ("i",), (3,))
SPACE = ParameterSpace(
    [Parameter("a", priors.Uniform(-1.0, 1.0)), Parameter("b", priors.Uniform(0.1, 0.7))]
)
NOISE = 0.3


def gaussian_store(path, n, seed):
    theta = SPACE.design(n, seed)
    noise_seeds = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    x = torch.stack([theta[:, 0], theta[:, 1], theta.sum(1)], 1).float()
    x = x + NOISE * seeds.normal(noise_seeds, (3,))
    return SimulationStore.from_arrays(path, theta, x, SPACE, SPEC, seeds=noise_seeds,
                                       design="random")  # fmt: skip


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    """Simulations to train on, and 64 to test with."""
    folder = tmp_path_factory.mktemp("bridge")
    return gaussian_store(folder / "train", 600, 1), gaussian_store(folder / "test", 64, 2)


@pytest.fixture(scope="session")
def trained(stores):
    """A `DirectPosterior` of sbi, trained for a few epochs: it leaks a little."""
    pytest.importorskip("sbi", reason="sbi is not installed")
    from sbi.inference import NPE
    from sbi.neural_nets import posterior_nn

    from sbitools.bridge import prior_for_sbi, theta_and_x

    theta, x = theta_and_x(stores[0])
    quiet = contextlib.redirect_stdout(io.StringIO())
    with seeds.seeded_globals(3), warnings.catch_warnings(), quiet:
        warnings.simplefilter("ignore")
        small = posterior_nn("maf", hidden_features=8, num_transforms=2)
        inference = NPE(prior_for_sbi(SPACE), small, show_progress_bars=False)
        inference.append_simulations(theta, x).train(max_num_epochs=8, training_batch_size=100)
        return inference.build_posterior()
