"""What `train` does beyond one network: ensembles, three stages, fine-tuning, subsets."""

import pytest
import torch

import sbitools
from sbitools.errors import ConfigError, PosteriorError, TrainingError
from sbitools.inference.mixture import Mixture

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
    losses = posterior.info["validation_losses"]
    # A mixture with the best weights scores at least as well as its best member, on the
    # simulations the weights were chosen by.
    assert posterior.info["history"]["best_epoch"] >= 0
    assert len(losses) == 2
    posterior.save(tmp_path / "p")
    again = sbitools.Posterior.load(tmp_path / "p")
    assert torch.equal(again.sample(X, 20, seed=1), posterior.sample(X, 20, seed=1))


def test_three_stages_leave_their_runs_and_resume(store, tmp_path):
    options = OPTIONS | {"pretrain_epochs": 2}
    posterior = sbitools.train(store, run_dir=tmp_path / "a", **options)
    for name in ("pretrain", "frozen", "."):
        assert (tmp_path / "a" / name / "metrics.jsonl").is_file()
    again = sbitools.train(store, run_dir=tmp_path / "a", resume=True, **options)
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


@pytest.mark.parametrize("method", ["npe", "nle"])
@pytest.mark.parametrize(("name", "value"), [("pretrain_epochs", 2), ("symmetry", "cube")])
def test_what_the_fit_of_a_data_vector_cannot_use_is_refused(store, tmp_path, method, name, value):
    with pytest.raises(ConfigError, match=name):
        sbitools.train(store, method, run_dir=tmp_path, **{name: value})
    assert not list(tmp_path.iterdir())


def test_an_ensemble_that_would_not_be_one_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="ensemble"):
        sbitools.train(store, run_dir=tmp_path, ensemble=2)


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
