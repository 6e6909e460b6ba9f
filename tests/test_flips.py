"""Flipped bits, lost ends and zeroed blocks: a typed error, or the same content; never another."""

import random
import shutil

import pytest
import torch

import sbitools
from sbitools import (
    FieldSpec,
    Parameter,
    ParameterSpace,
    Posterior,
    SimulationStore,
    priors,
    seeds,
)
from sbitools.checkpoint import load_checkpoint, save_checkpoint
from sbitools.errors import SbitoolsError
from sbitools.training import read_metrics

SPACE = ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))])
FIELD = FieldSpec("x", ("i",), (4,), unit="mK")
OPTIONS = {"flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 8, "features": 4,
           "epochs": 2, "batch_size": 40, "workers": 1}  # fmt: skip


def damaged(data, rng):
    """`data` with one bit flipped, one byte changed, cut short, or 64 bytes zeroed."""
    out, where = bytearray(data), rng.randrange(len(data))
    match rng.choice(["bit"] * 5 + ["byte", "cut", "zero"]):
        case "bit":
            out[where] ^= 1 << rng.randrange(8)
        case "byte":
            out[where] = rng.randrange(256)
        case "cut":
            del out[where:]
        case "zero":
            out[where : where + 64] = bytes(len(out[where : where + 64]))
    return bytes(out)


def check(folder, look, n, seed):
    """`n` times one file below `folder` is damaged: `look` says the same or raises, typed."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    rng, truth, raised = random.Random(seed), look(), 0  # noqa: S311
    for _ in range(n):
        file = rng.choice(files)
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, rng))
        try:
            assert look() == truth, file
        except SbitoolsError:
            raised += 1
        file.write_bytes(whole)
    assert look() == truth
    assert raised > n // 4


def test_a_checkpoint(tmp_path):
    config = {"numbers": [1, 2.5, None], "text": "µ", "table": {"a": True}}
    tensors = {"a": torch.arange(40.0), "b": torch.arange(7), "empty": torch.zeros(0, 3)}
    path = save_checkpoint(tmp_path / "c", "kind", config, tensors)

    def look():
        found, weights = load_checkpoint(path, "kind")
        return found, {k: (v.dtype, v.tolist()) for k, v in weights.items()}

    check(path, look, 1000, seed=1)


def imported(path):
    theta, numbers = SPACE.design(120, 1), seeds.simulation_seeds(1, range(120))
    x = theta.float() + seeds.normal(numbers, (4,))
    return SimulationStore.from_arrays(
        path, theta, x, SPACE, FIELD, seeds=numbers, design="random", task_size=40
    )


@pytest.mark.slow
def test_a_posterior(tmp_path):
    store = imported(tmp_path / "s")
    path = sbitools.train(store, run_dir=tmp_path / "r", **OPTIONS).save(tmp_path / "p")

    def look():
        posterior = Posterior.load(path)
        weights = {k: v.tolist() for k, v in posterior.estimator.state_dict().items()}
        return weights, posterior.info, posterior.training_seeds.tolist(), repr(posterior.output)

    check(path, look, 400, seed=2)


@pytest.mark.slow
def test_the_state_of_a_training(tmp_path):
    """A finished run is read back; a damaged one is refused, or gives the same weights."""
    store, run = imported(tmp_path / "s"), tmp_path / "r"
    sbitools.train(store, run_dir=run, **OPTIONS)
    shutil.copytree(run, tmp_path / "copy")

    def look():
        read_metrics(run)
        posterior = sbitools.train(store, run_dir=run, resume=True, **OPTIONS)
        return {k: v.tolist() for k, v in posterior.estimator.state_dict().items()}

    check(run, look, 150, seed=3)
