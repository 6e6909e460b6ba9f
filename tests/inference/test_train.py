"""What `train` does beyond one network: ensembles, three stages, fine-tuning, subsets."""

import pytest
import torch

import sbitools
from sbitools.densities.mixture import Mixture
from sbitools.errors import ConfigError, PosteriorError, TrainingError
from sbitools.inference.job import Job
from sbitools.inference.methods import find_method
from sbitools.inference.options import parse_options

OPTIONS = {"flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 16, "features": 4,
           "channels": 1, "batch_size": 128, "learning_rate": 5e-3, "epochs": 3}  # fmt: skip
X = torch.tensor([[0.3, -0.2], [1.0, 0.5]])


def test_an_ensemble_weighs_different_members_and_is_saved(store, tmp_path):
    posterior = sbitools.train(store, run_dir=tmp_path / "r", ensemble=2, **OPTIONS)
    mixed = posterior.estimator
    assert isinstance(mixed, Mixture)
    assert float(mixed.weights.sum()) == pytest.approx(1)
    one, two = (m.features(X) for m in mixed.members)
    assert not torch.allclose(one, two)
    assert len(posterior.info["validation_losses"]) == 2
    job = Job(store, find_method("npe"), parse_options(find_method("npe"), OPTIONS),
              posterior.observation, None)  # fmt: skip
    theta, x = store.theta[job.held_out], store.read(job.held_out)
    u = store.parameters.to_unconstrained(theta)[:, None]
    with torch.no_grad():
        each = [m.log_prob(u, m.features(x))[:, 0] for m in mixed.members]
    # Weights that maximise the held-out score cannot do worse than either member alone; 1e-3
    # nats for float32 and the optimiser's end.
    together = torch.stack([w.log() + score for w, score in zip(mixed.weights, each, strict=True)])
    assert together.logsumexp(0).mean() > max(score.mean() for score in each) - 1e-3
    posterior.save(tmp_path / "p")
    again = sbitools.Posterior.load(tmp_path / "p")
    assert torch.equal(again.sample(X, 20, seed=1), posterior.sample(X, 20, seed=1))


def test_three_stages_leave_their_runs_and_resume(store, tmp_path):
    options = OPTIONS | {"pretrain_epochs": 2}
    posterior = sbitools.train(store, run_dir=tmp_path / "a", **options)
    for name in ("pretrain", "frozen", "."):
        assert (tmp_path / "a" / name / "metrics.jsonl").is_file()
    again = sbitools.train(
        store, run_dir=tmp_path / "a", resume=True, on_epoch=lambda row: pytest.fail("it trained"),
        **options,
    )  # fmt: skip
    pairs = zip(posterior.estimator.state_dict().values(), again.estimator.state_dict().values(),
                strict=True)  # fmt: skip
    assert all(torch.equal(a, b) for a, b in pairs)
    plain = sbitools.train(store, run_dir=tmp_path / "b", **OPTIONS)
    assert not torch.equal(plain.features(X), posterior.features(X))


def test_fine_tuning_with_a_frozen_embedding_moves_the_flow_alone(posterior, store, tmp_path):
    tuned = sbitools.train(store, run_dir=tmp_path, start=posterior, frozen="embedding", epochs=1)
    assert torch.equal(tuned.features(X), posterior.features(X))
    theta = torch.tensor([[0.1, 0.2], [0.3, -0.1]])
    assert not torch.equal(tuned.log_prob(theta, X), posterior.log_prob(theta, X))
    with pytest.raises(PosteriorError, match="network options"):
        sbitools.train(store, run_dir=tmp_path / "b", start=posterior, flow_hidden=7)


def test_every_member_of_an_ensemble_goes_through_the_stages(store, tmp_path):
    options = OPTIONS | {"pretrain_epochs": 1, "ensemble": 2, "epochs": 1}
    sbitools.train(store, run_dir=tmp_path, **options)
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("metrics.jsonl")}
    stages = ("pretrain/metrics.jsonl", "frozen/metrics.jsonl", "metrics.jsonl")
    assert {f"member-{k}/{stage}" for k in (0, 1) for stage in stages} <= found


@pytest.mark.parametrize(
    ("method", "name", "value", "more"),
    [("npe", "pretrain_epochs", 2, {}), ("npe", "symmetry", "cube", {}),
     ("npe", "symmetry", "cube", {"flow": "zuko_maf"}), ("npe", "ensemble", 2, {}),
     ("npe", "frozen", "embedding", {}), ("npe", "flow_transforms", 5, {}),
     ("npe", "patch", 4, {}), ("npe", "heads", 2, {}), ("npe", "padded", True, {}),
     ("nle", "symmetry", "cube", {}), ("nle", "pretrain_epochs", 2, {}),
     ("nle", "pretrain_epochs", 2, {"flow": "zuko_maf"}), ("discrete", "ensemble", 2, {})],
)  # fmt: skip
def test_options_without_meaning_are_refused(store, tmp_path, method, name, value, more):
    with pytest.raises(ConfigError, match=name):
        sbitools.train(store, method, run_dir=tmp_path, **{name: value}, **more)
    assert not list(tmp_path.iterdir())


def test_a_subset_of_data_vectors_holds_out_its_own_share(store, tmp_path):
    rows = store.done[:200]
    posterior = sbitools.train(store, run_dir=tmp_path, indices=rows, members=1, components=1,
                               flow_hidden=4, emulate=False, epochs=1)  # fmt: skip
    # A fifth of 200: a tenth would be fewer than the weights need.
    assert posterior.info["n_validation"] == 40


def test_a_subset_is_all_that_is_seen(store, tmp_path):
    rows = store.done[:300]
    posterior = sbitools.train(store, run_dir=tmp_path, indices=rows, **OPTIONS)
    assert posterior.info["n_training"] + posterior.info["n_validation"] == 300
    assert torch.equal(posterior.training_seeds, store.seeds[:300].sort().values)
    with pytest.raises(TrainingError, match="finished simulations"):
        sbitools.train(store, run_dir=tmp_path / "b", indices=[10**6], **OPTIONS)
