"""Stores of a user's own files: every simulation in one of them, at the right parameters."""

from __future__ import annotations

import numpy as np
import pytest

from emulators.own import system
from emulators.own.settings import OwnSettings
from emulators.own.split import split
from sbitools import SimulationStore
from sbitools.errors import ConfigError, ParameterError, SbitoolsError, ShapeError, StoreError

N, SIZES = 40, {"reference/train": 20, "reference/validation": 4, "reference/test": 16}


@pytest.fixture
def files(tmp_path):
    """Fields that hold their parameters, in one file, with a table beside it."""
    rng = np.random.default_rng(5)
    theta = rng.uniform([0.0, -1.0], [1.0, 1.0], (N, 2))
    x = np.repeat(theta[:, None, :], 6, axis=1).astype(np.float32)  # (N, 6, 2)
    np.save(tmp_path / "x.npy", x)
    table = "\n".join(
        ["run,b,a", *(f"{i},{b!r},{a!r}" for i, (a, b) in enumerate(theta.tolist()))]
    )
    (tmp_path / "theta.csv").write_text(table + "\n")
    return tmp_path


def settings(folder, **changes):
    uniform = {"kind": "uniform", "low": -1.0, "high": 1.0}
    values = {
        "x": {"file": str(folder / "x.npy"), "shape": [6, 2], "dims": ["i", "channel"]},
        "theta": str(folder / "theta.csv"),
        "parameters": [{"name": "a", "prior": uniform}, {"name": "b", "prior": uniform}],
    }  # fmt: skip
    return OwnSettings.model_validate(values | changes)


def made(folder, name="reference/train", sizes=SIZES, **changes):
    chosen = settings(folder, **changes)
    return system.provide(chosen, name, sizes, folder / name.replace("/", "-"))


def test_every_simulation_is_in_one_store_at_its_own_parameters(files):
    stores = [made(files, name) for name in SIZES]
    assert [len(store) for store in stores] == list(SIZES.values())
    theta = np.concatenate([store.theta.numpy() for store in stores])
    x = np.concatenate([store.read(store.done).numpy() for store in stores])
    assert np.allclose(x[:, 0], theta, atol=1e-6)
    assert len(np.unique(theta, axis=0)) == N
    seeds = np.concatenate([store.seeds.numpy() for store in stores])
    assert len(np.unique(seeds)) == N


def test_one_file_per_simulation_is_the_same(files):
    x = np.load(files / "x.npy")
    for i, field in enumerate(x):
        np.save(files / f"run_{i}.npy", field)
    one = made(files)
    other = system.provide(
        settings(files, x={"file": str(files / "run_{index}.npy"), "shape": [6, 2],
                           "dims": ["i", "channel"]}),
        "reference/train", SIZES, files / "other",
    )  # fmt: skip
    assert one.digest() == other.digest()


def test_groups_stay_together():
    rows = [split(name, SIZES, N, group_size=4, seed=3) for name in SIZES]
    assert all(len(np.unique(r // 4)) == len(r) // 4 for r in rows)
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(N))


def test_fields_with_nan_are_recorded_as_failed(files):
    x = np.load(files / "x.npy")
    x[:, 0, 0][::10] = np.nan
    np.save(files / "x.npy", x)
    stores = [made(files, name) for name in SIZES]
    assert sum(store.counts()["failed"] for store in stores) == 4
    np.save(files / "x.npy", np.full_like(x, np.nan))
    with pytest.raises(StoreError, match="finite"):
        made(files, "reference/other", sizes={"reference/other": 30})
    assert not (files / "reference-other").exists()


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"x": {"shape": [5, 2], "dims": ["i", "j"]}}, ShapeError, "shape"),
        ({"x": {"file": "absent.npy", "shape": [6, 2], "dims": ["i", "j"]}}, StoreError, "absent"),
        ({"theta": "absent.csv"}, StoreError, "absent"),
        ({"parameters": [{"name": "c", "prior": {"kind": "normal", "loc": 0.0, "scale": 1.0}}]},
         ParameterError, "c"),
        ({"parameters": [{"name": "a", "prior": {"kind": "uniform", "low": 0.5, "high": 1.0}}]},
         ParameterError, "prior"),
        ({"group_size": 3}, ConfigError, "groups of 3"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(files, changes, error, said):
    if "x" in changes:
        changes = {"x": {"file": str(files / "x.npy")} | changes["x"]}
    with pytest.raises(SbitoolsError, match=said) as caught:
        made(files, **changes)
    assert isinstance(caught.value, error)
    assert not (files / "reference-train").exists()


def test_more_simulations_than_there_are(files):
    with pytest.raises(ConfigError, match="at most 40"):
        made(files, sizes={"reference/train": 30, "reference/test": 11})


def test_a_table_of_another_length(files):
    table = (files / "theta.csv").read_text().splitlines()
    (files / "theta.csv").write_text("\n".join(table[:-1]) + "\n")
    with pytest.raises(StoreError, match="39 rows"):
        made(files)


def test_the_signature_is_that_of_the_content(files):
    before = system.signature(settings(files))
    (files / "x.npy").rename(files / "y.npy")
    moved = settings(files, x={"file": str(files / "y.npy"), "shape": [6, 2], "dims": ["i", "j"]})
    assert system.signature(moved) == before
    x = np.load(files / "y.npy")
    x[0, 0, 0] += 1e-3
    np.save(files / "y.npy", x)
    assert system.signature(moved) != before


def test_priors_are_mentioned_until_they_are_confirmed(files):
    (remark,) = system.remarks(settings(files))
    assert "a: uniform -1 to 1" in remark
    assert system.remarks(settings(files, priors_confirmed=True)) == []


def test_joint_priors_are_read_and_old_settings_stay_what_they_were(files):
    assert "joint" not in settings(files).model_dump(mode="json")
    copula = {"kind": "copula", "names": ["a", "b"], "correlation": 0.5}
    chosen = settings(files, joint=[copula])
    assert chosen.model_dump(mode="json")["joint"] == [copula]
    (block,) = system.simulator(chosen).parameters.blocks
    assert block.prior.correlation == ((1.0, 0.5), (0.5, 1.0))
    assert "a, b: copula" in system.remarks(chosen)[0]
    normal = {"kind": "multivariate_normal", "names": ["a", "b"], "mean": [0, 0],
              "covariance": [[1.0, 0.5], [0.5, 1.0]]}  # fmt: skip
    alone = settings(files, parameters=[{"name": "a"}, {"name": "b"}], joint=[normal])
    assert system.simulator(alone).parameters[0].prior.to_dict()["kind"] == "normal"
    assert "a, b: multivariate_normal" in system.remarks(alone)[0]
    for wrong in ({"kind": "copula"}, {**copula, "names": ["a", "z"]}):
        with pytest.raises(SbitoolsError, match=r"joint prior|no such parameter"):
            system.simulator(settings(files, joint=[wrong]))
    with pytest.raises(SbitoolsError, match="a prior"):
        system.simulator(settings(files, parameters=[{"name": "a"}]))


def test_without_files_nothing_is_simulated(files):
    with pytest.raises(ConfigError, match="--command"):
        made(files, x={"shape": [6, 2], "dims": ["i", "channel"]})
    assert not (files / "reference-train").exists()


def test_a_store_that_is_there_is_opened(files):
    first = made(files)
    again = made(files)
    assert isinstance(again, SimulationStore)
    assert again.digest() == first.digest()
    with pytest.raises(ConfigError, match="store of 10"):
        made(files, sizes={"reference/train": 10})
