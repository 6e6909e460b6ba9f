"""Emulators at equal theta: an exact one is inside its floor, wrong ones are seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sbitools import (
    FieldSpec,
    FunctionSimulator,
    Parameter,
    ParameterSpace,
    SimulationStore,
    priors,
)
from sbitools.errors import ShapeError, StoreError, TrainingError
from sbitools.report.artifacts import load_statistics, save_statistics
from sbitools.report.emulator_figures import emulator_blocks
from sbitools.seeds import normal, simulation_seeds
from sbitools.statistics.comparison import compare
from sbitools.statistics.equal_theta import ABOVE, ERROR, FLOOR

SPACE = ParameterSpace(
    [Parameter("amplitude", priors.Uniform(-0.5, 0.5)), Parameter("slope", priors.Uniform(-2, 0))]
)
CELLS = 12
RATIO = "scatter of ln P, emulator / reference"
PLANES = FieldSpec("x", ("i", "j"), (CELLS, CELLS), unit="K")


def planes(
    power: float = 1.0, dead: bool = False, alike: bool = False, unit: float = 1.0
) -> Callable[[Tensor, Tensor], Tensor]:
    """Gaussian planes with a power law spectrum, and ways to get it wrong."""
    k = np.hypot(np.fft.fftfreq(CELLS)[:, None], np.fft.fftfreq(CELLS))
    k[0, 0] = np.inf

    def simulate(theta: Tensor, seeds: Tensor) -> Tensor:
        noise = normal(torch.zeros_like(seeds) if alike else seeds, (CELLS, CELLS), torch.float64)
        t = theta.numpy()[:, :, None, None]
        slope = -1.0 if dead else t[:, 1]
        spectrum = power * np.exp(t[:, 0]) * (k / 0.2) ** slope
        spectrum[:, 0, 0] = 0
        modes = np.fft.fft2(noise.numpy()) * np.sqrt(spectrum)
        return torch.from_numpy(unit * np.fft.ifft2(modes).real).float()

    return simulate


def simulator(
    function: Callable, spec: FieldSpec = PLANES, space: ParameterSpace = SPACE
) -> FunctionSimulator:
    return FunctionSimulator(function, space, spec)


def store_of(path, reference: FunctionSimulator, n: int, seed: int = 0, **options):
    theta = options.pop("theta", None)
    theta = reference.parameters.design(n, seed) if theta is None else theta
    seeds = torch.from_numpy(simulation_seeds(seed + 1000, range(n)))
    x = reference.simulate(theta, seeds)
    return SimulationStore.from_arrays(
        path, theta, x, reference.parameters, reference.output, seeds=seeds, **options
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_of(tmp_path_factory.mktemp("planes") / "s", simulator(planes()), 96)


def over_floor(found: dict, name: str) -> float:
    return found["errors"][name]["emulator"] / found["errors"][name][ABOVE]


def test_an_exact_emulator_is_inside_its_floor_at_the_stated_rate(tmp_path):
    above, inside, ratios = [], [], []
    for i in range(8):
        held_out = store_of(tmp_path / str(i), simulator(planes()), 64, seed=i)
        found = compare(simulator(planes()), held_out, seed=i)
        rows = [r for r in found["errors"].values() if ABOVE in r and r[FLOOR] > 1e-9]
        rows += [r | {"emulator": r["difference"]} for r in found["responses"].values()]
        above += [r["emulator"] > r[ABOVE] for r in rows]
        row = found["errors"][RATIO]
        ratios.append((row["emulator"] - 1) / row[ERROR])
        lines, band = (found[key]["P(k) / reference"] for key in ("curves", "noise_floor"))
        inside += (np.abs(lines["emulator"] - 1) < band).tolist()
    # One in 20 each, correlated within a set: 8 sets hardly reach a fifth of all.
    assert np.mean(above) < 0.2
    assert 0.85 < np.mean(inside) < 1.0
    assert abs(np.mean(ratios)) < 5 / math.sqrt(8)
    assert np.max(np.abs(ratios)) < 5


def test_power_that_is_a_fifth_too_high_is_seen(store):
    found = compare(simulator(planes(power=1.2)), store)
    assert found["errors"]["ln P(k), median"]["emulator"] == pytest.approx(math.log(1.2), abs=0.05)
    for name in ("ln P(k), median", "ln variance", "distribution of values"):
        assert over_floor(found, name) > 2, name
    assert abs(found["errors"][RATIO]["emulator"] - 1) < 5 * found["errors"][RATIO][ERROR]


def test_a_parameter_that_does_nothing_is_seen(store):
    rows = compare(simulator(planes(dead=True)), store)["responses"]
    assert rows["slope"]["difference"] > 3 * rows["slope"][ABOVE]
    assert rows["slope"]["difference"] == pytest.approx(rows["slope"]["reference"], rel=0.2)
    assert rows["amplitude"]["difference"] < 2 * rows["amplitude"][ABOVE]


def test_fields_that_are_all_alike_are_seen(store):
    found = compare(simulator(planes(alike=True)), store)
    assert found["errors"][RATIO]["emulator"] < 0.05


def test_scatter_is_seen_where_theta_is_too_strong_for_a_fit(tmp_path):
    """The power jumps with theta: no polynomial follows, and the emulator's mean has to help."""

    def jumping(scatter: float) -> Callable[[Tensor, Tensor], Tensor]:
        def simulate(theta: Tensor, seeds: Tensor) -> Tensor:
            step = torch.where((theta[:, 1] * 4).floor() % 2 == 0, 3.0, -3.0)
            wide = normal(seeds, (1,), torch.float64)[:, 0] * scatter
            x = normal(seeds + 1, (CELLS, CELLS), torch.float64)
            return (x * torch.exp(0.5 * (step + wide))[:, None, None]).float()

        return simulate

    held_out = store_of(tmp_path / "s", simulator(jumping(0.3)), 96)
    exact, narrow = (compare(simulator(jumping(s)), held_out) for s in (0.3, 0.0))
    row = exact["errors"][RATIO]
    assert abs(row["emulator"] - 1) < 5 * row[ERROR]
    assert exact["errors"]["ln P(k), median"][FLOOR] < 0.1  # not the size of the steps
    assert narrow["errors"][RATIO]["emulator"] < row["emulator"] - 0.1


def test_units_do_not_matter(tmp_path, store):
    one = compare(simulator(planes(power=1.2)), store)
    for unit in (1e-30, 1e30):
        held_out = store_of(tmp_path / f"{unit}", simulator(planes(unit=unit)), 96)
        other = compare(simulator(planes(power=1.2, unit=unit)), held_out)
        for name, row in one["errors"].items():
            assert other["errors"][name] == pytest.approx(row, rel=1e-3, abs=1e-6), name
        assert all(np.isfinite(v).all() for v in other["curves"]["P(k)"].values())


def test_seeds_are_not_those_of_the_store(store):
    seen: list[int] = []

    def spy(theta: Tensor, seeds: Tensor) -> Tensor:
        seen.extend(seeds.tolist())
        return planes()(theta, seeds)

    compare(simulator(spy), store, n_fields=16)
    assert len(set(seen)) == 32
    assert not set(seen) & set(store.seeds.tolist())


def test_repeated_theta_is_the_reference_against_itself(tmp_path):
    theta = SPACE.design(12, 3).repeat(6, 1)
    held_out = store_of(tmp_path / "s", simulator(planes()), 72, theta=theta)
    found = compare(simulator(planes()), held_out)
    assert "of the same theta" in found["labels"]["noise_floor"]
    assert over_floor(found, "ln P(k), median") < 2


def test_memorised_fields_are_seen(tmp_path, store):
    training = store_of(tmp_path / "t", simulator(planes()), 32, seed=5)
    library = training.read(training.done)

    def copy(theta: Tensor, seeds: Tensor) -> Tensor:
        return library[seeds % len(library)].roll(3, dims=1)

    name = "correlation with the nearest training field"
    honest, copied = (
        compare(simulator(f), store, n_fields=16, training=training)["errors"][name]
        for f in (planes(), copy)
    )
    assert copied["emulator"] == pytest.approx(1, abs=1e-6)
    assert honest["emulator"] == pytest.approx(honest[FLOOR], abs=0.1)


VECTORS = FieldSpec("bands", ("l",), (10,))


def bands(shift: float = 0.0, mix: float = 0.5) -> Callable[[Tensor, Tensor], Tensor]:
    def simulate(theta: Tensor, seeds: Tensor) -> Tensor:
        noise = normal(seeds, (10,), torch.float64)
        noise = (noise + mix * noise.roll(1, 1)) / math.sqrt(1 + mix**2)
        mean = theta[:, :1] * torch.arange(10) + theta[:, 1:]
        return (mean + noise + shift).float()

    return simulate


def test_vectors_are_compared_entry_by_entry(tmp_path):
    held_out = store_of(tmp_path / "s", simulator(bands(), VECTORS), 128)
    exact, shifted, mixed = (
        compare(simulator(f, VECTORS), held_out) for f in (bands(), bands(1.0), bands(mix=-0.5))
    )
    median = "entries [scatter], median"
    assert over_floor(exact, median) < 1.5
    assert over_floor(exact, "correlation of entries") < 1.5
    assert shifted["errors"][median]["emulator"] == pytest.approx(1, abs=0.2)
    assert over_floor(mixed, "correlation of entries") > 1.3
    assert exact["matrices"]["reference"].shape == (10, 10)


@pytest.mark.parametrize(
    ("dims", "shape", "kinds", "dtype"),
    [
        (("t",), (100,), ("open",), "float64"), ((), (), None, "float32"),
        (("band", "x", "los"), (2, 6, 10), None, "int64"), (("a/b", "c~"), (9, 8), None, "uint8"),
        (("x", "y", "z"), (5, 6, 7), None, "complex64"),
    ],
)  # fmt: skip
def test_any_field_reaches_the_report(tmp_path, dims, shape, kinds, dtype):
    spec = FieldSpec("x", dims, shape, axes=kinds, dtype=dtype)

    def simulate(theta: Tensor, seeds: Tensor) -> Tensor:
        x = 3 * normal(seeds, shape, torch.float64) + theta[:, 0].reshape(-1, *[1] * len(shape))
        x = x.abs() if dtype == "uint8" else x
        return x.to(spec.torch_dtype)

    held_out = store_of(tmp_path / "s", simulator(simulate, spec), 16)
    found = compare(simulator(simulate, spec), held_out)
    assert all(np.isfinite(v) for row in found["errors"].values() for v in row.values())
    blocks = emulator_blocks(load_statistics(save_statistics(tmp_path, found)))
    assert blocks
    captions = " ".join(getattr(block, "caption", "") for block in blocks)
    assert "initial conditions" not in captions
    assert "Nyquist" not in captions


def test_fields_without_structure(tmp_path):
    """Some are constant in the reference, all in the emulator: said, and no spectrum invented."""

    def some(theta: Tensor, seeds: Tensor) -> Tensor:
        return planes()(theta, seeds) * (theta[:, 0] > -0.25)[:, None, None]

    held_out = store_of(tmp_path / "s", simulator(some), 48)
    exact = compare(simulator(some), held_out)
    share = exact["errors"]["constant fields"]
    assert share["emulator"] == share["reference"] > 0
    assert over_floor(exact, "ln P(k), median") < 2
    empty = compare(simulator(lambda t, s: torch.zeros(len(t), CELLS, CELLS)), held_out)
    assert empty["errors"]["constant fields"]["emulator"] == 1
    assert empty["errors"]["ln P(k), median"]["emulator"] > 10


def test_emulated_fields_that_are_not_finite_are_counted(store):
    def some(theta: Tensor, seeds: Tensor) -> Tensor:
        x = planes()(theta, seeds)
        x[theta[:, 0] > 0.25] = math.nan
        return x

    share = compare(simulator(some), store)["errors"]["fields that are not finite"]
    assert 0.1 < share["emulator"] < 0.5
    with pytest.raises(TrainingError, match="finite fields"):
        compare(simulator(lambda t, s: planes()(t, s) * math.nan), store)


def test_no_parameters_one_theta_or_one_seed(tmp_path):
    def noise(theta: Tensor, seeds: Tensor) -> Tensor:
        return normal(seeds, (CELLS, CELLS))

    for name, space, theta in (
        ("none", ParameterSpace([]), torch.empty((16, 0), dtype=torch.float64)),
        ("one", SPACE, SPACE.design(1, 0).repeat(16, 1)),
    ):
        held_out = store_of(tmp_path / name, simulator(noise, space=space), 16, theta=theta)
        found = compare(simulator(noise, space=space), held_out)
        assert found["responses"] == {}
        assert "of the same theta" in found["labels"]["noise_floor"]
    theta, seeds = SPACE.design(16, 0), torch.zeros(16, dtype=torch.int64)
    x = planes()(theta, seeds)
    one_seed = SimulationStore.from_arrays(tmp_path / "s", theta, x, SPACE, PLANES, seeds=seeds)
    found = compare(simulator(planes()), one_seed)
    assert "the floor is too low" in found["labels"]["errors"]


def test_bad_arguments(tmp_path, store):
    few = store_of(tmp_path / "few", simulator(planes()), 7)
    with pytest.raises(StoreError, match="8 or more"):
        compare(simulator(planes()), few)
    other = FieldSpec("x", ("i", "j"), (CELLS, 2))
    with pytest.raises(StoreError, match="the emulator"):
        compare(simulator(planes(), other), store)
    with pytest.raises(ShapeError, match="fields of the emulator"):
        compare(simulator(lambda t, s: planes()(t, s)[:, :, :2]), store)
