"""Complex maps: against sums written out, and what a field of spin 2 must not feel."""

from __future__ import annotations

from functools import partial

import healpy
import numpy as np
import pytest
import torch

from emulators.methods.sky.wavelets.coefficients import coefficients
from emulators.methods.sky.wavelets.filters import Frame, build_levels
from emulators.methods.sky.wavelets.layout import layout
from emulators.methods.sky.wavelets.transform import ScatteringCovariance
from emulators.methods.sky.wavelets.turns import build_turns
from sbitools.errors import ConfigError, ShapeError
from sbitools.seeds import normal

from .test_transform import around, coarser, filtered, maps, written_out

F64, C64, C128 = torch.float64, torch.complex64, torch.complex128
TILTED = Frame("stereographic", (20.0, 50.0))


def complex_maps(batch, fields, nside, seed=0, dtype=F64):
    return torch.complex(*maps(batch, 2 * fields, nside, seed, dtype).split(fields, 1))


def basis(nside):
    """Unit vectors to the pixels, to their south and to their east, (3, pixels, 3)."""
    theta, phi = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True)
    zero = np.zeros_like(phi)
    st, ct, sp, cp = np.sin(theta), np.cos(theta), np.sin(phi), np.cos(phi)
    rows = (st * cp, st * sp, ct), (ct * cp, ct * sp, -st), (-sp, cp, zero)
    return np.stack([np.stack(row, -1) for row in rows])


def carried(here, there):
    """Factor of a vector's a + i b: rotate the sphere along the great circle, compare the axes."""
    axis, cos = np.cross(there[0], here[0]), (there[0] * here[0]).sum(-1, keepdims=True)
    south = there[1]  # Rodrigues' formula
    turned = cos * south + np.cross(axis, south)
    turned = turned + axis * (axis * south).sum(-1, keepdims=True) / (1 + cos)
    return (turned * here[1]).sum(-1) + 1j * (turned * here[2]).sum(-1)


def to_neighbours(nside, spin):
    """Factors (9, pixels) that carry the neighbours' values to every pixel."""
    here = basis(nside)
    near = around(np.arange(12 * nside**2), nside)
    return carried(here[:, None], here[:, near]) ** spin


def sees(z, level, spin, frame, opposite):
    """z * psi against the frame's direction; or conj(z * conj(psi)), what the opposite gives."""
    own = basis(level.nside)
    first = frame.axes(own[0])[0]
    direction = (first * own[1]).sum(-1) + 1j * (first * own[2]).sum(-1)
    turns = to_neighbours(level.nside, spin) / direction**spin
    return filtered(z.conj(), level, turns.conj()) if opposite else filtered(z, level, turns)


def shrinks(z, level, spin):
    children, parents = basis(level.nside), np.repeat(basis(level.nside // 2), 4, axis=1)
    up = carried(parents, children) ** spin
    return coarser(z, level, up * to_neighbours(level.nside, spin))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (F64, 1e-12)])
@pytest.mark.parametrize(("spin", "frame"), [(0, Frame()), (2, Frame()), (2, TILTED), (1, TILTED)])
def test_gram_holds_the_coefficients(spin, frame, dtype, tolerance):
    transform = ScatteringCovariance(8, 2, 3, frame=frame, dtype=dtype, spin=spin)
    z = complex_maps(1, 2, 8) + 0.3 * complex_maps(1, 1, 8, 1)  # the two maps are correlated
    s = transform(z.to(dtype.to_complex()))
    levels = build_levels(8, 3, 4, frame, "float64")
    for pair in ((0, 0), (1, 1), (0, 1), (1, 2)):
        found = coefficients(transform, s, *pair)
        ways = [partial(sees, spin=spin, frame=frame, opposite=k % 2) for k in pair]
        x, y = (z[0, k // 2].numpy() for k in pair)
        expected = written_out(x, y, levels, ways, partial(shrinks, spin=spin))
        for order, value in enumerate((found.s1, found.s2, found.s3, found.s4), start=1):
            error = np.abs(value.flatten().numpy() - expected[order]).max()
            assert error < tolerance * np.abs(expected[order]).max(), (pair, order)


@pytest.mark.parametrize("spin", [0, 2])
def test_gradient_by_finite_differences(spin):
    regions = torch.stack([torch.ones(48), torch.linspace(0, 1, 48)])
    transform = ScatteringCovariance(2, 1, 2, 2, TILTED, regions, F64, spin)
    assert torch.autograd.gradcheck(transform, complex_maps(1, 1, 2).requires_grad_())


def test_gradient_of_two_fields_in_float32_is_that_in_float64():
    gradients = []
    for dtype in (torch.float32, F64):
        transform = ScatteringCovariance(8, 2, dtype=dtype, spin=2)
        z = complex_maps(2, 2, 8).to(dtype.to_complex()).requires_grad_()
        transform(z).mean(0).square().sum().backward()
        gradients.append(z.grad.to(C128))
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[1].norm()


def test_real_map_given_as_complex():
    x = maps(2, 1, 8)
    real, scalar = (ScatteringCovariance(8, dtype=F64, spin=spin) for spin in (None, 0))
    expected = coefficients(real, real(x)).flat()
    s = scalar(x.to(C128))
    for pair in ((0, 0), (0, 1)):
        assert torch.allclose(coefficients(scalar, s, *pair).flat(), expected, rtol=0, atol=1e-13)
    opposite = coefficients(scalar, s, 1, 1)
    assert torch.allclose(opposite.flat()[..., 2:], expected[..., 2:], rtol=0, atol=1e-13)


def test_batch_does_not_matter():
    transform = ScatteringCovariance(8, 2, spin=2)
    z = complex_maps(5, 2, 8, dtype=torch.float32)
    assert torch.equal(transform(z), torch.cat([transform(one[None]) for one in z]))


def test_conjugate_exchanges_the_ways_round():
    transform = ScatteringCovariance(8, dtype=F64, spin=0)
    z = complex_maps(1, 1, 8)
    both = [transform.split(transform(w)).moduli for w in (z, z.conj())]
    for moduli, conjugate in zip(*both, strict=True):
        assert torch.allclose(moduli.flip(-1), conjugate, rtol=0, atol=1e-14)
        assert not torch.allclose(moduli, conjugate, rtol=0.01)


@pytest.mark.parametrize("spin", [0, 2])
def test_global_phase_turns_fields_and_leaves_moduli(spin):
    transform = ScatteringCovariance(8, dtype=F64, spin=spin)
    z, phase = complex_maps(1, 1, 8), torch.exp(torch.tensor(0.7j, dtype=C128))
    for k, turn in ((0, phase), (1, phase.conj())):
        before, after = (coefficients(transform, transform(w), k) for w in (z, phase * z))
        for name in ("s1", "s2", "s4"):
            assert torch.allclose(getattr(before, name), getattr(after, name), rtol=1e-12)
        assert torch.allclose(turn * before.s3, after.s3, rtol=0, atol=1e-13)
        assert not torch.allclose(before.s0, after.s0, rtol=0.01)


def polarisation(alm, nside, lmax, mode):
    """Q + i U of coefficients (n,) of E or B."""
    both = [alm, 0 * alm] if mode == "E" else [0 * alm, alm]
    q, u = healpy.alm2map_spin(both, nside, 2, lmax)
    return torch.from_numpy(healpy.reorder(q + 1j * u, r2n=True))


def random_alm(lmax, seed):
    degree, order = healpy.Alm.getlm(lmax)
    re, im = normal([seed], (2, len(order)), F64)[0].numpy()
    return np.where(order == 0, np.sqrt(2) * re, re + 1j * im) * (degree >= 2)


def parity(transform, z):
    """Power at the finest level in every region; and (E - B) / (E + B), seen by the wavelets.

    Against its own direction, a wavelet sees E as the real part of z * psi and B as the imaginary.
    """
    s = transform(z[None, None])
    power = sum(coefficients(transform, s, k, k).s2.real[0, :, 0] for k in (0, 1))
    back = torch.exp(-4j * torch.pi * torch.arange(4) / 4)
    excess = (coefficients(transform, s, 0, 1).s2[0, :, 0] * back).real
    return power.sum(1), 2 * excess.sum(1) / power.sum(1)


def pole_and_equator(frame, spin, seed, mode):
    """`parity` of one sky twice, at the pole and, turned by 90 degrees, at the equator."""
    nside, lmax = 16, 24
    vectors = basis(nside)[0]
    discs = torch.from_numpy((vectors[:, [2, 0]] > np.cos(0.5)).T.astype(float))
    transform = ScatteringCovariance(nside, 1, 1, frame=frame, regions=discs, dtype=F64, spin=spin)
    there = random_alm(lmax, seed)
    turned = there.copy()
    healpy.rotate_alm(turned, 0.0, np.pi / 2, 0.0)
    pole, equator = (
        parity(transform, polarisation(alm, nside, lmax, mode)) for alm in (there, turned)
    )
    return pole[0][0] / equator[0][1], pole[1][0], equator[1][1]


@pytest.mark.parametrize("frame", [Frame(), Frame("stereographic")])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_e_and_b_are_told_apart_at_the_pole_as_at_the_equator(frame, seed):
    for mode, sign in (("E", 1), ("B", -1)):
        power, pole, equator = pole_and_equator(frame, 2, seed, mode)
        # What is left is that pixels have other shapes there.
        assert float(power) == pytest.approx(1, abs=0.04)
        assert 0.05 < sign * pole < 0.15
        assert 0.05 < sign * equator < 0.15


def test_scalars_would_feel_the_pole():
    """Q + i U taken for a scalar: power too high there, and E hardly told from B."""
    power, pole, _ = np.mean([pole_and_equator(TILTED, 0, k, "E") for k in range(3)], axis=0)
    assert power > 1.1
    assert pole < 0.03


def test_quarter_turn_about_the_axis_changes_nothing():
    transform = ScatteringCovariance(8, dtype=F64, spin=2)
    z = complex_maps(1, 1, 8)[0, 0]
    theta, phi = healpy.pix2ang(8, np.arange(768), nest=True)
    turned = z[healpy.ang2pix(8, theta, phi + np.pi / 2, nest=True)]
    s = [transform(m[None, None]) for m in (z, turned, z.flip(0))]
    assert torch.allclose(s[0], s[1], rtol=0, atol=1e-12)
    assert not torch.allclose(s[0], s[2])


def noise_response(frame, carry):
    """Largest departure from variance 1 of a pixel, orientation and level, by one-pixel maps."""
    levels = build_levels(8, 3, 4, frame, "float64")
    deltas, worst = np.eye(12 * 8**2, dtype=complex), 0.0
    for level, arrays in zip(levels, build_turns(8, 3, 4, frame, "float64", 2), strict=True):
        inside = layout(level.nside).inside
        turns, smoother = (parts[0][:, inside] + 1j * parts[1][:, inside] for parts in arrays)
        turns = turns if carry else np.abs(turns)
        for z, way in ((deltas, turns), (deltas.conj(), turns.conj())):
            variance = sum(np.abs(filtered(d, level, way)) ** 2 for d in z)
            worst = max(worst, np.abs(variance - 1).max())
        smoothed = [(smoother * around(d, level.nside)).sum(0) for d in deltas]
        deltas = np.stack(smoothed).reshape(len(deltas), -1, 4).mean(2)
    return worst


@pytest.mark.parametrize("frame", [Frame(), TILTED])
def test_white_noise_of_spin_two_responds_alike_in_every_pixel(frame):
    assert noise_response(frame, carry=True) < 0.03
    assert noise_response(frame, carry=False) > 0.3  # smoothed as spin 2, filtered as a scalar


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (torch.zeros(2, 1, 768), "complex64"),
        (torch.zeros(2, 1, 768, dtype=C128), "complex128"),
        (torch.zeros(2, 2, 768, dtype=C64), "(batch, 1, 768)"),
        (torch.zeros(2, 768, dtype=C64), "(batch, 1, 768)"),
        (torch.full((2, 1, 768), complex(0, float("nan"))), "NaN"),
        (torch.full((2, 1, 768), complex(healpy.UNSEEN, 0)), "UNSEEN"),
    ],
)
def test_bad_maps(z, words):
    with pytest.raises(ShapeError) as error:
        ScatteringCovariance(8, spin=2)(z)
    assert words in str(error.value)


def test_real_transform_refuses_complex_maps():
    with pytest.raises(ShapeError, match="float32"):
        ScatteringCovariance(8)(torch.zeros(2, 1, 768, dtype=C64))


def test_spin_is_an_integer():
    with pytest.raises(ConfigError, match="spin"):
        ScatteringCovariance(8, spin=0.5)
