"""Fields to white noise and back: exact both ways, of the right power; what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emulators.methods.diffusion.layout import Layout
from emulators.methods.diffusion.marginal import Marginal, fit_marginal
from emulators.methods.diffusion.modes import Modes
from emulators.methods.diffusion.terms import Terms, possible_terms
from emulators.methods.diffusion.whitening import Whitening
from sbitools import FieldSpec, Parameter, ParameterSpace
from sbitools.priors import Uniform

from .small import PLANE, SPACE, bubbles, gaussian, wavenumber

N = 64


def fit(x, output, theta=None, space=SPACE, **options):
    theta = space.design(len(x), 0) if theta is None else theta
    x = np.asarray(x, dtype=output.dtype)
    return x, theta, Whitening.fit(x, theta, space, Layout(output), **options)


def skewed(theta, shape, seed):
    return np.exp(gaussian(theta, shape, seed))


FIELDS = {
    "gaussian": (gaussian, PLANE),
    "log-normal": (skewed, PLANE),
    "with zeros": (bubbles, PLANE),
    "open": (gaussian, FieldSpec("o", ("t",), (64,), axes=("open",))),
    "prime": (gaussian, FieldSpec("p", ("y", "x"), (13, 11), axes=("periodic", "open"))),
    "cube": (skewed, FieldSpec("c", ("z", "y", "los"), (8, 8, 6))),
    "one cell wide": (gaussian, FieldSpec("n", ("y", "x"), (1, 24))),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("unit", [1.0, 1e-30, 1e30])
def test_there_and_back(name, unit):
    make, output = FIELDS[name]
    x, theta, white = fit(unit * make(SPACE.design(N, 0), output.shape, 1), output)
    y = white.forward(x, theta)
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y.mean(), 0, atol=0.2)
    np.testing.assert_allclose(y.std(), 1, atol=0.25)
    back = white.inverse(y, theta)
    # White fields are float32: 1e-5 of the largest cell of a field is their rounding.
    assert np.abs(back - x).max() <= 2e-5 * np.abs(x).max()


def test_channels_of_different_units_are_folded_and_unfolded():
    output = FieldSpec("two", ("y", "channel", "x"), (12, 2, 10))
    theta = SPACE.design(N, 0)
    a = gaussian(theta, (12, 10), 1)
    b = 1e20 * np.exp(a + 0.3 * gaussian(theta, (12, 10), 2))
    x, theta, white = fit(np.stack([a, b], axis=2), output)
    y = white.forward(x, theta)
    assert y.shape == (N, 2, 12, 10)
    back = white.inverse(y, theta)
    for c in range(2):
        error = np.abs(back[:, :, c] - x[:, :, c]).max()
        assert error <= 2e-5 * np.abs(x[:, :, c]).max()
    shared = np.corrcoef(y[:, 0].ravel(), y[:, 1].ravel())[0, 1]
    assert abs(shared) < 0.02  # they are 0.9 before


def test_white_noise_becomes_fields_of_the_right_power():
    theta = SPACE.design(256, 0)
    _, _, white = fit(gaussian(theta, (16, 16), 1), PLANE, theta)
    test = torch.tensor([[0.7, 0.8], [1.8, 2.2]], dtype=torch.float64)
    wavenumbers = np.round(np.where(np.isinf(wavenumber((16, 16))), 0, wavenumber((16, 16))))
    for row in test:
        many = row[None].repeat(400, 1)
        noise = np.random.default_rng(0).standard_normal((400, 1, 16, 16))
        made, real = white.inverse(noise, many), gaussian(many, (16, 16), 3)
        power = [np.abs(np.fft.fft2(f)) ** 2 for f in (made, real)]
        for shell in range(1, 9):
            here = wavenumbers == shell
            ratio = power[0][:, here].mean() / power[1][:, here].mean()
            # Chance: 0.07 in the first shell of 400 fields, 0.1 in the fit.
            assert abs(np.log(ratio)) < 0.35 / np.sqrt(shell)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (lambda g: g, "none"),
        (lambda g: np.exp(1.5 * g), "log"),
        (lambda g: -np.exp(1.5 * g), "log"),
        (lambda g: np.sinh(2 * g), "asinh"),
    ],
)
def test_the_map_of_cells_is_the_one_that_leaves_them_normal(cells, kind):
    x = cells(np.random.default_rng(0).standard_normal((64, 512)))
    assert fit_marginal(x[::2], x[1::2]).kind == kind


def test_fields_of_many_amplitudes_are_normal_each():
    """A distribution over all of them has heavy tails, which are nobody's."""
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(-2, 2, (128, 1))) * rng.standard_normal((128, 512))
    assert fit_marginal(x[::2], x[1::2]).kind == "none"


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["none", "asinh", "log", "power", "rank"]),
    unit=st.sampled_from([1e-30, 1.0, 1e30]),
    seed=st.integers(0, 99),
)
def test_maps_of_cells_are_increasing_and_invertible(kind, unit, seed):
    rng = np.random.default_rng(seed)
    x = np.sort(unit * rng.gamma(1.0, size=200))
    ranks = (np.linspace(0, 9, 20), np.linspace(-3, 3, 20) ** 3)
    number = {"log": -0.1, "power": float(rng.uniform(0, 2))}.get(kind, 0.5)
    m = Marginal(kind, unit, 2 * unit, number, x=tuple(ranks[0]), y=tuple(ranks[1]))
    if kind == "log":
        m = Marginal(kind, 0.0, 2 * unit, number)
    y = m.forward(x)
    assert (np.diff(y) >= 0).all()
    m = m.reaching(x) if np.isfinite(m.low) else Marginal(**{**m.to_dict(), "low": float(y[0]),
                                                             "high": float(y[-1])})  # fmt: skip
    np.testing.assert_allclose(m.inverse(y), x, rtol=1e-9, atol=1e-12 * unit)
    assert Marginal.from_dict(m.to_dict()).inverse(y).tolist() == m.inverse(y).tolist()


@pytest.mark.parametrize("kinds", [("periodic",), ("open",), ("periodic", "evolving")])
def test_modes_are_unitary(kinds):
    shape = (9, 6)[: len(kinds)]
    x = np.random.default_rng(0).standard_normal((3, *shape))
    modes = Modes(shape, kinds, isotropic=True)
    y = modes.forward(x)
    np.testing.assert_allclose(modes.inverse(y), x, atol=1e-12)
    np.testing.assert_allclose((np.abs(y) ** 2).sum(), (x**2).sum())
    assert modes.counts.sum() == np.prod(shape)


def test_a_place_that_differs_is_found_and_one_that_does_not_is_not():
    theta = SPACE.design(N, 0)
    x = gaussian(theta, (16, 16), 1)
    assert fit(x, PLANE, theta)[2].varies == (False, False)
    row = np.linspace(-4, 4, 16)[:, None]
    assert fit(x + row, PLANE, theta)[2].varies == (True, False)
    assert fit(x + row, PLANE, theta, symmetries=("shift",))[2].varies == (False, False)


def test_spectra_that_differ_between_axes_are_told_apart():
    theta = SPACE.design(N, 0)
    x = gaussian(theta, (16, 16), 1)
    assert fit(x, PLANE, theta)[2].isotropic
    smooth = x + np.roll(x, 1, 1) + np.roll(x, 2, 1)
    assert not fit(smooth, PLANE, theta)[2].isotropic


def test_no_parameters_and_constant_fields():
    none = ParameterSpace([])
    theta = none.design(N, 0)
    x, theta, white = fit(gaussian(SPACE.design(N, 0), (16, 16), 1), PLANE, theta, none)
    assert np.abs(white.inverse(white.forward(x, theta), theta) - x).max() < 1e-4
    x, theta, white = fit(np.full((N, 16, 16), 3.0), PLANE)
    assert np.isfinite(white.forward(x, theta)).all()
    noise = np.random.default_rng(0).standard_normal((N, 1, 16, 16))
    np.testing.assert_allclose(white.inverse(noise, theta), 3.0, rtol=1e-3)


def test_terms_are_as_many_as_simulations_can_tell():
    theta = SPACE.design(N, 0)
    most = max(t.n for t in possible_terms(SPACE, theta, 32))
    assert most * 4 <= 32
    assert [t.degree for t in possible_terms(SPACE, theta, 6)] == [1, 1]  # of u, and of ln theta
    assert [t.degree for t in possible_terms(SPACE, theta, 5)] == [0]
    some = possible_terms(SPACE, theta, 32)[-1]
    assert Terms.from_dict(some.to_dict()) == some
    values = some(SPACE, theta)
    assert values.shape == (N, some.n)
    assert (values[:, 0] == 1).all()


def test_the_size_of_fields_is_known_from_all_of_their_modes():
    """Of a steep spectrum, the spread of one field is that of a few modes."""
    space = ParameterSpace(
        [Parameter("amplitude", Uniform(0.5, 2.0)), Parameter("slope", Uniform(1.0, 3.0))]
    )
    k = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32)) * 32
    rng = np.random.default_rng(3)

    def planes(n):
        theta = rng.uniform([0.5, 1.0], [2.0, 3.0], (n, 2))
        power = np.where(k > 0, np.maximum(k, 1) / 4, 1.0) ** -theta[:, 1, None, None]
        power = np.where(k > 0, theta[:, 0, None, None] * power, 0.0)
        white = np.fft.fft2(rng.standard_normal((n, 32, 32)), norm="ortho")
        x = np.fft.ifft2(np.sqrt(power) * white, norm="ortho").real
        return x.astype(np.float32), torch.from_numpy(theta), power

    x, theta, _ = planes(100)
    layout = Layout(FieldSpec("x", ("x", "y"), (32, 32), axes=("periodic", "periodic")))
    white = Whitening.fit(x, theta, space, layout, ("shift",))
    x, theta, power = planes(400)
    noise = rng.standard_normal((400, 1, 32, 32))
    made = np.fft.fft2(white.inverse(noise, theta), norm="ortho")
    found = (np.abs(made[:, k > 0]) ** 2 / power[:, k > 0]).mean(1)
    # Of a field, chance is sqrt(2 / 1024) = 0.044; with spreads alone it was 0.081.
    assert found.mean() == pytest.approx(1.0, abs=0.02)
    assert found.std() < 0.052
