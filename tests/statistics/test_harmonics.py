"""Differentiable transforms on the sphere against healpy and against single harmonics."""

import healpy
import numpy as np
import pytest
import torch

from sbitools import seeds
from sbitools.errors import ConfigError, ShapeError
from sbitools.statistics import SphericalSpectra

DOUBLE = torch.float64


def noise(seed, *shape):
    return seeds.normal([seed], shape, DOUBLE)[0]


def spectra_of(nside, **options):
    return SphericalSpectra(nside, **{"ordering": "ring", "dtype": DOUBLE, **options})


def square(alm, lmax):
    """healpy's list of coefficients as a square (lmax + 1 (l), lmax + 1 (m))."""
    degree, order = healpy.Alm.getlm(lmax)
    out = np.zeros((lmax + 1, lmax + 1), complex)
    out[degree, order] = alm
    return out


def anafast(maps, ordering, lmax):
    """TT, EE, BB, EB of T, Q, U maps (B, 3, n_pixels)."""
    order = healpy.ring2nest if ordering == "nested" else lambda nside, pixels: pixels
    nside = healpy.npix2nside(maps.shape[-1])
    rings = maps.numpy()[..., order(nside, np.arange(maps.shape[-1]))]
    return np.array([healpy.anafast(m, iter=0, lmax=lmax)[[0, 1, 2, 4]] for m in rings])


@pytest.mark.parametrize("ordering", ["ring", "nested"])
@pytest.mark.parametrize(("nside", "lmax"), [(1, None), (2, 4), (8, None), (8, 30), (16, 47)])
def test_spectra_are_those_of_healpy(nside, lmax, ordering):
    maps = noise(1, 3, 3, 12 * nside**2)
    ours = spectra_of(nside, lmax=lmax, ordering=ordering)
    wanted = anafast(maps, ordering, ours.lmax)
    got = torch.cat([ours.power(maps[:, 0])[:, None], ours.power_eb(maps[:, 1:])], 1).numpy()
    assert np.abs(got - wanted).max() < 1e-12 * np.abs(wanted).max()  # rounding of float64


def test_single_precision_at_nside_64():
    ours = SphericalSpectra(64, ordering="nested")
    maps = noise(2, 1, 3, 12 * 64**2)
    wanted = anafast(maps, "nested", 191)
    got = torch.cat([ours.power(maps[:, 0])[:, None], ours.power_eb(maps[:, 1:])], 1)
    assert got.dtype == torch.float32
    # Sums of 2e5 numbers of 24 bits: 1e-6 of the level in practice.
    assert np.abs(got.numpy() - wanted).max() < 1e-5 * wanted[:, :3].mean()
    assert sum(table.nbytes for table in ours.buffers()) < 100e6


def test_cross_spectrum_and_coefficients_are_those_of_healpy():
    first, second = noise(3, 2, 1, 12 * 8**2)
    ours = spectra_of(8, lmax=20)
    cross = healpy.anafast(first[0].numpy(), second[0].numpy(), iter=0, lmax=20)
    assert np.allclose(ours.power(first, second)[0], cross, rtol=0, atol=1e-13)
    alm = healpy.map2alm(first[0].numpy(), iter=0, lmax=20)
    assert np.allclose(ours.alm(first)[0], square(alm, 20), rtol=0, atol=1e-12)
    fields = [first[0].numpy(), second[0].numpy()]
    wanted = [square(alm, 20) for alm in healpy.map2alm_spin(fields, 2, lmax=20)]
    got = ours.alm_eb(torch.cat([first, second])[None])[0]
    assert np.allclose(got, np.stack(wanted), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [0, 1], ids=["E", "B"])
@pytest.mark.parametrize(("degree", "order"), [(2, 0), (5, 3), (12, 12), (17, 1)])
def test_a_single_harmonic_is_found_where_it_was_put(kind, degree, order):
    alm = np.zeros((2, healpy.Alm.getsize(20)), complex)
    alm[kind, healpy.Alm.getidx(20, degree, order)] = 1.5 + (0.5j if order else 0)
    q_u = np.array(healpy.alm2map_spin(alm, 16, 2, 20))
    ours = spectra_of(16, lmax=20)
    # Without iterations the quadrature over pixels is exact to some 1e-3 for l below 2 nside.
    found = ours.alm_eb(torch.from_numpy(q_u)[None])[0].numpy()
    wanted = np.stack([square(a, 20) for a in alm])
    assert np.abs(found - wanted).max() < 5e-3
    spectra = ours.power_eb(torch.from_numpy(q_u)[None])[0].numpy()
    level = (np.abs(alm) ** 2).sum() * (2 if order else 1) / (2 * degree + 1)
    delta = np.zeros((3, 21))
    delta[kind, degree] = level
    assert np.abs(spectra - delta).max() < 5e-3 * level


def test_scalar_harmonic_is_found_where_it_was_put():
    alm = np.zeros(healpy.Alm.getsize(20), complex)
    alm[healpy.Alm.getidx(20, 7, 4)] = 2 - 1j
    field = torch.from_numpy(healpy.alm2map(alm, 16, lmax=20))[None]
    spectrum = spectra_of(16, lmax=20).power(field)[0].numpy()
    assert np.abs(spectrum - 2 * 5 / 15 * (np.arange(21) == 7)).max() < 5e-3


@pytest.mark.parametrize("weighted", [False, True])
def test_gradients(weighted):
    weights = noise(5, 48).abs() if weighted else None
    ours = spectra_of(2, lmax=3, ordering="nested", weights=weights)
    q_u, t = noise(6, 1, 2, 48).requires_grad_(), noise(6, 2, 48).requires_grad_()
    other, g = noise(7, 2, 48).requires_grad_(), noise(7, 1, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(ours.power_eb, q_u)
    assert torch.autograd.gradcheck(ours.power, (t, other))
    assert torch.autograd.gradcheck(ours.alm_eb, q_u)
    assert torch.autograd.gradgradcheck(ours.power_eb, q_u, g)


@pytest.mark.parametrize("fields", [1, 2])
def test_the_adjoint_is_the_transpose(fields):
    transform = spectra_of(8, ordering="nested").transform
    maps = noise(8, 3, fields, 768)
    there = transform.analyse(maps)
    other = torch.randn(there.shape, dtype=DOUBLE, generator=seeds.generator(9))
    left, right = (there * other).sum(), (maps * transform.adjoint(other)).sum()
    assert abs(left - right) < 1e-12 * there.norm() * other.norm()


def test_a_batch_is_its_members_and_a_quarter_turn_changes_nothing():
    maps = noise(10, 3, 2, 768)
    ours = spectra_of(8)
    together = ours.power_eb(maps)
    assert torch.allclose(together[1:2], ours.power_eb(maps[1:2]), rtol=1e-12, atol=0)
    theta, phi = healpy.pix2ang(8, np.arange(768))
    turned = maps[..., torch.from_numpy(healpy.ang2pix(8, theta, phi + np.pi / 2))]
    assert torch.allclose(together, ours.power_eb(turned), rtol=0, atol=1e-15)


def test_weights_multiply_and_hide_what_is_not_seen():
    maps = noise(11, 2, 3, 768)
    weights = torch.linspace(0, 1, 768, dtype=DOUBLE).clamp(min=0.2) - 0.2
    wanted = anafast(maps * weights, "ring", 23)
    ours = spectra_of(8, weights=weights)
    hidden = maps.masked_fill(weights == 0, healpy.UNSEEN)
    hidden[:, :, 0] = torch.nan
    hidden.requires_grad_()
    spectra = ours.power_eb(hidden[:, 1:])
    assert np.allclose(spectra.detach().numpy(), wanted[:, 1:], rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(spectra.sum(), hidden)
    assert torch.isfinite(gradient).all()
    assert (gradient[..., weights == 0] == 0).all()


@pytest.mark.parametrize(
    "maps",
    [
        torch.zeros(768), torch.zeros(2, 767), torch.zeros(2, 3, 768), torch.zeros(0, 768),
        torch.zeros(1, 12 * 16**2), torch.zeros(1, 768, dtype=torch.complex64),
    ],
)  # fmt: skip
def test_wrong_shapes(maps):
    ours = spectra_of(8)
    with pytest.raises(ShapeError, match="Nside 8"):
        ours.power(maps)
    with pytest.raises(ShapeError, match="Q and U"):
        ours.power_eb(maps)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, healpy.UNSEEN])
def test_pixels_that_are_no_numbers(value):
    maps = torch.zeros(2, 2, 768)
    maps[1, 0, 5] = value
    with pytest.raises(ShapeError, match="got 1 such pixels"):
        spectra_of(8).power_eb(maps)


@pytest.mark.parametrize(
    "options",
    [
        {"nside": 12}, {"nside": 0}, {"nside": 8.0}, {"nside": True}, {"lmax": 1}, {"lmax": 3.0},
        {"ordering": "NEST"}, {"ordering": ""}, {"dtype": torch.float16},
    ],
)  # fmt: skip
def test_wrong_options(options):
    with pytest.raises(ConfigError):
        SphericalSpectra(**{"nside": 8, "ordering": "ring", **options})


def test_wrong_weights():
    with pytest.raises(ShapeError, match="weights"):
        spectra_of(8, weights=torch.ones(767))
    with pytest.raises(ShapeError, match="weights"):
        spectra_of(8, weights=torch.full((768,), torch.nan))
