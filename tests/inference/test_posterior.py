"""What a posterior promises: support, seeds, bounded time, files that are verified."""

import json

import numpy as np
import pytest
import torch

from sbitools import Posterior
from sbitools.errors import (
    CheckpointError,
    MisspecificationWarning,
    ObservationError,
    PosteriorError,
    TimeLimitError,
)
from sbitools.inference import pieces
from sbitools.inference import posterior as module

X = torch.tensor([[0.3, 0.2], [-1.0, 0.9], [0.0, 0.0]])


def test_draws_are_seeded_and_do_not_depend_on_the_batch_or_the_chunks(posterior, monkeypatch):
    one = posterior.sample(X, 50, seed=4)
    assert torch.equal(one, posterior.sample(X, 50, seed=4))
    assert not torch.equal(one, posterior.sample(X, 50, seed=5))
    assert one.shape == (3, 50, 2)
    assert one.dtype == torch.float64
    monkeypatch.setattr(pieces, "_ROWS", 20)
    # float32 matrix products differ in the last digits with the batch's size.
    torch.testing.assert_close(posterior.sample(X, 50, seed=4), one, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(posterior.sample(X[:1], 50, seed=4), one[:1], rtol=1e-5, atol=1e-5)


def test_a_hopeless_observation_costs_no_more_than_another(posterior):
    far = torch.tensor([[1e6, -1e6]])
    with pytest.warns(MisspecificationWarning, match=r"x\[0\] is 1e\+06, simulated -"):
        draws = posterior.sample(far, 1000, time_limit=20)
    assert bool((draws[..., 1].abs() <= 1).all())


def test_log_prob_is_minus_infinity_outside_and_shapes_are_checked(posterior):
    theta = torch.tensor([[0.0, 1.5], [0.0, float("nan")], [0.0, 0.5]], dtype=torch.float64)
    value = posterior.log_prob(theta, X)
    assert value[:2].tolist() == [-np.inf, -np.inf]
    assert np.isfinite(float(value[2]))
    with pytest.raises(PosteriorError, match="one row of theta"):
        posterior.log_prob(theta[:2], X)


def test_the_time_limit_stops_sampling(posterior):
    with pytest.raises(TimeLimitError, match="raise time_limit"):
        posterior.sample(X, 10, time_limit=0.0)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(3), "shape"),
        (torch.zeros(()), "shape"),
        (torch.zeros(1, 3), "shape"),
        (torch.full((1, 2), 1e60, dtype=torch.float64), "float32 can hold"),
        (torch.full((2,), float("nan"), dtype=torch.float64), "row 0"),
        (torch.tensor([[0.0, 0.0], [0.0, float("nan")]]), "row 1"),
        (torch.tensor([[float("inf"), 0.0]]), "row 0"),
    ],
)
def test_bad_observations_raise_typed_errors(posterior, x, words):
    with pytest.raises(ObservationError, match=words):
        posterior.sample(x, 3)


def test_broken_weights_are_reported_with_the_row(posterior, tmp_path):
    broken = Posterior.load(posterior.save(tmp_path / "p"))
    broken.estimator.flow.head.net[-1].bias.data.fill_(float("nan"))
    with pytest.raises(PosteriorError, match=r"observations \[0, 1, 2\]"):
        broken.sample(X, 3)


def test_save_and_load_are_bit_equal(posterior, tmp_path):
    again = Posterior.load(posterior.save(tmp_path / "p"))
    assert torch.equal(again.sample(X, 20, seed=1), posterior.sample(X, 20, seed=1))
    assert again.parameters == posterior.parameters
    assert again.info == posterior.info
    posterior.save(tmp_path / "p")  # replaces the older one
    assert Posterior.load(tmp_path / "p").observed == posterior.observed


def _edit(path, change):
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def _flip(path):
    raw = bytearray((path / "weights.safetensors").read_bytes())
    raw[-100] ^= 1
    (path / "weights.safetensors").write_bytes(raw)


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        lambda p: (p / "weights.safetensors").write_bytes(b"\x00" * 50),
        lambda p: (p / "weights.safetensors").unlink(),
        lambda p: (p / "manifest.json").write_text("{"),
        lambda p: (p / "manifest.json").unlink(),
        lambda p: _edit(p, lambda m: m.update(kind="emulator")),
        lambda p: _edit(p, lambda m: m.update(schema=99)),
        lambda p: _edit(p, lambda m: m["config"]["options"].update(flow="coupling")),
    ],
)
def test_damaged_checkpoints_raise_typed_errors(posterior, tmp_path, damage):
    path = posterior.save(tmp_path / "p")
    damage(path)
    with pytest.raises(CheckpointError, match=r"expected .*; got .*; fix: "):
        Posterior.load(path)


def test_weights_of_another_network_are_caught_by_the_probe(posterior, tmp_path, monkeypatch):
    path = posterior.save(tmp_path / "p")
    monkeypatch.setattr("sbitools.inference.saved._PROBES", 3)
    with pytest.raises(CheckpointError, match="log densities"):
        Posterior.load(path)


def test_an_unwritable_place_is_a_typed_error(posterior, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="writable"):
        posterior.save(tmp_path / "file" / "p")


def test_densities_at_the_edge_of_the_prior_are_those_of_u(posterior):
    """A hopeless observation puts its draws at the bound, where theta has no digits left."""
    with pytest.warns(MisspecificationWarning, match="unlike the simulations"):
        draws, log_q = posterior.sample_and_log_prob(torch.tensor([[0.0, 60.0]]), 500, seed=1)
    assert bool(torch.isfinite(log_q).all())
    assert bool((draws[..., 1] <= 1).all())


def test_fields_are_embedded_a_few_at_a_time(posterior, monkeypatch):
    whole = posterior.sample(X, 5, seed=1)
    monkeypatch.setattr(module, "_EMBEDDED_NUMBERS", 1)
    sizes = []
    features = posterior.estimator.features
    monkeypatch.setattr(
        posterior.estimator, "features", lambda x: (sizes.append(len(x)), features(x))[1]
    )
    torch.testing.assert_close(posterior.sample(X, 5, seed=1), whole, rtol=1e-5, atol=1e-5)
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("kind", [lambda x: x.astype(">f4"), lambda x: x[::-1], lambda x: x])
def test_numpy_observations_of_any_layout(posterior, kind):
    array = kind(X.numpy().copy())
    array.flags.writeable = False
    expected = posterior.sample(torch.tensor(np.ascontiguousarray(array).astype("f4")), 4, seed=1)
    assert torch.equal(posterior.sample(array, 4, seed=1), expected)
    assert posterior.sample(array[:0], 4).shape == (0, 4, 2)
