"""theta that are not of the stated prior are told of; those that are, by any design, never."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import kstest

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import ExtrapolationWarning, PriorMismatchWarning
from sbitools.inference.mcmc import MCMCPosterior
from sbitools.inference.prior_check import _span_probability, prior_mismatch, warn_of_prior
from sbitools.inference.truncation import JoinedStores

SPACE = ParameterSpace([
    Parameter("a", priors.Uniform(0.1, 0.5)),
    Parameter("b", priors.LogNormal(0.0, 1.0)),
    Parameter("c", priors.TorchPrior(torch.distributions.Beta(2.0, 3.0)), inferred=False),
    Parameter("d", priors.Categorical((0.2, 0.5, 0.3)), categories=("x", "y", "z"),
              inferred=False),
])  # fmt: skip


def design(n=400, seed=1, kind="random"):
    return SPACE.design(n, seed, kind).numpy()


@pytest.mark.parametrize("kind", ["random", "sobol", "latin_hypercube"])
def test_no_design_of_the_prior_alarms(kind):
    for n in (2, 3, 10, 37, 64, 400):
        for seed in range(20):
            assert prior_mismatch(SPACE, design(n, seed, kind)) == []


def test_theta_that_come_again_are_told_of():
    """Ten seeds of each of ten theta are ten draws of the prior, not a hundred."""
    again = np.repeat(design(10), 10, axis=0)
    assert prior_mismatch(SPACE, again) == [
        "10 different theta in 100 simulations, where draws of a prior never repeat"
    ]
    shuffled = np.random.default_rng(0).permutation(again)
    assert prior_mismatch(SPACE, shuffled)[0].startswith("10 different theta in 100")
    categories = again.copy()
    categories[:, 3] = np.arange(100) % 3  # those are no draws of continuous priors
    assert prior_mismatch(SPACE, categories)[0].startswith("10 different theta in 100")


def test_members_of_a_group_share_theta():
    groups = np.repeat(np.arange(50), 40)
    assert prior_mismatch(SPACE, np.repeat(design(50), 40, axis=0), groups) == []
    each = np.repeat(design(10), 200, axis=0)  # five groups of one theta each
    assert prior_mismatch(SPACE, each, groups) == [
        "10 different theta in 50 groups of simulations, where draws of a prior never repeat"
    ]


def test_rounding_and_categories_alone_repeat_without_alarm():
    assert prior_mismatch(SPACE, design(2000).astype(np.float32).astype(np.float64)) == []
    box = ParameterSpace([Parameter(k, priors.Uniform(0.0, 1.0)) for k in "ab"])
    text = np.char.mod("%.3f", box.design(3000, 1, "random").numpy()).astype(np.float64)
    assert len(np.unique(text, axis=0)) < len(text)
    assert prior_mismatch(box, text) == []
    codes = ParameterSpace([SPACE[3]])
    assert prior_mismatch(codes, codes.design(500, 1, "random").numpy()) == []


def boxed(width, n, n_parameters, seed):
    rng = np.random.default_rng(seed)
    return (1 - width) / 2 + width * rng.random((n, n_parameters))


@pytest.mark.parametrize(
    ("width", "n_parameters"), [(0.8, 1), (0.87, 2), (0.9, 3), (0.92, 5)], ids=str
)
def test_a_slightly_smaller_box_is_found_with_100_simulations(width, n_parameters):
    """Of boxes of 80 % of one prior, 1 in 200 was found by its two ends apart."""
    space = ParameterSpace([Parameter(f"p{i}", priors.Uniform(0, 1)) for i in range(n_parameters)])
    for seed in range(20):
        found = prior_mismatch(space, boxed(width, 100, n_parameters, seed))
        assert len(found) >= 1, (width, seed)
        assert "of the prior" in found[0]
        assert prior_mismatch(space, boxed(1.0, 100, n_parameters, seed)) == []


@pytest.mark.parametrize("n", [2, 10, 100])
def test_the_probability_of_a_span_is_exact(n):
    p = [_span_probability(boxed(1.0, n, 1, seed)[:, 0]) for seed in range(3000)]
    assert kstest(p, "uniform").pvalue > 1e-6


def test_grids_do_not_alarm():
    box = ParameterSpace([Parameter(k, priors.Uniform(0.0, 1.0)) for k in "ab"])
    axis = np.linspace(0, 1, 20)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    assert prior_mismatch(box, grid) == []


def smaller_box(t):
    t[:, 0] = 0.3 + 0.4 * (t[:, 0] - 0.3)


def gaussian(t):
    t[:, 0] = np.clip(np.random.default_rng(2).normal(0.3, 0.07, len(t)), 0.105, 0.495)


def constant(t):
    t[:, 1] = 1.0


def one_far(t):
    t[7, 1] = np.exp(9.0)


def wider(t):
    t[:, 1] = t[:, 1] ** 2


def lhs_of_another_range(t):
    t[:, 1] = np.random.default_rng(3).permutation(np.linspace(0.5, 2.0, len(t)))


def nuisance(t):
    t[:, 2] *= 0.5


def one_category(t):
    t[:, 3] = 1.0


def dependent(t):
    t[:, 1] = np.exp(np.argsort(np.argsort(t[:, 0])) / len(t) - 0.5 + np.log(t[:, 1]) / 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (smaller_box, "theta covers 39 % of the prior of a"),
        (gaussian, "of a lie where the prior has its lowest"),
        (constant, "b is 1 in every simulation"),
        (one_far, "b = 8103.08 is where the prior has none of its mass"),
        (wider, "of b lie where the prior has its lowest"),
        (lhs_of_another_range, "% of the prior of b"),
        (nuisance, "c"),
        (one_category, "of d lie where"),
        (dependent, "a and b are correlated"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_other_priors_are_told_of(change, words):
    theta = design(400)
    change(theta)
    found = prior_mismatch(SPACE, theta)
    assert found
    assert any(words in text for text in found), found


BOX = ParameterSpace([Parameter("m", priors.Uniform(-1.0, 1.0))])
SPEC = FieldSpec("x", ("i",), (3,))


def store(path, low=-1.0, high=1.0, n=200):
    rng = np.random.default_rng(4)
    theta = rng.uniform(low, high, (n, 1))
    x = (theta + 0.3 * rng.normal(size=(n, 3))).astype(np.float32)
    return SimulationStore.from_arrays(path, theta, x, BOX, SPEC)


def test_a_store_warns_unless_its_theta_are_truncated_on_purpose(tmp_path):
    small = store(tmp_path / "s", -0.4, 0.4)
    with pytest.warns(PriorMismatchWarning, match=r"covers (39|40) % of the prior of m"):
        warn_of_prior(small, None)
    whole = store(tmp_path / "w")
    with pytest.warns(PriorMismatchWarning):
        warn_of_prior(whole, np.flatnonzero(whole.theta[:, 0] > 0))
    rounds = JoinedStores([small])
    assert rounds.design == "truncated"
    warn_of_prior(rounds, None)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npe", "nle", "nre", "fmpe", "npse"])
def test_every_method_warns_at_train(tmp_path, method):
    with pytest.warns(PriorMismatchWarning, match=r"covers (39|40) % of the prior of m"):
        sbitools.train(store(tmp_path / "s", -0.4, 0.4), method, run_dir=tmp_path / "r", epochs=1)


def test_draws_where_nothing_was_simulated_are_told_of():
    posterior = MCMCPosterior.__new__(MCMCPosterior)
    posterior.parameters, posterior.options = BOX, SimpleNamespace(method="nle")
    posterior.info = {"simulated": {"m": [-0.9, 0.2]}}
    theta = torch.linspace(-0.9, 0.25, 1000, dtype=torch.float64)[None, :, None]
    u = BOX.to_unconstrained(torch.cat([theta, 0.1 * theta]))
    with pytest.warns(ExtrapolationWarning, match=r"4\.4 % of the draws of observation 0 .* in m"):
        posterior._warn_of_extrapolation(u)
    posterior._warn_of_extrapolation(u[1:])
    posterior.info = {}  # of an earlier version
    posterior._warn_of_extrapolation(u)
