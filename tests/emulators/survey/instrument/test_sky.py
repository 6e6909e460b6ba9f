"""The sky: the dipole's place and size, the CMB's spectra, and maps of the user."""

import os
from pathlib import Path

import healpy
import numpy as np
import pytest
from scipy import stats

from emulators.survey.instrument.sky import cmb_map, dipole_map, regrade, sky_map
from sbitools.errors import ConfigError, ParameterError, ShapeError

TAIL = 1e-6  # false-alarm rate of a statistical test


@pytest.mark.parametrize(
    ("frame", "lon", "lat"),
    # The ecliptic coordinates are astropy's.
    [("galactic", 264.021, 48.253), ("ecliptic", 171.668, -11.152)],
)
def test_dipole(frame, lon, lat):
    sky = dipole_map(64, frame)
    assert not sky[1:].any()
    vectors = np.array(healpy.pix2vec(64, np.arange(49152), nest=True))
    amplitude = np.linalg.lstsq(vectors.T, sky[0], rcond=None)[0]
    assert np.linalg.norm(amplitude) == pytest.approx(3362.08e-6, rel=1e-12)
    found = healpy.vec2ang(amplitude, lonlat=True)
    np.testing.assert_allclose(np.ravel(found), [lon, lat], atol=0.02)
    assert sky[0].max() == pytest.approx(3362.08e-6, rel=1e-3)
    assert sky[0].mean() == pytest.approx(0, abs=1e-12)


def power(lmax, seeds):
    """Mean over seeds of TT, EE, BB, TE up to lmax in uK^2, from maps of Nside 16."""
    rows = []
    for seed in seeds:
        maps = [healpy.reorder(m, n2r=True) for m in 1e6 * cmb_map(16, seed)]
        rows.append(healpy.anafast(maps, lmax=lmax, iter=3)[:4])
    return np.mean(rows, axis=0)


def test_cmb_has_the_spectra_of_the_file():
    n, lmax = 40, 20
    ell = np.arange(lmax + 1)
    table = np.loadtxt(Path(healpy.__file__).parent / "data" / "totcls.dat")[2 : lmax + 1]
    exact = np.zeros((4, lmax + 1))
    exact[:, 2:] = table[:, 1:5].T * 2 * np.pi / (table[:, 0] * (table[:, 0] + 1))
    found, modes = power(lmax, range(n)), n * (2 * ell + 1)
    assert (np.abs(found[:, :2]) < 1e-3 * exact[:, 2:3]).all()
    for row in range(3):
        # sum of (2l + 1) C_l^ / C_l is chi^2 with one degree of freedom for each mode.
        chi2 = (modes[2:] * found[row, 2:] / exact[row, 2:]).sum()
        p = stats.chi2(modes[2:].sum()).cdf(chi2)
        assert TAIL / 2 < p < 1 - TAIL / 2
        assert stats.chi2(modes[2:].sum()).cdf(1.1 * chi2) > 1 - TAIL / 2  # 10% would be seen
    tt, ee, _, te = exact[:, 2:]
    z = (found[3, 2:] - te) / np.sqrt((te**2 + tt * ee) / modes[2:])
    combined = z.sum() / np.sqrt(len(z))
    assert abs(combined) < stats.norm.isf(TAIL / 2)
    none = (found[3, 2:] / np.sqrt((te**2 + tt * ee) / modes[2:])).sum() / np.sqrt(len(z))
    assert none > stats.norm.isf(TAIL / 2)  # no correlation of T and E would be seen


def test_cmb_seeds():
    assert np.array_equal(cmb_map(8, 3), cmb_map(8, 3))
    assert np.abs(np.corrcoef(cmb_map(16, 3)[0], cmb_map(16, 4)[0])[0, 1]) < 0.3
    with pytest.raises(ParameterError, match="seed"):
        cmb_map(8, -1)


def test_larger_maps_add_small_scales():
    alms = []
    for nside in (8, 32):
        maps = np.array([healpy.reorder(m, n2r=True) for m in cmb_map(nside, 5)])
        alms.append(healpy.map2alm(maps, lmax=6, iter=10))
    scale = np.abs(alms[1]).max(axis=1, keepdims=True)
    # Nside 8 has multipoles up to 23, which leak a little into those below 6.
    np.testing.assert_allclose(alms[0] / scale, alms[1] / scale, atol=0.02)


def test_sky_is_the_sum_of_its_parts():
    extra = np.full((3, 768), 1e-5)
    sky = sky_map(8, 2, frame="ecliptic", foregrounds=extra)
    np.testing.assert_array_equal(sky, dipole_map(8, "ecliptic") + cmb_map(8, 2) + extra)
    with pytest.raises(ShapeError, match=r"foregrounds: .*\(3, 768\).*got.*\(3, 192\).*regrade"):
        sky_map(8, foregrounds=np.zeros((3, 192)))


def smooth(nside, nest):
    x, y, z = healpy.pix2vec(nside, np.arange(12 * nside**2), nest=nest)
    return np.stack([x, y * z, x - z])


@pytest.mark.parametrize("nside", [4, 8, 32])
def test_regrading_agrees_with_healpy(nside):
    ring = smooth(8, False)
    out = regrade(ring, nside, ordering="ring", unit="K")
    nested = regrade(smooth(8, True), nside, ordering="nested", unit="K")
    np.testing.assert_allclose(out, nested, atol=1e-14)
    expected = healpy.ud_grade(list(ring), nside, order_in="RING", order_out="NEST")
    np.testing.assert_allclose(out, expected, atol=1e-14)


@pytest.mark.parametrize(("unit", "kelvin"), [("K", 1), ("mK", 1e-3), ("uK", 1e-6)])
def test_units(unit, kelvin):
    out = regrade(np.ones((3, 48)), 2, ordering="nested", unit=unit)
    np.testing.assert_allclose(out, kelvin)


def test_intensity_alone_is_unpolarised():
    out = regrade(np.ones(48), 4, ordering="ring", unit="K")
    assert (out[0] == 1).all()
    assert not out[1:].any()


BAD = np.ones((3, 48))
BAD[1, 7] = healpy.UNSEEN
GAP = np.ones((3, 48))
GAP[0, 3] = np.nan
MASKED = np.ma.masked_greater(np.arange(144.0).reshape(3, 48), 140)


@pytest.mark.parametrize("values", [BAD, GAP, MASKED])
def test_pixels_without_a_value_are_refused(values):
    with pytest.raises(ShapeError, match="sky: expected no NaN, infinity or"):
        regrade(values, 2, ordering="ring", unit="K")


@pytest.mark.parametrize(
    ("values", "nside", "options", "error", "message"),
    [
        (np.ones((3, 48)), 2, {"ordering": "NEST"}, ConfigError, "'ring' or 'nested'; got 'NEST'"),
        (np.ones((3, 48)), 2, {"unit": "MJy/sr"}, ConfigError, "unit: .*'mK'.*got 'MJy/sr'"),
        (np.ones((3, 48)), 3, {}, ConfigError, "nside: expected a power of two; got 3"),
        (np.ones((3, 108)), 2, {}, ShapeError, "12 Nside"),
        (np.ones((2, 48)), 2, {}, ShapeError, r"sky: expected shape \(3, n_pixels\)"),
    ],
)
def test_wrong_maps(values, nside, options, error, message):
    with pytest.raises(error, match=message):
        regrade(values, nside, **{"ordering": "ring", "unit": "K", **options})


def test_wrong_frames_and_nsides():
    with pytest.raises(ConfigError, match="frame: expected 'galactic' or 'ecliptic'; got 'G'"):
        dipole_map(4, "G")
    with pytest.raises(ConfigError, match="power of two; got 6"):
        cmb_map(6, 1)


WMAP = os.environ.get("SBITOOLS_WMAP")


@pytest.mark.skipif(not WMAP, reason="SBITOOLS_WMAP names no WMAP map (I, Q, U in mK, ring)")
def test_a_real_map():
    ring = healpy.read_map(WMAP, field=(0, 1, 2))
    sky = regrade(ring, 16, ordering="ring", unit="mK")
    theta, _ = healpy.pix2ang(16, np.arange(3072), nest=True)
    plane = np.abs(theta - np.pi / 2) < np.deg2rad(5)
    # W band, 94 GHz: about 0.1 mK of CMB everywhere, and the Galaxy's mK along its plane.
    assert 5e-5 < sky[0, ~plane].std() < 1.5e-4
    assert sky[0, plane].max() > 1e-3
    assert sky[0, plane].mean() > 5 * np.abs(sky[0, ~plane].mean())
    wrong = regrade(ring, 16, ordering="nested", unit="mK")
    assert wrong[0, plane].mean() < 0.5 * sky[0, plane].mean()
