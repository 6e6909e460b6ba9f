"""Noise with a given spectrum: its power, its modes, its planes, and what a file may say."""

import json
import math

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, Observation
from sbitools.checkpoint import load_checkpoint, save_checkpoint
from sbitools.errors import ObservationError
from sbitools.observation import Coarsen, Noise, SpectralNoise
from sbitools.observation.spectral_filter import cube_amplitude, plane_amplitude
from sbitools.seeds import generator, simulation_seeds

CELL = (2.0, 1.5)  # Mpc on the sky, along the line of sight
N = 16
EDGES = (0, 12, 20, 32)  # slabs of 12, 8 and 12 cells
K = np.geomspace(0.05, 3.2, 9)
TABLE = np.stack([a * K**p for a, p in ((4.0, 3.0), (0.5, 1.5), (9.0, 2.0))])
CONE = FieldSpec("brightness_temperature", ("x", "y", "los"), (N, N, EDGES[-1]), unit="mK")
PLANE = FieldSpec("brightness_temperature", ("x", "y"), (N, N), unit="mK")


def cone(**changes):
    return SpectralNoise(
        **({"k": K, "delta2": TABLE, "cell_size": CELL, "edges": EDGES} | changes)
    )


def seeds(n, seed=1):
    return torch.from_numpy(simulation_seeds(seed, range(n)))


def field(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def wavenumbers(*sides):
    """k_perp and |k_par| of the modes of a real transform of a slab."""
    k = [2 * np.pi * np.fft.fftfreq(n, CELL[0]) for n in sides[:2]]
    k_par = 2 * np.pi * np.fft.rfftfreq(sides[2], CELL[1])
    return np.broadcast_arrays(np.hypot(k[0][:, None], k[1])[..., None], k_par)


def slab(x, i):
    return torch.fft.rfftn(x[..., EDGES[i] : EDGES[i + 1]].double(), dim=(1, 2, 3)).numpy()


def expected_power(i, k):
    """|FFT|^2 of a noise of N cells: N P / v, P = 2 pi^2 Delta^2 / k^3 with Delta^2 = a k^p."""
    amplitude, exponent = ((4.0, 3.0), (0.5, 1.5), (9.0, 2.0))[i]
    cells = N * N * (EDGES[i + 1] - EDGES[i])
    volume = CELL[0] ** 2 * CELL[1]
    return cells / volume * 2 * np.pi**2 * amplitude * np.maximum(k, K[0]) ** (exponent - 3)


def test_the_spectrum_of_each_slab_is_its_table():
    noise = cone().apply(torch.zeros(40, *CONE.shape), seeds(40))
    for i in range(3):
        k = np.hypot(*wavenumbers(N, N, EDGES[i + 1] - EDGES[i]))
        seen = (k >= K[0]) & (k <= K[-1])
        # Without the planes that hold k and -k both, every mode is an independent exponential.
        seen[..., [0, -1]] = False
        ratio = np.abs(slab(noise, i)) ** 2 / np.where(seen, expected_power(i, k), 1.0)
        for low, high in ((0.0, 0.9), (0.9, 1.4), (1.4, 9.0)):
            modes = ratio[:, seen & (k >= low) & (k < high)]
            # The mean of n exponentials of mean 1 has a standard deviation of n^-1/2.
            assert abs(modes.mean() - 1) < 5 / math.sqrt(modes.size)
            assert modes.size > 1000


def test_slabs_are_independent_and_the_table_is_told_apart():
    modes = slab(cone().apply(torch.zeros(40, *CONE.shape), seeds(40)), 0)
    other = slab(cone().apply(torch.zeros(40, *CONE.shape), seeds(40)), 2)
    k = np.hypot(*wavenumbers(N, N, 12))
    seen = (k >= K[0]) & (k <= K[-1])
    seen[..., [0, -1]] = False
    norm = np.sqrt(expected_power(0, k) * expected_power(2, k))
    cross = (modes * other.conj() / norm)[:, seen].real
    # The real part of a product of two such modes has variance 1/2; equal noises would give 1.
    assert abs(cross.mean()) < 5 / math.sqrt(2 * cross.size)
    assert np.mean(np.abs(modes / norm)[:, seen] ** 2) != pytest.approx(1, abs=0.1)


def test_removed_modes_are_gone_and_the_others_are_untouched():
    table = TABLE.copy()
    table[1, :6] = np.inf  # up to the next node, at 1.13 / Mpc
    step = cone(
        delta2=table, limit=40.0, wedge_slope=[0.5, 0.0, 1.5], wedge_buffer=0.2,
        k_perp_min=[0.0, 0.0, 0.3], k_perp_max=[None, 1.2, None],
    )  # fmt: skip
    x = field(2, *CONE.shape) + 5.0
    once = step.remove(x)
    for i, (slope, low, high) in enumerate(((0.5, 0, 9), (0, 0, 1.2), (1.5, 0.3, 9))):
        k_perp, k_par = wavenumbers(N, N, EDGES[i + 1] - EDGES[i])
        k = np.hypot(k_perp, k_par)
        delta2 = np.exp(np.interp(np.log(k + 1e-9), np.log(K), np.log(TABLE[i])))
        kept = (k >= K[0] if i != 1 else k >= K[6]) & (k <= K[-1]) & (delta2 < 40.0)
        kept &= (k_par >= slope * k_perp + 0.2) & (k_perp >= low) & (k_perp <= high)
        assert 0.02 < kept.mean() < 0.9
        before, after = slab(x, i), slab(once, i)
        # float32 transforms: modes are off by 1e-7 of the largest, which is the mean.
        atol = 2e-6 * np.abs(before).max()
        np.testing.assert_allclose(after, np.where(kept, before, 0), rtol=0, atol=atol)
        noise = slab(step.apply(torch.zeros_like(x), seeds(2)), i)
        assert np.abs(noise[:, ~kept]).max() < 1e-5 * np.abs(noise[:, kept]).max()
    torch.testing.assert_close(step.remove(once), once, rtol=0, atol=1e-5)
    alone = step.apply(torch.zeros_like(x), seeds(2))
    torch.testing.assert_close(step.apply(x, seeds(2)), once + alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variable", ["k", "k_perp"])
def test_a_plane_is_a_slice_of_a_cube_of_noise(variable):
    values = {
        "variable": variable, "wedge_slope": 0.4, "wedge_buffer": 0.1, "k_perp_min": 0.3,
        "k_perp_max": 1.8,
    }  # fmt: skip
    step = SpectralNoise(K, TABLE[0], CELL, **values)
    n_seeds = 400
    slices = step.apply(torch.zeros(n_seeds, N, N, 12), seeds(n_seeds))[..., 5]
    plane = SpectralNoise(K, TABLE[0], CELL, depth=12, **values)
    planes = plane.apply(torch.zeros(n_seeds, N, N), seeds(n_seeds, 2))
    k_perp = wavenumbers(N, N, 12)[0][:, : N // 2 + 1, 0]
    a, b = (
        torch.fft.rfftn(x.double(), dim=(1, 2)).abs().square().numpy() for x in (slices, planes)
    )
    seen = plane_amplitude(plane.modes, (N, N), CELL, 12) > 0
    assert 0.1 < seen.mean() < 1
    assert b[:, ~seen].max() < 1e-9 * b.max() > a[:, ~seen].max()
    seen[:, [0, -1]] = False
    for low, high in ((0.0, 0.5), (0.5, 0.8), (0.8, 9.0)):
        modes = seen & (k_perp >= low) & (k_perp < high)
        first, second = a[:, modes] / b[:, modes].mean(0), b[:, modes] / b[:, modes].mean(0)
        # Both are means of exponentials: their difference has a deviation of (2 / n)^1/2.
        assert abs(first.mean() - second.mean()) < 5 * math.sqrt(2 / first.size)
        assert first.size >= 2000


def test_the_power_of_a_plane_is_the_mean_over_k_par_of_that_of_the_cube():
    step = SpectralNoise(K, TABLE[1], CELL, wedge_slope=0.4, k_perp_max=1.5)
    for depth in (11, 12):
        cube = cube_amplitude(step.modes, 0, (N, N, depth), CELL) ** 2
        both = np.full(depth // 2 + 1, 2.0)
        both[0] = 1
        both[-1] = 1 if depth % 2 == 0 else 2
        # |FFT_2D|^2 of one slice = sum over k_par of |FFT_3D|^2 / depth^2, both per cell.
        want = (cube * both).sum(-1) / depth
        got = plane_amplitude(step.modes, (N, N), CELL, depth) ** 2
        np.testing.assert_allclose(got, want[:, : N // 2 + 1], rtol=1e-12)
    # A deep cube: the integral over k_par up to pi / d, at k_perp = 2 pi 3 / (N a).
    k_perp, k_par = 2 * np.pi * 3 / (N * CELL[0]), np.linspace(0, np.pi / CELL[1], 200001)
    power = step.modes.power(0, np.asarray(k_perp), k_par)
    integral = 2 * np.trapezoid(power, k_par) / (2 * np.pi)
    got = plane_amplitude(step.modes, (N, N), CELL, 4096)[0, 3] ** 2 * CELL[0] ** 2
    assert got == pytest.approx(integral, rel=2e-3)  # the sum is a Riemann sum of 4096 modes


@pytest.mark.parametrize("spec", [CONE, PLANE])
def test_fields_are_bit_equal_whatever_the_batch(spec):
    step = cone() if spec is CONE else SpectralNoise(K, TABLE[0], CELL)
    x, own = field(5, *spec.shape), seeds(5)
    whole = step.apply(x, own)
    parts = torch.cat(
        [
            step.apply(x[:2], own[:2]),
            step.apply(x[2:3], own[2:3]),
            cone().apply(x[3:], own[3:]) if spec is CONE else step.apply(x[3:], own[3:]),
        ]
    )
    assert torch.equal(whole, parts)
    assert not torch.equal(step.apply(x[:1], own[:1]), step.apply(x[:1], own[1:2]))
    assert step.apply(x[:0], own[:0]).shape == (0, *spec.shape)
    assert step.remove(x[:0]).shape == (0, *spec.shape)


def test_one_step_serves_fields_of_several_shapes_and_kinds():
    step = SpectralNoise(K, TABLE[0], CELL)
    for x in (field(1, N, N), field(1, N, 8), field(1, N, N, 8), field(1, N, N).double()):
        fresh = SpectralNoise(K, TABLE[0], CELL)
        assert torch.equal(step.apply(x, seeds(1)), fresh.apply(x, seeds(1)))


def test_the_gradient_is_the_adjoint_and_float64_is_kept():
    step = cone(wedge_slope=1.0)
    x = field(2, *CONE.shape).double().requires_grad_()
    weight = field(2, *CONE.shape, seed=3).double()
    (step.apply(x, seeds(2)) * weight).sum().backward()
    # Removing modes is an orthogonal projection, its own adjoint; noise does not depend on x.
    torch.testing.assert_close(x.grad, step.remove(weight), rtol=0, atol=1e-12)
    assert step.apply(x, seeds(2)).dtype == torch.float64


def test_a_checkpoint_holds_the_whole_table(tmp_path):
    table = TABLE.copy()
    table[2, 0] = np.inf
    observe = Observation([cone(delta2=table, limit=1000.0, k_perp_max=[1.0, None, 2.0]),
                           Noise(0.5)])  # fmt: skip
    save_checkpoint(tmp_path / "c", "test", {"observe": observe.to_dict()}, {"w": torch.zeros(1)})
    again = Observation.from_dict(load_checkpoint(tmp_path / "c", "test")[0]["observe"])
    x = field(2, *CONE.shape)
    assert torch.equal(observe(x, seeds(2)), again(x, seeds(2)))
    assert observe.digest() == again.digest()
    assert observe.output(CONE) == CONE
    plane = SpectralNoise(K, TABLE[0], CELL, depth=5, variable="k_perp", length="Mpc/h", unit="K")
    assert Observation.from_dict([plane.to_dict()]).to_dict() == [plane.to_dict()]
    assert [plane.to_dict()[name] for name in ("depth", "length", "unit")] == [5, "Mpc/h", "K"]
    assert json.loads(json.dumps(observe.to_dict(), allow_nan=False)) == again.to_dict()


def test_a_config_may_name_a_file(tmp_path):
    step, path = cone(wedge_slope=0.3, wedge_buffer=0.07), tmp_path / "noise.json"
    step.write(path)
    observe = Observation.from_dict([{"kind": "spectral_noise", "file": str(path)}])
    assert observe.to_dict() == [step.to_dict()]
    whole = path.read_text()
    for content in (whole[:-5], "[1, 2]", '{"kind": "noise", "sigma": 1}', "{}", "\0"):
        path.write_text(content)
        with pytest.raises(
            ObservationError, match=r"SpectralNoise\.write made; got .*noise\.json"
        ):
            Observation.from_dict([{"kind": "spectral_noise", "file": str(path)}])
    path.write_text(whole.replace('"Mpc"', '"ft"'))
    with pytest.raises(ObservationError, match="'Mpc/h'"):
        Observation.from_dict([{"kind": "spectral_noise", "file": str(path)}])
    with pytest.raises(ObservationError, match="can be read"):
        Observation.from_dict([{"kind": "spectral_noise", "file": str(tmp_path / "absent.json")}])
    with pytest.raises(ObservationError, match="nothing beside"):
        Observation.from_dict([{"kind": "spectral_noise", "file": str(path), "limit": 3.0}])


def test_it_is_redrawn_in_training():
    whole = Observation([Coarsen(2), SpectralNoise(K, TABLE[0], 4.0), Noise(1.0)])
    once, noisy = whole.split()
    assert [len(part.steps) for part in (once, noisy)] == [1, 2]
    x = field(2, 2 * N, 2 * N)
    assert torch.equal(noisy(once(x, seeds(2)), seeds(2)), whole(x, seeds(2)))


def test_only_fields_that_fit_are_taken():
    assert cone().output(CONE) == CONE
    assert SpectralNoise(K, TABLE[0], CELL).output(PLANE) == PLANE
    one = SpectralNoise(K, TABLE[0], CELL)
    cube = FieldSpec("t", ("x", "y", "z"), (8, 8, 8), unit="mK")
    assert one.output(cube) == cube
    wrong = {
        "axes": FieldSpec("t", ("slice", "x", "y"), (3, 8, 8), unit="mK"),
        "line of sight": FieldSpec("t", ("x",), (8,), unit="mK"),
        "third and last axis": FieldSpec("t", ("los", "x", "y"), (8, 8, 8), unit="mK"),
        "if at all": FieldSpec("t", ("x", "los"), (8, 8), unit="mK"),
        "field in 'mK'": FieldSpec("t", ("x", "y"), (8, 8), unit="K"),
        "float32": FieldSpec("t", ("x", "y"), (8, 8), "complex64", unit="mK"),
    }
    for message, spec in wrong.items():
        with pytest.raises(ObservationError, match=message):
            one.output(spec)
    with pytest.raises(ObservationError, match="32 cells along"):
        cone().output(FieldSpec("t", ("x", "y", "los"), (8, 8, 31), unit="mK"))
    with pytest.raises(ObservationError, match="32 cells along"):
        cone().apply(torch.zeros(1, 8, 8, 31), seeds(1))
    with pytest.raises(ObservationError, match="one slab for a plane"):
        cone().output(PLANE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": K[::-1]}, "ascending positive"),
        ({"k": np.append(0.0, K[1:])}, "ascending positive"),
        ({"k": np.append(K[:-1], np.nan)}, "ascending positive"),
        ({"k": "many"}, "numbers for k"),
        ({"k": K[:-1]}, "delta2"),
        ({"delta2": -TABLE}, "positive delta2"),
        ({"delta2": 0 * TABLE}, "positive delta2"),
        ({"delta2": np.where(TABLE > 1, np.nan, TABLE)}, "positive delta2"),
        ({"delta2": [[1.0], [1.0, 2.0]]}, "numbers for delta2"),
        ({"delta2": TABLE[:2]}, "ascending edges"),
        ({"edges": None}, "edges of the slabs"),
        ({"edges": (1, 12, 20, 32)}, "ascending edges"),
        ({"edges": (0, 20, 12, 32)}, "ascending edges"),
        ({"edges": (0, 12.5, 20, 32)}, "whole edges"),
        ({"cell_size": 0.0}, "positive finite cell"),
        ({"cell_size": (1.0, math.inf)}, "positive finite cell"),
        ({"cell_size": (1.0, 1.0, 1.0)}, "one or two"),
        ({"variable": "k_par"}, "'k_perp'"),
        ({"limit": -1.0}, "positive limit"),
        ({"limit": [1.0, 2.0]}, "one number"),
        ({"wedge_slope": -1.0}, "wedge"),
        ({"wedge_buffer": None}, "wedge"),
        ({"wedge_slope": [1.0, 2.0]}, "each of 3 slabs"),
        ({"k_perp_min": 2.0, "k_perp_max": 1.0}, "k_perp_min < k_perp_max"),
        ({"k_perp_max": math.nan}, "k_perp_min < k_perp_max"),
        ({"depth": 0}, "depth"),
        ({"unit": 3}, "unit"),
        ({"length": "kpc"}, "length"),
    ],
)  # fmt: skip
def test_bad_values_raise_typed_errors(changes, message):
    with pytest.raises(ObservationError, match=rf"expected .*{message}.*; got .*; fix: "):
        cone(**changes)


def test_unknown_values_of_a_config_are_named():
    values = cone().to_dict() | {"wegde_slope": 1.0}
    with pytest.raises(ObservationError, match="wegde_slope"):
        Observation.from_dict([values])
