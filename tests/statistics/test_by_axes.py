"""Spectra of any axes: what is known of them, whatever the shape, the unit and the kinds."""

from __future__ import annotations

import numpy as np
import pytest

from sbitools import FieldSpec
from sbitools.statistics.by_axes import ByAxes, plan_axes
from sbitools.statistics.grid_spectra import GridSpectra


def measured(spec: FieldSpec, x: np.ndarray) -> tuple[ByAxes, dict[str, np.ndarray]]:
    plan = plan_axes(spec)
    sample = plan.cut(x).reshape(len(x), len(plan.channels), -1)
    measure = ByAxes(plan, sample.swapaxes(0, 1).reshape(len(plan.channels), -1))
    return measure, measure(x)


def white(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


GRIDS = [
    ((64,), ("periodic",)), ((300,), ("open",)), ((24, 40), ("periodic", "open")),
    ((31, 16), ("periodic", "periodic")), ((8, 12, 20), ("open", "periodic", "evolving")),
    ((4, 5, 6, 7), ("periodic",) * 4), ((2, 3), ("open", "open")),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "kinds"), GRIDS)
def test_white_noise_is_flat_with_power_one(shape, kinds):
    spectra = GridSpectra(shape, [kind == "periodic" for kind in kinds])
    power = spectra(white(0, 400, 1, *shape))[:, 0]
    # Each mode has a relative error of 1, 400 fields; the taper couples about two neighbours.
    error = np.sqrt(4 / (400 * spectra.n_modes))
    assert (np.abs(power.mean(0) - 1) < 5 * error).all()
    assert (np.diff(spectra.frequency) > 0).all()
    assert spectra.frequency[-1] <= 0.5


@pytest.mark.parametrize("shape", [(512,), (48, 80), (16, 24, 20)])
def test_a_known_slope_is_recovered_on_sides_of_any_length(shape):
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")))
    k.flat[0] = np.inf
    axes = tuple(range(1, len(shape) + 1))
    modes = np.fft.fftn(white(1, 60, *shape), axes=axes) * (k / 0.1) ** -1.0
    x = np.fft.ifftn(modes, axes=axes).real
    spectra = GridSpectra(shape, [True] * len(shape))
    power = spectra(x[:, None])[:, 0].mean(0)
    expected = (spectra.frequency / 0.1) ** -2.0
    # Within a bin the mean of k^-2 is not that of the mean k: 5 %, and the sample.
    error = 0.05 + 5 * np.sqrt(2 / (60 * spectra.n_modes))
    assert (np.abs(power / expected - 1) < error).all()


def test_open_axes_do_not_see_the_step_between_their_ends():
    # A trend is a step where the ends meet: k^-2 power at all scales, unless it is tapered.
    x = np.linspace(0, 100, 256) + white(2, 50, 1, 256)
    tapered, plain = (GridSpectra((256,), [p])(x)[:, 0].mean(0)[-5:] for p in (False, True))
    assert tapered == pytest.approx(np.ones(5), abs=0.15)
    assert plain.min() > 3


def test_correlation_of_channels():
    a, b = white(3, 40, 2, 32, 32).swapaxes(0, 1)
    x = np.stack([a, 0.6 * a + 0.8 * b, -a], axis=1)
    found = measured(FieldSpec("x", ("channel", "i", "j"), (3, 32, 32)), x)[1]["cross"]
    # Pairs (0, 1), (0, 2), (1, 2).
    assert found.mean((0, 2)) == pytest.approx([0.6, -1.0, -0.6], abs=0.03)


def test_angular_power_of_a_known_spectrum():
    healpy = pytest.importorskip("healpy")
    nside, lmax = 16, 32
    spectrum = 1 / np.arange(1.0, lmax + 2) ** 2
    rng, maps = np.random.default_rng(4), []
    size = healpy.Alm.getsize(lmax)
    degree, order = healpy.Alm.getlm(lmax)
    for _ in range(60):
        alm = rng.standard_normal(size) + 1j * rng.standard_normal(size)
        alm = np.where(order == 0, alm.real * np.sqrt(2), alm) / np.sqrt(2)
        maps.append(healpy.alm2map(alm * np.sqrt(spectrum[degree]), nside))
    ring = np.array(maps)
    nested = ring[:, healpy.nest2ring(nside, np.arange(12 * nside**2))]
    for x, name in ((ring, "pixel_ring"), (nested, "pixel_nested")):
        measure, found = measured(FieldSpec("x", (name,), (12 * nside**2,)), x)
        power = np.exp(found["power"][:, 0]) * measure.scale[0] ** 2
        expected = 1 / (measure.x + 1) ** 2
        # 60 maps, 2 l + 1 modes; 8 % for the quadrature over pixels and the width of bins.
        error = 0.08 + 5 * np.sqrt(2 / (60 * (2 * measure.x + 1)))
        assert (np.abs(power.mean(0) / expected - 1) < error).all()


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_units_of_the_field_do_not_matter(unit):
    spec = FieldSpec("x", ("channel", "i", "j"), (2, 16, 16))
    x = np.exp(white(5, 12, 2, 16, 16))
    one, other = (measured(spec, x * u)[1] for u in (1.0, unit))
    for name in one:
        assert other[name] == pytest.approx(one[name], rel=1e-9, abs=1e-9), name


def test_what_is_measured_follows_the_axes():
    def kind(dims, shape, axes=None, dtype="float32"):
        plan = plan_axes(FieldSpec("x", dims, shape, axes=axes, dtype=dtype))
        return plan.kind, plan.shape, plan.n_channels

    assert kind(("x", "y"), (16, 8)) == ("grid", (16, 8), 1)
    assert kind(("band", "x", "los"), (3, 16, 8)) == ("grid", (16, 8), 3)
    assert kind(("x",), (65,)) == ("grid", (65,), 1)
    assert kind(("x",), (64,)) == ("vector", (), 64)
    assert kind(("item", "f"), (100, 3)) == ("vector", (), 300)
    assert kind((), ()) == ("vector", (), 1)
    assert kind(("stokes", "pixel_ring"), (3, 192)) == ("sphere", (192,), 3)
    assert kind(("x", "y"), (16, 8), dtype="complex64") == ("grid", (16, 8), 2)
    assert kind(("x", "z", "t"), (16, 8, 1)) == ("grid", (16, 8), 1)


def test_shares_of_values_are_those_of_the_field():
    x = (white(6, 20, 24, 24) > 0.5).astype(np.uint8)
    measure, found = measured(FieldSpec("x", ("i", "j"), (24, 24), dtype="uint8"), x)
    assert len(measure.edges[0]) == 3  # below 0, between 0 and 1, above 1
    assert found["cdf"][:, 0, 1] == pytest.approx((x == 0).mean((1, 2)), abs=1e-12)
