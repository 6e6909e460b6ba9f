"""The emulator of data vectors: laws of its fit, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.emulator import Emulator
from emulators.methods.vector.emulator import VectorEmulator
from emulators.testing import check_emulator
from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import ConfigError, StoreError, TrainingError
from sbitools.seeds import simulation_seeds
from tests.emulators.methods.vector import toys


def seeds(n, start=0):
    return torch.from_numpy(simulation_seeds(start, range(n)))


def fitted(store, folder, options=None):
    emulator = VectorEmulator(store.parameters, store.output)
    emulator.fit(store, options or toys.QUICK, run_dir=folder / "run")
    return emulator


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    return fitted(toys.store(folder / "store"), folder)


def test_mean_and_scatter_at_fixed_parameters_are_those_of_the_simulator(quick):
    theta = torch.tensor([[1.2, 0.4, 1.0], [0.7, -0.5, 0.0]], dtype=torch.float64)
    for row in theta:
        x = quick.simulate(row.expand(4000, 3), seeds(4000)).double().numpy()
        true = toys.mean(row[None].numpy())[0]
        spread = np.sqrt(2 / (20 + 4 * np.arange(8)))
        error = (x.mean(0) / true - 1) / spread
        # 120 simulations that share about 10 coefficients: 0.3 of the scatter, and three of these.
        assert np.abs(error).max() < 0.9
        assert np.sqrt((error**2).mean()) < 0.45
        ratio = x.std(0) / (true * spread)
        # 120 simulations fix a standard deviation to 6.5 %: four of these.
        assert np.abs(np.log(ratio)).max() < 0.27
        assert bool((x > 0).all())


def test_vectors_that_differ_by_their_unit_give_emulators_that_do(tmp_path):
    made = {}
    theta = toys.SPACE.design(5, 9)
    for unit in (1e-30, 1.0, 1e30):
        folder = tmp_path / f"{unit:g}"
        emulator = fitted(toys.store(folder / "s", unit=unit), folder)
        made[unit] = emulator.simulate(theta, seeds(5)).double() / unit
    for unit in (1e-30, 1e30):
        # float32 on the way in, and closed forms that iterate
        torch.testing.assert_close(made[unit], made[1.0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("dims", "shape", "axes"),
    [((), (), None), (("i",), (1,), None), (("channel", "l"), (2, 4), None),
     (("x", "y", "z"), (2, 2, 2), None), (("pixel",), (8,), ("healpix",))],
)  # fmt: skip
def test_any_axes_are_a_vector(tmp_path, dims, shape, axes):
    spec = FieldSpec("v", dims, shape, "float64", axes=axes)
    theta, x = toys.spectra(64, 3)
    x = x[:, : int(np.prod(shape))].reshape(64, *shape)
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, toys.SPACE, spec)
    fields = fitted(store, tmp_path).simulate(theta[:3], seeds(3))
    spec.check(fields, 3)
    assert bool(torch.isfinite(fields).all())


def test_counts_constants_and_ranges_are_kept(tmp_path):
    rng, n = np.random.default_rng(2), 200
    space = ParameterSpace([Parameter("rate", priors.Uniform(2.0, 6.0))])
    theta = space.design(n, 1)
    rate = theta.numpy()
    columns = [rng.poisson(rate), 5 + 0.5 * rng.poisson(rate), rng.gamma(2, rate),
               np.full((n, 1), 0.1), rate + rng.normal(size=(n, 1))]  # fmt: skip
    x = torch.from_numpy(np.concatenate(columns, 1)).float()
    spec = FieldSpec("mixed", ("channel",), (5,))
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, space, spec)
    made = fitted(store, tmp_path).simulate(space.design(2000, 2), seeds(2000))
    assert bool((made[:, 0] == made[:, 0].round()).all())
    assert bool((2 * made[:, 1] == (2 * made[:, 1]).round()).all())
    assert bool((made[:, 3] == x[0, 3]).all())
    assert bool((made[:, :3] >= 0).all())
    width = x.amax(0) - x.amin(0)
    assert bool(
        (made <= x.amax(0) + 0.51 * width).all() & (made >= x.amin(0) - 0.51 * width).all()
    )
    # Poisson of mean 4 on average: mean and variance within 15 %.
    assert abs(float(made[:, 0].mean()) - float(x[:, 0].mean())) < 0.6
    assert abs(float(made[:, 0].std() / x[:, 0].std()) - 1) < 0.2


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_whole_numbers_stay_whole_and_in_their_range(tmp_path, dtype):
    rng = np.random.default_rng(4)
    space = ParameterSpace([Parameter("rate", priors.Uniform(0.5, 100.0))])
    theta = space.design(100, 1)
    most = np.iinfo(dtype).max
    x = np.concatenate([rng.poisson(theta.numpy()), np.full((100, 1), most)], 1).astype(dtype)
    store = SimulationStore.from_arrays(
        tmp_path / "s", theta, x, space, FieldSpec("n", ("i",), (2,), dtype)
    )
    made = fitted(store, tmp_path).simulate(space.design(300, 2), seeds(300))
    assert made.dtype == getattr(torch, dtype)
    assert bool((made[:, 1] == most).all())
    assert 30 < float(made[:, 0].double().mean()) < 70


def test_no_parameters_are_legal(tmp_path):
    x = torch.from_numpy(np.random.default_rng(1).normal(3, [1, 2], (64, 2))).float()
    empty = ParameterSpace([])
    store = SimulationStore.from_arrays(
        tmp_path / "s", torch.empty(64, 0), x, empty, FieldSpec("v", ("i",), (2,))
    )
    emulator = fitted(store, tmp_path, toys.SHORT)
    check_emulator(emulator, store, toys.SHORT, folder=tmp_path / "check")
    made = emulator.simulate(torch.empty(3000, 0), seeds(3000))
    # 64 simulations: errors of the mean of 0.12, of the spread of 9 %; four of each.
    assert np.allclose(made.mean(0).numpy() / 3, 1, atol=[0.17, 0.34])
    assert np.allclose(made.std(0).numpy() / np.array([1, 2]), 1, atol=0.36)


def test_a_killed_fit_resumes_to_the_same_weights(tmp_path):
    store = toys.store(tmp_path / "s", 64)

    class KilledError(Exception):
        pass

    def kill(row):
        if row["part"] == "emulator-mixtures":
            raise KilledError

    whole = fitted(store, tmp_path / "whole", toys.SHORT)
    cut = VectorEmulator(store.parameters, store.output)
    with pytest.raises(KilledError):
        cut.fit(store, toys.SHORT, run_dir=tmp_path / "cut", on_epoch=kill)
    with pytest.raises(TrainingError):
        cut.module()
    cut.fit(store, toys.SHORT, run_dir=tmp_path / "cut", resume=True)
    assert cut.version == whole.version


def test_failed_simulations_and_groups_are_respected(tmp_path):
    theta, x = toys.spectra(80, 5)
    x = x.float()
    x[::10] = torch.nan
    groups = np.arange(80) // 2
    store = SimulationStore.from_arrays(
        tmp_path / "s", theta, x, toys.SPACE, toys.SPEC, groups=groups, nonfinite="fail"
    )
    emulator = fitted(store, tmp_path, toys.SHORT)
    assert bool(torch.isfinite(emulator.simulate(theta[:20], seeds(20))).all())


def test_what_it_cannot_learn_from_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="128 numbers or fewer"):
        VectorEmulator(toys.SPACE, FieldSpec("v", ("i",), (129,)))
    with pytest.raises(ConfigError, match="real numbers"):
        VectorEmulator(toys.SPACE, FieldSpec("v", ("i",), (4,), "complex64"))
    with pytest.raises(ConfigError, match="a source"):
        VectorEmulator(toys.SPACE, toys.SPEC, toys.SPEC)
    store = toys.store(tmp_path / "few", 31)
    with pytest.raises(StoreError, match="32 or more simulations"):
        VectorEmulator(toys.SPACE, toys.SPEC).fit(store, run_dir=tmp_path / "r")
    other = VectorEmulator(toys.SPACE, FieldSpec("other", ("band",), (8,)))
    with pytest.raises(StoreError, match="of the simulator that the emulator"):
        other.fit(toys.store(tmp_path / "s", 40), run_dir=tmp_path / "r")
    still = SimulationStore.from_arrays(
        tmp_path / "still", toys.SPACE.design(40, 1), torch.ones(40, 8), toys.SPACE, toys.SPEC
    )
    with pytest.raises(TrainingError, match="varies"):
        VectorEmulator(toys.SPACE, toys.SPEC).fit(still, toys.QUICK, run_dir=tmp_path / "r")
    assert issubclass(VectorEmulator, Emulator)
