"""Scattering covariances against sums written out, symmetries and finite differences."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
import torch

from emulators.methods.sky.wavelets.coefficients import coefficients
from emulators.methods.sky.wavelets.filters import Frame, build_levels
from emulators.methods.sky.wavelets.layout import layout
from emulators.methods.sky.wavelets.transform import ScatteringCovariance
from sbitools.errors import ConfigError, ShapeError
from sbitools.seeds import normal

F64 = torch.float64


def maps(batch, fields, nside, seed=0, dtype=F64):
    return normal([seed], (batch, fields, 12 * nside**2), dtype)[0]


def around(x, nside):
    """Values (9, pixels) of every pixel and its neighbours, as healpy gives them."""
    near = healpy.get_all_neighbours(nside, np.arange(len(x)), nest=True)
    return np.concatenate([x[None], np.where(near >= 0, x[near], 0)])


def filtered(x, level, turns=1):
    """x * psi (L, pixels) of one map, pixel by pixel; the neighbours times `turns`."""
    weights = level.weights[..., layout(level.nside).inside]
    psi = weights[:, 0] + 1j * weights[:, 1]
    return np.einsum("gnp,np->gp", psi, turns * around(x, level.nside))


def coarser(x, level, turns=1):
    """One map at the next level; the neighbours times `turns`."""
    smoother = level.smoother[:, layout(level.nside).inside]
    return (smoother * turns * around(x, level.nside)).sum(0).reshape(-1, 4).mean(1)


def written_out(x, y, levels, filters=(filtered, filtered), coarse=coarser):
    """S1 of x, and S2, S3, S4 of the pair (x, y), by loops over scales and orientations.

    `filters` and `coarse` are for the fields themselves, which need not be real.
    """
    moduli_x, moduli_y, out = [], [], {1: [], 2: [], 3: [], 4: []}
    for level in levels:
        fx, fy = filters[0](x, level), filters[1](y, level)
        moduli_x.append(list(np.abs(fx)))
        moduli_y.append(list(np.abs(fy)))
        out[1] += [m.mean() for m in moduli_x[-1]]
        out[2] += [(a * b.conj()).mean() for a, b in zip(fx, fy, strict=True)]
        again_x = [[filtered(m, level) for m in ms] for ms in moduli_x]
        again_y = [[filtered(m, level) for m in ms] for ms in moduli_y]
        for j2 in range(len(moduli_x)):
            out[3] += [(fx[g3] * again_y[j2][g2][g3].conj()).mean()
                       for g2 in range(4) for g3 in range(4)]  # fmt: skip
            for j1 in range(j2 + 1):
                out[4] += [(again_x[j1][g1][g3] * again_y[j2][g2][g3].conj()).mean()
                           for g1 in range(4) for g2 in range(4) for g3 in range(4)]  # fmt: skip
        x, y = coarse(x, level), coarse(y, level)
        moduli_x = [[coarser(m, level) for m in ms] for ms in moduli_x]
        moduli_y = [[coarser(m, level) for m in ms] for ms in moduli_y]
    return {k: np.array(v) for k, v in out.items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (F64, 1e-12)])
@pytest.mark.parametrize("second", [0, 1])
def test_gram_holds_the_coefficients(dtype, tolerance, second):
    transform = ScatteringCovariance(8, 2, 3, dtype=dtype)
    x = maps(1, 2, 8) + 0.3 * maps(1, 1, 8, 1)  # the two maps are correlated
    found = coefficients(transform, transform(x.to(dtype)), 0, second)
    levels = build_levels(8, 3, 4, Frame(), "float64")
    expected = written_out(x[0, 0].numpy(), x[0, second].numpy(), levels)
    for order, value in enumerate((found.s1, found.s2, found.s3, found.s4), start=1):
        error = np.abs(value.flatten().numpy() - expected[order]).max()
        assert error < tolerance * np.abs(expected[order]).max(), order


def test_count_of_the_paper():
    transform = ScatteringCovariance(16, levels=4)
    found = coefficients(transform, transform(maps(1, 1, 16, dtype=torch.float32)))
    assert found.flat().shape[2] == 1474


def test_cross_of_a_map_with_itself_is_auto():
    transform = ScatteringCovariance(8, 2, 3, dtype=F64)
    x = maps(2, 1, 8).expand(2, 2, -1).contiguous()
    s = transform(x)
    auto, cross = coefficients(transform, s, 0, 0), coefficients(transform, s, 0, 1)
    assert torch.allclose(auto.flat(), cross.flat(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("fields", [1, 2])
def test_gradient_in_float64(fields):
    pixels = 12 * 4**2
    regions = torch.stack([torch.ones(pixels), torch.linspace(0, 1, pixels)])
    transform = ScatteringCovariance(4, fields, 3, regions=regions, dtype=F64)
    x, direction = maps(2, fields, 4).requires_grad_(), maps(2, fields, 4, 1)
    weight = normal([5], (transform.size,), F64)[0]

    def value(z):
        return (transform(z) @ weight).square().sum()

    (gradient,) = torch.autograd.grad(value(x), x)
    step = 1e-6
    with torch.no_grad():
        slope = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    # Central differences are good to step^2 and to rounding / step: 1e-9 of the slope.
    assert float(slope) == pytest.approx(float((gradient * direction).sum()), rel=1e-7)


def test_gradient_in_float32_is_that_in_float64():
    gradients = []
    for dtype in (torch.float32, F64):
        transform = ScatteringCovariance(16, 2, dtype=dtype)
        x = maps(2, 2, 16).to(dtype).requires_grad_()
        transform(x).mean(0).square().sum().backward()
        gradients.append(x.grad.double())
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[1].norm()


def test_batch_does_not_matter():
    transform = ScatteringCovariance(8, 2)
    x = maps(5, 2, 8, dtype=torch.float32)
    whole = transform(x)
    assert torch.equal(whole, torch.cat([transform(x[i : i + 1]) for i in range(5)]))


@pytest.mark.parametrize("frame", [Frame(), Frame("stereographic"), Frame(pole=(20.0, 50.0))])
def test_white_noise_responds_alike_in_every_pixel(frame):
    """The filters times the covariance of white noise at their level, by the matrix of a delta."""
    nside, levels = 8, build_levels(8, 3, 4, frame, "float64")
    delta = np.eye(12 * nside**2)
    for level in levels:
        response = np.stack([filtered(d, level) for d in delta])
        variance = (np.abs(response) ** 2).sum(0)
        assert np.abs(variance - 1).max() < 1e-10
        delta = np.stack([coarser(d, level) for d in delta])


def test_quarter_turn_about_the_axis_changes_nothing():
    transform = ScatteringCovariance(8, 1, dtype=F64)
    x = maps(1, 1, 8)[0, 0].numpy()
    theta, phi = healpy.pix2ang(8, np.arange(768), nest=True)
    turned = x[healpy.ang2pix(8, theta, phi + np.pi / 2, nest=True)]
    s = [transform(torch.from_numpy(m)[None, None]) for m in (x, turned)]
    assert torch.allclose(s[0], s[1], rtol=0, atol=1e-12)
    assert not torch.allclose(s[0], transform(torch.from_numpy(x[::-1].copy())[None, None]))


def test_amplitude():
    transform = ScatteringCovariance(8, 1, dtype=F64)
    x = maps(1, 1, 8)
    one, ten = (coefficients(transform, transform(a * x)) for a in (1.0, 10.0))
    assert torch.allclose(ten.s1, 10 * one.s1)
    assert torch.allclose(ten.s4, 100 * one.s4)
    assert torch.allclose(ten.normalised().s3, one.normalised().s3)


def test_regions_are_weighted_means():
    pixels = 12 * 8**2
    half = torch.zeros(pixels)
    half[: pixels // 2] = 1  # six whole faces
    regions = torch.stack([half, 1 - half, torch.ones(pixels)])
    transform = ScatteringCovariance(8, 2, regions=regions, dtype=F64)
    s = transform(maps(1, 2, 8)).view(3, -1)
    assert torch.allclose((s[0] + s[1]) / 2, s[2], rtol=0, atol=1e-13)
    whole = ScatteringCovariance(8, 2, dtype=F64)(maps(1, 2, 8))
    assert torch.allclose(s[2], whole[0], rtol=0, atol=1e-13)


def test_what_is_far_from_a_region_does_not_count():
    pixels = 12 * 16**2
    theta = healpy.pix2ang(16, np.arange(pixels), nest=True)[0]
    north = torch.from_numpy((theta < 0.8).astype(float))
    transform = ScatteringCovariance(16, 1, 2, regions=north[None], dtype=F64)
    x = maps(1, 1, 16)
    other = torch.where(torch.from_numpy(theta < 1.4), x, 7 * maps(1, 1, 16, 9))
    assert torch.equal(transform(x), transform(other))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nside": 12}, "power of two"),
        ({"nside": 8, "levels": 5}, "1 to 4 levels"),
        ({"nside": 8, "orientations": 0}, "orientation"),
        ({"nside": 8, "dtype": torch.float16}, "float16"),
        ({"nside": 8, "regions": torch.ones(2, 5)}, "(regions, 768)"),
        ({"nside": 8, "regions": torch.zeros(1, 768)}, "region 0"),
        ({"nside": 8, "regions": -torch.ones(1, 768)}, ">= 0"),
    ],
)
def test_bad_settings(options, words):
    with pytest.raises(ConfigError) as error:
        ScatteringCovariance(**options)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(2, 768), "(batch, 1, 768)"),
        (torch.zeros(2, 2, 768), "(batch, 1, 768)"),
        (torch.zeros(2, 1, 192), "nested"),
        (torch.zeros(2, 1, 768, dtype=F64), "float64"),
        (torch.full((2, 1, 768), float("nan")), "NaN"),
        (torch.full((2, 1, 768), healpy.UNSEEN), "UNSEEN"),
    ],
)
def test_bad_maps(x, words):
    with pytest.raises(ShapeError) as error:
        ScatteringCovariance(8)(x)
    assert words in str(error.value)
