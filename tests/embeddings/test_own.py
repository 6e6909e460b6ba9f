"""Summary networks of a user: trained, saved without code, and refused where they mislead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import sbitools
from sbitools import FieldSpec, Parameter, ParameterSpace, Posterior, SimulationStore, priors
from sbitools.embeddings import OwnEmbedding
from sbitools.errors import CheckpointError, ConfigError, SbitoolsError

SPACE = ParameterSpace([Parameter("a", priors.Uniform(-1.0, 1.0))])
SPEC = FieldSpec("x", ("channel", "i", "j"), (2, 4, 4), axes=("channel", "open", "open"))
SMALL: dict = {
    "epochs": 20, "batch_size": 16, "warmup_steps": 5, "learning_rate": 1e-2, "flow_hidden": 8,
    "flow_transforms": 1, "flow": "zuko_nsf",
}  # fmt: skip


class Means(nn.Module):
    """Eight features of the means of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 8)

    def forward(self, x):
        return self.layer(x.mean((-2, -1)))


def module(seed=1):
    with sbitools.seeds.initial_weights(seed):
        return Means()


def fields(n=300, scale=1.0, offset=0.0):
    rng = np.random.default_rng(3)
    theta = rng.uniform(-1, 1, (n, 1))
    x = theta[:, :, None, None] + 0.3 * rng.standard_normal((n, 2, 4, 4))
    return theta, (scale * x + offset)


@pytest.fixture
def store(tmp_path):
    theta, x = fields()
    return SimulationStore.from_arrays(
        tmp_path / "store", theta, x.astype(np.float32), SPACE, SPEC, design="random"
    )


def test_a_module_is_trained_and_saved_without_code(store, tmp_path):
    net = module()
    before = net.layer.weight.clone()
    posterior = sbitools.train(store, run_dir=tmp_path / "run", embedding=net, **SMALL)
    assert torch.equal(net.layer.weight, before)  # a copy is trained
    x, theta = store.read(range(50)), store.theta[:50]
    found = posterior.log_prob(theta, x)
    assert float(found.mean()) > 0.3  # of the prior: -0.69; of the exact posterior: 1.1
    path = posterior.save(tmp_path / "saved")
    with pytest.raises(CheckpointError, match=r"load\(path, embedding=module\)"):
        Posterior.load(path)
    again = Posterior.load(path, embedding=module(seed=2))  # weights are those of the file
    torch.testing.assert_close(again.log_prob(theta, x), found)
    with pytest.raises(CheckpointError):
        Posterior.load(path, embedding=nn.Flatten())
    tuned = sbitools.train(store, run_dir=tmp_path / "tuned", start=again, epochs=1)
    assert float(tuned.log_prob(theta, x).mean()) > 0.3


def test_a_run_is_not_resumed_with_another_module(store, tmp_path):
    sbitools.train(store, run_dir=tmp_path / "run", embedding=module(), **SMALL)
    with pytest.raises(SbitoolsError, match="run"):
        sbitools.train(
            store, run_dir=tmp_path / "run", resume=True, embedding=module(seed=2), **SMALL
        )


def test_the_unit_does_not_matter():
    nets = [OwnEmbedding(SPEC, module()) for _ in range(2)]
    out = []
    for net, scale, offset in zip(nets, (1.0, 1e-30), (0.0, 3e-28), strict=True):
        x = torch.from_numpy(fields(scale=scale, offset=offset)[1])
        net.set_scale(x.mean(0), x.std(0))
        out.append(net(x))
    # The offset is 300 spreads: 2e-14 in float64.
    torch.testing.assert_close(out[0], out[1], rtol=1e-4, atol=1e-4)


def test_channels_have_scales_of_their_own_and_entries_of_vectors_too():
    x = torch.randn(500, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    x[:, 1] = 1e20 * x[:, 1] + 1e21
    net = OwnEmbedding(SPEC, module())
    net.set_scale(x.double().mean(0), x.double().std(0))
    seen = net.standardise(x)
    assert seen.shape == x.shape
    assert abs(float(seen[:, 1].std()) - 1) < 0.01
    assert abs(float(seen[:, 1].mean())) < 0.01
    assert OwnEmbedding(FieldSpec("x", ("i",), (5,)), nn.Flatten()).mean.shape == (5,)
    items = FieldSpec("x", ("item", "column"), (6, 2))
    assert OwnEmbedding(items, nn.Flatten()).mean.shape == (1, 2)


class _Mixes(Means):
    def forward(self, x):
        y = super().forward(x)
        return y - y.mean(0)


class _Fails(Means):
    def forward(self, x):
        return super().forward(x[:, :1])


class _Nan(Means):
    def forward(self, x):
        return super().forward(x) * torch.nan


class _Wide(Means):
    def forward(self, x):
        return super().forward(x)[:, :, None]


class _Fewer(Means):
    def forward(self, x):
        return super().forward(x)[:1]


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (_Mixes(), "others when x comes alone"),
        (_Fails(), "RuntimeError"),
        (_Nan(), "nan"),
        (_Wide(), r"shape \(3, 8, 1\)"),
        (_Fewer(), r"shape \(1, 8\)"),
        (nn.Sequential(nn.BatchNorm2d(2), Means()), "BatchNorm2d"),
        (nn.Sequential(Means(), nn.Dropout(0.1)), "Dropout"),
    ],
)
def test_what_cannot_be_a_summary_network_is_refused(store, tmp_path, net, says):
    with pytest.raises(ConfigError, match=says):
        sbitools.train(store, run_dir=tmp_path / "run", embedding=net, **SMALL)
    assert not (tmp_path / "run" / "state").exists()


def test_options_of_our_networks_mean_nothing_to_another(store, tmp_path):
    with pytest.raises(ConfigError, match="channels"):
        sbitools.train(store, run_dir=tmp_path / "run", embedding=module(), channels=4, **SMALL)


def test_installed_networks_are_found_by_name(store, tmp_path, monkeypatch):
    info = tmp_path / "site" / "means-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: means\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sbitools.embeddings]\nmeans = tests.embeddings.test_own:from_spec\n"
        "none = tests.embeddings.test_own:not_a_module\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    posterior = sbitools.train(store, run_dir=tmp_path / "run", embedding="means", **SMALL)
    again = Posterior.load(posterior.save(tmp_path / "saved"))
    x, theta = store.read(range(5)), store.theta[:5]
    torch.testing.assert_close(again.log_prob(theta, x), posterior.log_prob(theta, x))
    with pytest.raises(ConfigError, match=r"torch\.nn\.Module"):
        sbitools.train(store, run_dir=tmp_path / "other", embedding="none", **SMALL)


def from_spec(spec):
    """What the entry point names."""
    assert spec.shape == (2, 4, 4)
    return Means()


def not_a_module(spec):
    """What it must not name."""
    return spec
