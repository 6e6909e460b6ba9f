"""Law: the posterior of a x + b is that of x, by every method, in every unit."""

import warnings

import numpy as np
import pytest
import torch

import sbitools
from sbitools import (
    FieldSpec,
    Parameter,
    ParameterSpace,
    Posterior,
    SimulationStore,
    observation,
    priors,
)
from sbitools.errors import MisspecificationWarning, PosteriorError, SbitoolsError, TrainingError

N = 120
SPACE = ParameterSpace(
    [Parameter("a", priors.Uniform(-1, 1)), Parameter("b", priors.Normal(0, 1))]
)
THETA = SPACE.design(N, 1).numpy()
KIND = Parameter("k", priors.Categorical((0.5, 0.5)), categories=("one", "two"))
MIXED = ParameterSpace([KIND, *SPACE])
_rng = np.random.default_rng(0)
VECTOR = THETA @ _rng.normal(size=(2, 5)) + 0.3 * _rng.normal(size=(N, 5))
FILLED = np.concatenate([VECTOR[:, :4], np.full((N, 1), 1.5)], 1)
IMAGE = THETA[:, :1, None] + np.exp(0.3 * THETA[:, 1:, None]) * _rng.normal(size=(N, 8, 8))
IMAGE[:, 2:5, 3:6] = -9999.0
COUNTS = _rng.poisson(np.exp(1 + THETA)).astype(float)

FLOW = {"flow_hidden": 8, "flow_transforms": 1, "channels": 4, "features": 4}
SMALL = {"flow_hidden": 8, "members": 1, "components": 2}
CASES = {
    "npe, vector": (FILLED, "npe", SMALL),
    "npe, counts": (COUNTS, "npe", SMALL),
    "npe, flow": (FILLED, "npe", FLOW | {"flow": "zuko_nsf"}),
    "npe, image": (IMAGE, "npe", FLOW | {"symmetry": "cube"}),
    "npe, ensemble": (IMAGE, "npe", FLOW | {"ensemble": 2}),
    "npe, pretrained": (IMAGE, "npe", FLOW | {"pretrain_epochs": 1, "symmetry": "cube"}),
    "nle": (VECTOR, "nle", SMALL),
    "nle, counts": (COUNTS, "nle", SMALL),
    "nle, flow": (VECTOR, "nle", {"flow": "zuko_maf", "flow_hidden": 8, "flow_transforms": 1}),
    "nre": (FILLED, "nre", {"hidden": 8}),
    "fmpe": (FILLED, "fmpe", {"field_hidden": 8}),
    "npse": (IMAGE, "npse", {"field_hidden": 8, "channels": 4, "features": 4}),
    "discrete": (FILLED, "discrete", FLOW | {"hidden": 8}),
}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Laws hold at every step: a few are enough."""
    home = "sbitools.inference.vectors"
    monkeypatch.setattr(f"{home}.training._PAIRS", (500, 500))
    for part in (f"{home}.training", "sbitools.densities.fit"):
        monkeypatch.setattr(f"{part}.STEPS_PER_EPOCH", 4)


def learned(path, x, method, options, observe=None):
    """A posterior of few steps, the log densities of ten of its simulations, and features."""
    space, theta = SPACE, THETA
    if method == "discrete":
        space, theta = MIXED, np.concatenate([(THETA[:, :1] > 0), THETA], 1).astype(float)
    dims = ("i", "j")[: x.ndim - 1]
    store = SimulationStore.from_arrays(
        path / "s", theta, x, space, FieldSpec("x", dims, x.shape[1:], str(x.dtype))
    )
    posterior = sbitools.train(
        store, method, run_dir=path / "r", epochs=1, batch_size=40, observe=observe, **options
    )
    return posterior, posterior.log_prob(theta[:10], x[:10]), posterior.features(x[:10])


@pytest.mark.parametrize("case", CASES)
def test_the_posterior_of_a_x_plus_b_is_that_of_x(case, tmp_path):
    x, method, options = CASES[case]
    _, before, seen = learned(tmp_path / "1", x, method, options)
    for i, power in enumerate((-100, 100)):  # a power of two changes no digit
        _, after, features = learned(tmp_path / f"p{i}", 2.0**power * x, method, options)
        assert torch.equal(after, before)
        assert torch.equal(features, seen)
    y = 3e-29 * x + 4e-24  # and this changes some in the tenth place
    posterior, after, features = learned(tmp_path / "z", y, method, options)
    torch.testing.assert_close(features, seen, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(after, before, rtol=2e-2, atol=2e-2)
    again = Posterior.load(posterior.save(tmp_path / "saved"))  # its probe is in that unit, too
    assert torch.equal(again.features(y[:10]), features)


def test_noise_is_added_in_the_unit_of_x_before_it_is_scaled(tmp_path):
    options = FLOW | {"flow": "zuko_nsf"}
    found = [
        learned(tmp_path / str(unit), unit * VECTOR, "npe", options,
                sbitools.Observation([observation.Noise(0.5 * unit)]))
        for unit in (1.0, 2.0**-100)
    ]  # fmt: skip
    assert torch.equal(found[0][1], found[1][1])


def test_a_hole_hides_nothing(tmp_path):
    """Where the hole is seen, its -9999 is the map's scale, and the posterior is the prior."""
    posterior, *_ = learned(tmp_path, IMAGE, "npe", FLOW)
    assert 0.5 < float(posterior.estimator.embedding.std) < 3
    assert posterior.estimator.embedding.seen.sum() == 55


def test_counts_are_counts_in_every_unit_and_small_numbers_are_not(tmp_path):
    x = 1e-6 * VECTOR
    scale = learned(tmp_path / "k", x, "nle", SMALL)[0]
    plain = learned(tmp_path / "1", VECTOR, "nle", SMALL)[0]
    assert scale.info["weights"] == pytest.approx(plain.info["weights"], abs=1e-3)


def test_warnings_are_the_same_in_every_unit(tmp_path):
    told = []
    for i, (a, b) in enumerate(((1, 0), (1e-30, 0), (1e30, -1e33))):
        y = a * FILLED + b
        posterior, *_ = learned(tmp_path / str(i), y, "npe", FLOW | {"flow": "zuko_nsf"})
        texts = []
        last = np.eye(5)[4]  # the entry that never varies
        for change in (0, 30, 1e-9 * last, 30 * last):
            row = FILLED[:1] + change
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", MisspecificationWarning)
                posterior.sample(a * row + b, 5)
            texts.append(len(caught))
        told.append(texts)
    assert told == [[0, 1, 0, 1]] * 3


def test_data_that_hold_nothing_are_refused(tmp_path):
    lost = (2460000.5 + 0.01 * VECTOR).astype(np.float32)  # the signal is below the last place
    with pytest.raises(TrainingError, match=r"rounding of float32.*declare the field as float64"):
        learned(tmp_path, lost, "npe", FLOW | {"flow": "zuko_nsf"})
    with np.errstate(over="ignore"):
        infinite = (1e44 * VECTOR).astype(np.float32)
    with pytest.raises(SbitoolsError):
        learned(tmp_path / "inf", infinite, "npe", SMALL)


@pytest.mark.parametrize("case", ["npe, vector", "npe, flow", "nle", "nre", "fmpe", "npse"])
@pytest.mark.parametrize("value", [1e30, -1e38])
def test_a_hopeless_observation_has_a_number_or_a_typed_error(case, value, tmp_path):
    x, method, options = CASES[case]
    posterior, *_ = learned(tmp_path, x.astype(np.float32), method, options)
    try:
        found = posterior.log_prob(THETA[:3], np.full((3, *x.shape[1:]), value, np.float32))
    except PosteriorError as error:
        assert "units" in error.fix  # noqa: PT017
    else:
        assert not bool(found.isnan().any())


def test_time_limits_are_kept_by_chains(tmp_path):
    posterior, *_ = learned(tmp_path, VECTOR, "nle", SMALL)
    with pytest.raises(sbitools.errors.TimeLimitError):
        posterior.sample(VECTOR[:8], 20_000, time_limit=0.5)
