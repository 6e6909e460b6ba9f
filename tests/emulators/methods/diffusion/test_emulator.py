"""The emulator of any field: what it takes and refuses, its sizes, its fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.methods.diffusion.emulator import DiffusionEmulator
from emulators.methods.diffusion.field_options import FieldOptions
from emulators.methods.diffusion.layout import Layout
from emulators.methods.diffusion.method import method
from emulators.methods.diffusion.sizes import choose_sizes, padded
from sbitools import FieldSpec, Parameter, ParameterSpace, priors
from sbitools.emulation import GROUP, Method, Task, find_method, known_methods
from sbitools.errors import ConfigError, ShapeError, StoreError

from .small import OPTIONS, PLANE, SPACE, bubbles, gaussian, store, wavenumber

QUICK = {"network": False}

FIELDS = {
    "plane": PLANE,
    "periodic and prime": FieldSpec("p", ("y", "x"), (13, 17)),
    "open and evolving": FieldSpec("o", ("y", "los"), (12, 15), axes=("open", "evolving")),
    "cube": FieldSpec("c", ("z", "y", "x"), (6, 8, 10)),
    "series": FieldSpec("s", ("t",), (37,), axes=("open",)),
    "two channels": FieldSpec("two", ("channel", "y", "x"), (2, 8, 8)),
    "channels last": FieldSpec("last", ("x", "channel"), (16, 3)),
    "one cell wide": FieldSpec("thin", ("y", "x"), (1, 12)),
    "float64": FieldSpec("d", ("x",), (16,), "float64"),
}  # fmt: skip

REFUSED = {
    "HEALPix": (FieldSpec("h", ("pixel_nested",), (48,)), "a HEALPix map"),
    "complex": (FieldSpec("z", ("x",), (16,), "complex64"), "complex64"),
    "integers": (FieldSpec("i", ("x",), (16,), "int32"), "store counts as float32"),
    "no space": (FieldSpec("v", ("item", "column"), (4, 4)), "0: "),
    "four axes": (FieldSpec("f", ("t", "z", "y", "x"), (4,) * 4), "one to three axes of space"),
    "huge": (FieldSpec("b", ("z", "y", "x"), (512,) * 3), "coarsen"),
}  # fmt: skip


def made(output, n, seed=0):
    shape, axes = output.shape, [i for i, k in enumerate(output.kinds) if k == "channel"]
    space = tuple(n for i, n in enumerate(shape) if i not in axes)
    theta = SPACE.design(n, seed)
    if not axes:
        return theta, gaussian(theta, shape, seed)
    fields = [gaussian(theta, space, seed + c) for c in range(shape[axes[0]])]
    return theta, np.stack(fields, axis=1 + axes[0])


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_any_kind(name, tmp_path):
    output = FIELDS[name]
    theta, x = made(output, 20)
    emulator = DiffusionEmulator(SPACE, output)
    options = OPTIONS | {"steps": 2, "widths": None, "patch": None}
    emulator.fit(store(tmp_path / "store", x, theta, output), options, run_dir=tmp_path / "fit")
    emulator.learned = True  # also where so few steps are better left out
    fields = emulator.simulate(theta[:3], torch.tensor([1, 2, 3]))
    output.check(fields, 3)
    assert torch.isfinite(fields).all()
    assert 0.1 < float(fields.std() / x.std()) < 10


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_emulate_is_refused_with_what_to_do_instead(name):
    output, message = REFUSED[name]
    fit = method.suits(Task(SPACE, output, 256))
    assert fit.rank is None
    assert message in fit.why
    with pytest.raises(ConfigError, match="output"):
        DiffusionEmulator(SPACE, output)


def test_a_source_and_too_few_simulations():
    assert method.suits(Task(SPACE, PLANE, 16)).rank == 1
    few = method.suits(Task(SPACE, PLANE, 15))
    assert few.rank is None
    assert "16 simulations or more, not 15" in few.why
    assert 'method = "none"' in few.why
    sourced = method.suits(Task(SPACE, PLANE, 64, FieldSpec("s", ("y", "x"), (16, 16))))
    assert sourced.rank == 1
    assert "follows from 's'" in sourced.why


def test_the_method_is_what_the_entry_point_promises(tmp_path):
    assert isinstance(method, Method)
    assert method.options is FieldOptions
    emulator = method.emulator(Task(SPACE, PLANE, 64))
    theta, x = made(PLANE, 20)
    emulator.fit(store(tmp_path / "store", x, theta, PLANE), QUICK, run_dir=tmp_path / "fit")
    again = method.load(emulator.save(tmp_path / "fitted"))
    assert again.version == emulator.version
    if "diffusion" in known_methods():  # the distribution was installed since it is there
        assert find_method("diffusion") is method
    assert GROUP == "sbitools.emulators"


def test_stores_of_other_fields_are_refused(tmp_path):
    theta, x = made(PLANE, 20)
    few = store(tmp_path / "few", x[:15], theta[:15], PLANE)
    other = store(
        tmp_path / "other", x, theta, FieldSpec("plane", ("y", "x"), (16, 16), unit="mK")
    )
    for wrong, expected in ((few, "16 or more simulations"), (other, "in K, parameters")):
        with pytest.raises(StoreError, match=expected):
            DiffusionEmulator(SPACE, PLANE).fit(wrong, QUICK, run_dir=tmp_path / "fit")
    with pytest.raises(ConfigError, match="sampler"):
        DiffusionEmulator(SPACE, PLANE).fit(few, {"sampler": "distilled"}, run_dir=tmp_path / "f")
    with pytest.raises(ConfigError, match="symmetries"):
        DiffusionEmulator(SPACE, PLANE).fit(few, {"symmetries": ("spin",)}, run_dir=tmp_path / "f")


def test_gaussian_planes_have_the_right_power_and_scatter(tmp_path):
    theta, x = made(PLANE, 256)
    emulator = DiffusionEmulator(SPACE, PLANE)
    emulator.fit(store(tmp_path / "store", x, theta, PLANE), QUICK, run_dir=tmp_path / "fit")
    k = wavenumber((16, 16))
    for row in SPACE.design(4, 9):
        many = row[None].repeat(300, 1)
        fields = emulator.simulate(many, torch.arange(300)).double().numpy()
        logs = []
        for f in (fields, gaussian(many, (16, 16), 7)):
            power = np.abs(np.fft.fft2(f)) ** 2
            logs.append(np.stack([power[:, np.round(k) == s].mean(1) for s in range(1, 9)], 1))
        ratio = np.log(logs[0].mean(0) / logs[1].mean(0))
        scatter = np.log(np.log(logs[0]).std(0) / np.log(logs[1]).std(0))
        assert np.median(np.abs(ratio)) < 0.15  # chance: 0.04, and what 256 planes know
        assert np.abs(scatter).max() < 0.25  # chance: 0.06


def test_cells_without_signal_stay_exactly_zero(tmp_path):
    theta = SPACE.design(64, 0)
    x = bubbles(theta, (16, 16), 1)
    emulator = DiffusionEmulator(SPACE, PLANE)
    emulator.fit(store(tmp_path / "store", x, theta, PLANE), QUICK, run_dir=tmp_path / "fit")
    fields = emulator.simulate(theta, torch.arange(64)).numpy()
    assert (fields >= 0).all()
    np.testing.assert_allclose((fields == 0).mean(), (x == 0).mean(), atol=0.05)
    per_theta = (fields == 0).mean((1, 2)), (x == 0).mean((1, 2))
    assert np.corrcoef(*per_theta)[0, 1] > 0.5


def test_cells_that_are_rarely_not_zero_stay_rare(tmp_path):
    theta = SPACE.design(64, 0)
    x = (np.random.default_rng(0).standard_normal((64, 16, 16)) > 2.5) * 1.0  # 0.6 %
    emulator = DiffusionEmulator(SPACE, PLANE)
    emulator.fit(store(tmp_path / "store", x, theta, PLANE), QUICK, run_dir=tmp_path / "fit")
    fields = emulator.simulate(theta, torch.arange(64)).numpy()
    assert set(np.unique(fields)) <= {0.0, 1.0}
    assert 0.2 < fields.mean() / x.mean() < 5  # an edge that is not found gives 10


def test_counts_and_categories(tmp_path):
    kind = Parameter("kind", None, categories=("a", "b"))
    kinds = ParameterSpace([Parameter("rate", priors.Uniform(1.0, 4.0)), kind])
    theta = kinds.design(64, 0)
    rates = theta[:, :1, None] * (1 + theta[:, 1:, None])
    x = np.random.default_rng(0).poisson(rates, (64, 16, 16))
    emulator = DiffusionEmulator(kinds, PLANE)
    told = store(tmp_path / "store", x, theta, PLANE, kinds)
    emulator.fit(told, QUICK, run_dir=tmp_path / "fit")
    fields = emulator.simulate(theta, torch.arange(64)).numpy()
    assert fields.min() >= 0
    assert fields.max() < 2 * x.max()
    assert np.corrcoef(fields.mean((1, 2)), x.mean((1, 2)))[0, 1] > 0.9


def test_channels_keep_their_units_and_their_correlation(tmp_path):
    output = FieldSpec("two", ("channel", "y", "x"), (2, 16, 16))
    theta = SPACE.design(128, 0)
    a = gaussian(theta, (16, 16), 1)
    x = np.stack([1e-25 * a, 1e25 * np.exp(a + 0.2 * gaussian(theta, (16, 16), 2))], 1)
    emulator = DiffusionEmulator(SPACE, output)
    emulator.fit(store(tmp_path / "store", x, theta, output), QUICK, run_dir=tmp_path / "fit")
    fields = emulator.simulate(theta, torch.arange(128)).double().numpy()
    for c in range(2):
        assert abs(np.log(fields[:, c].std() / x[:, c].std())) < 0.3
    same = [
        np.corrcoef(f[:, 0].ravel() * 1e25, np.log(f[:, 1]).ravel())[0, 1] for f in (fields, x)
    ]
    assert abs(same[0] - same[1]) < 0.05


def test_no_parameters(tmp_path):
    none = ParameterSpace([])
    x = gaussian(SPACE.design(32, 0), (16, 16), 1)
    emulator = DiffusionEmulator(none, PLANE)
    theta = none.design(32, 0)
    emulator.fit(store(tmp_path / "s", x, theta, PLANE, none), OPTIONS, run_dir=tmp_path / "f")
    assert emulator.simulate(theta[:2], torch.arange(2)).shape == (2, 16, 16)


def test_the_network_is_left_out_where_it_is_no_better(tmp_path):
    theta, x = made(PLANE, 64)
    emulator = DiffusionEmulator(SPACE, PLANE)
    emulator.fit(store(tmp_path / "store", x, theta, PLANE), OPTIONS, run_dir=tmp_path / "fit")
    assert not emulator.learned
    again = DiffusionEmulator.load(emulator.save(tmp_path / "fitted"))
    assert not again.learned
    with pytest.raises(ConfigError, match="sampler"):
        again.sampling(sampler="distilled")
    assert again.sampling(sampler="heun").options.sampler == "heun"
    with pytest.raises(ShapeError, match="latent"):
        again.decode(theta[:1], torch.zeros(1, 2, 16, 16))


def test_the_network_learns_what_maps_cannot(tmp_path):
    """Pulses: power and cells are right without it, and no pulse is there."""
    theta = SPACE.design(128, 0)
    rng = np.random.default_rng(0)
    x = 0.1 * rng.standard_normal((128, 64))
    for field in x:
        for at in rng.integers(0, 64, 2):
            field += 3 * np.exp(-0.5 * (((np.arange(64) - at + 32) % 64 - 32) / 2.0) ** 2)
    output = FieldSpec("pulses", ("t",), (64,))
    emulator = DiffusionEmulator(SPACE, output)
    options = OPTIONS | {"steps": 150, "batch_size": 16, "widths": (24, 32), "sampler_steps": 12}
    options |= {"checkpoint_seconds": 1e9}
    emulator.fit(store(tmp_path / "store", x, theta, output), options, run_dir=tmp_path / "fit")
    assert emulator.learned


def test_sizes_follow_from_the_field():
    plane = choose_sizes((64, 64), (True, True))
    assert plane.patch == 2
    assert (plane.multiple, len(plane.widths)) == (8, 3)
    assert choose_sizes((32,) * 3, (True,) * 3).patch == 2
    assert choose_sizes((1024,), (False,)).patch == 1
    assert choose_sizes((1 << 20,), (False,)).patch == 128
    assert choose_sizes((3,), (True,)).widths == (48,)
    assert padded(64, 8, True) == 64
    assert padded(50, 8, False) == 56
    assert padded(50, 8, True) >= 66  # with cells from the other end on both sides
    options = FieldOptions().sized(Layout(PLANE), 256)
    assert options.steps == 2000
    assert options.widths is not None
    assert FieldOptions(steps=7).sized(Layout(PLANE), 256).steps == 7


def test_periodic_axes_that_levels_do_not_divide_still_close(tmp_path):
    """The network's answer moves with the field, up to where cells are merged."""
    output = FieldSpec("p", ("x",), (22,))
    theta, x = made(output, 20)
    emulator = DiffusionEmulator(SPACE, output)
    options = OPTIONS | {"steps": 8, "widths": (8, 8)}
    emulator.fit(store(tmp_path / "store", x, theta, output), options, run_dir=tmp_path / "fit")
    module, told = emulator.module(), torch.zeros(1, 2)
    y = torch.randn(1, 1, 22, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        moved = module(y.roll(6, 2), torch.ones(1), told).roll(-6, 2)
        assert torch.allclose(moved, module(y, torch.ones(1), told), atol=1e-2)
