"""theta that are not of the stated prior are told of; those that are, by any design, never."""

import warnings

import numpy as np
import pytest
import torch

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import ExtrapolationWarning, PriorMismatchWarning
from sbitools.inference.prior_check import prior_mismatch

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


def test_repeated_theta_and_grids_do_not_alarm():
    assert prior_mismatch(SPACE, np.repeat(design(50), 40, axis=0)) == []
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


@pytest.mark.parametrize("method", ["npe", "nle", "nre", "fmpe", "npse"])
def test_every_method_warns_at_train(tmp_path, method):
    with pytest.warns(PriorMismatchWarning, match=r"covers (39|40) % of the prior of m"):
        sbitools.train(store(tmp_path / "s", -0.4, 0.4), method, run_dir=tmp_path / "r", epochs=1)


@pytest.mark.parametrize("method", ["nle", "nre"])
def test_likelihoods_and_ratios_say_what_share_lies_where_nothing_was_simulated(tmp_path, method):
    s = store(tmp_path / "s", -1.0, 0.2)
    with pytest.warns(PriorMismatchWarning):
        posterior = sbitools.train(s, method, run_dir=tmp_path / "r", epochs=1)
    assert posterior.info["simulated"]["m"][1] == pytest.approx(0.2, abs=0.03)
    x = torch.full((1, 3), 0.6)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        draws = posterior.sample(x, 200)
    outside = float((draws > posterior.info["simulated"]["m"][1]).double().mean())
    said = [w for w in told if w.category is ExtrapolationWarning]
    assert (outside > 0.01) == bool(said)
    if method == "nle":  # it extrapolates its trend
        assert f"{100 * outside:.2g} % of the draws" in str(said[0].message)
