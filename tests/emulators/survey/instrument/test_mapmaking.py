"""Binned maps: exact recovery, least squares pixel by pixel, masks, and toast's maps."""

import numpy as np
import pytest

from emulators.survey.instrument.mapmaking import DETECTORS, MapMaker
from emulators.survey.instrument.scan import Pointing, Scan
from sbitools.errors import ConfigError, ShapeError

NSIDE = 8


def make(detectors=DETECTORS, n_rings=128, samples=128, **options):
    return MapMaker(Scan(n_rings=n_rings, samples=samples).pointing(NSIDE), detectors, **options)


def noise(shape, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


def test_the_sky_is_recovered_exactly():
    maker = make()
    sky = noise((3, 768))
    assert maker.mask.all()
    np.testing.assert_allclose(maker.bin(maker.observe(sky)), sky, atol=1e-13)


def test_samples_are_what_a_polarimeter_measures():
    maker, sky = make((0.0, 45.0)), noise((3, 768), 1)
    tod, psi = maker.observe(sky), maker.pointing.psi.astype(float)
    i, q, u = sky[:, maker.pointing.pixels]
    for row, offset in zip(tod, (0.0, np.pi / 4), strict=True):
        exact = i + q * np.cos(2 * (psi + offset)) + u * np.sin(2 * (psi + offset))
        np.testing.assert_allclose(row, exact, atol=2e-6)  # cos and sin are kept in float32


def test_four_detectors_measure_q_and_u_at_once():
    # Two pairs 45 deg apart: sum over detectors of w w^T = diag(4, 2, 2) whatever psi.
    maker = make()
    exact = np.zeros((768, 3, 3))
    exact[:, [0, 1, 2], [0, 1, 2]] = np.outer(maker.pointing.hits(), [4, 2, 2])
    np.testing.assert_allclose(maker.normal, exact, atol=1e-4)
    np.testing.assert_allclose(maker.condition, 2, rtol=1e-6)


def test_normal_matrices_sum_the_weights():
    maker = make((0.0, 30.0, 110.0))
    pixels, expected = maker.pointing.pixels.reshape(-1), np.zeros((768, 3, 3))
    for d in range(3):
        w = maker.weights(d)
        np.add.at(expected, pixels, w.T[:, :, None] * w.T[:, None, :])
    np.testing.assert_allclose(maker.normal, expected, atol=1e-9)


def test_maps_are_least_squares_fits():
    maker, tod = make((0.0, 60.0)), noise((2, 128, 128), 2)
    out, pixels = maker.bin(tod), maker.pointing.pixels.reshape(-1)
    for pixel in np.flatnonzero(maker.mask)[[0, 100, -1]]:
        inside = pixels == pixel
        design = np.concatenate([maker.weights(d)[:, inside] for d in range(2)], axis=1).T
        data = tod.reshape(2, -1)[:, inside].reshape(-1)
        fit = np.linalg.lstsq(design, data, rcond=None)[0]
        np.testing.assert_allclose(out[:, pixel], fit, rtol=1e-8, atol=1e-10)


def test_pixels_seen_in_one_direction_are_masked():
    # One detector: a pixel needs three directions; a few rings give many pixels only one.
    maker = make((0.0,), n_rings=24, max_condition=50.0)
    seen, sky = maker.pointing.hits() > 0, noise((3, 768), 3)
    assert 0 < maker.mask.sum() < seen.sum() < 768
    out = maker.bin(maker.observe(sky))
    np.testing.assert_allclose(out[:, maker.mask], sky[:, maker.mask], atol=1e-11)
    assert not out[:, ~maker.mask].any()
    assert np.isinf(maker.condition[~seen]).all()
    # A pair that measures Q alone never tells U.
    same = Pointing(1, np.zeros((1, 8), np.int32), np.zeros((1, 8), np.float32))
    assert not MapMaker(same, (0.0, 90.0)).mask.any()
    assert MapMaker(same, (0.0, 90.0, 45.0)).mask[0]


def test_hits_count_all_detectors():
    maker = make((0.0, 90.0))
    assert maker.hits.sum() == 2 * 128 * 128
    assert np.array_equal(maker.hits, maker.normal[:, 0, 0].round().astype(int))


def test_binning_is_linear_and_reads_single_precision():
    maker, a, b = make(), noise((4, 128, 128), 4), noise((4, 128, 128), 5)
    np.testing.assert_allclose(maker.bin(2 * a - b), 2 * maker.bin(a) - maker.bin(b), atol=1e-13)
    np.testing.assert_allclose(maker.bin(a.astype(np.float32)), maker.bin(a), atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"detectors": ()}, "detectors: expected one or more finite offsets"),
        ({"detectors": (0.0, float("inf"))}, "detectors: expected one or more finite offsets"),
        ({"max_condition": 0.5}, "max_condition: expected 1 or more; got 0.5"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make(**wrong)


def test_wrong_shapes():
    maker = make()
    with pytest.raises(ShapeError, match=r"sky: expected real numbers of shape \(3, 768\)"):
        maker.observe(np.zeros(768))
    with pytest.raises(ShapeError, match=r"tod: expected .*\(4, 128, 128\); got .*\(3, 128"):
        maker.bin(np.zeros((3, 128, 128)))
    with pytest.raises(ShapeError, match="complex128"):
        maker.bin(np.zeros((4, 128, 128), dtype=complex))


def toast_maps(toast, scan, detectors, tod):
    """Hits and binned maps that toast makes of the same boresight: it finds pixels and weights."""
    from astropy import units as u
    from astropy.table import QTable
    from scipy.spatial.transform import Rotation
    from toast import ops
    from toast.instrument import Focalplane, SpaceSite, Telescope
    from toast.noise import Noise
    from toast.observation import default_values as names

    v = scan.directions()
    along = np.roll(v, -1, axis=1) - np.roll(v, 1, axis=1)
    v, along = v.reshape(-1, 3), along.reshape(-1, 3)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    # toast's detectors look along z and measure polarisation along x.
    frames = Rotation.from_matrix(np.stack([along, np.cross(v, along), v], axis=-1)).as_quat()
    labels, offsets = [f"d{o}" for o in detectors], np.deg2rad(detectors)
    turns = np.stack([0 * offsets, 0 * offsets, np.sin(offsets / 2), np.cos(offsets / 2)], axis=1)
    table = QTable([labels, turns, offsets * u.rad], names=["name", "quat", "gamma"])
    plane = Focalplane(detector_data=table, sample_rate=1.0 * u.Hz)
    data = toast.Data(comm=toast.Comm())
    telescope = Telescope("satellite", focalplane=plane, site=SpaceSite("space"))
    ob = toast.Observation(data.comm, telescope, n_samples=len(v))
    for name, values in (
        (names.times, np.arange(len(v), dtype=float)), (names.boresight_radec, frames),
        (names.shared_flags, np.zeros(len(v), dtype=np.uint8)),
    ):  # fmt: skip
        ob.shared.create_column(name, values.shape, values.dtype)
        ob.shared[name].set(values)
    ob.detdata.create(names.det_data, units=u.K)
    ob.detdata.create(names.det_flags, dtype=np.uint8)
    for label, row in zip(labels, tod.reshape(len(labels), -1), strict=True):
        ob.detdata[names.det_data][label] = row
    white = np.ones(3) * u.K**2 * u.s
    frequencies = np.array([1e-5, 1e-3, 0.5]) * u.Hz
    ob["noise_model"] = Noise(
        detectors=labels, freqs=dict.fromkeys(labels, frequencies),
        psds=dict.fromkeys(labels, white),
    )  # fmt: skip
    data.obs.append(ob)
    look = ops.PointingDetectorSimple(boresight=names.boresight_radec)
    pixels = ops.PixelsHealpix(nside=NSIDE, nside_submap=1, nest=True, detector_pointing=look)
    common = {
        "pixel_dist": "pixel_dist", "pixel_pointing": pixels, "noise_model": "noise_model",
        "stokes_weights": ops.StokesWeights(mode="IQU", detector_pointing=look),
        "covariance": "covariance",
    }  # fmt: skip
    ops.BuildPixelDistribution(pixel_dist="pixel_dist", pixel_pointing=pixels).apply(data)
    ops.CovarianceAndHits(hits="hits", rcond_threshold=1e-6, **common).apply(data)
    ops.BinMap(det_data=names.det_data, binned="binned", **common).apply(data)
    out, hits = np.zeros((3, 12 * NSIDE**2)), np.zeros(12 * NSIDE**2)
    width = data["binned"].distribution.n_pix_submap
    for here, there in enumerate(data["binned"].distribution.local_submaps):
        part = slice(there * width, (there + 1) * width)
        out[:, part] = np.asarray(data["binned"].data[here]).T
        hits[part] = np.asarray(data["hits"].data[here])[:, 0]
    return hits, out


@pytest.mark.filterwarnings("default")  # those of toast and astropy are not ours
@pytest.mark.parametrize("strategy", ["planck", "litebird"])
def test_toast_makes_the_same_maps(strategy):
    toast = pytest.importorskip("toast", reason="toast is not installed")
    scan, detectors = Scan(strategy, n_rings=64, samples=128), (0.0, 90.0, 45.0, 135.0)
    maker, tod = MapMaker(scan.pointing(NSIDE), detectors), noise((4, 64, 128), 6)
    hits, maps = toast_maps(toast, scan, detectors, tod)
    assert np.array_equal(hits, maker.hits)
    # psi is kept in float32. The other sign of U would be off by the size of the map, about 1.
    np.testing.assert_allclose(maker.bin(tod), maps, atol=1e-6)


def test_waves_are_binned_like_their_samples():
    maker = MapMaker(Scan(n_rings=64, samples=128).pointing(nside=4))
    rng = np.random.default_rng(0)
    amplitudes, waves = rng.standard_normal((4, 64, 3)), rng.standard_normal((3, 128))
    expected = maker.bin(amplitudes @ waves)
    # Float32 samples: 1e-7 of each, and a pixel's I, Q and U are means of many.
    assert np.allclose(maker.bin_waves(amplitudes, waves), expected, atol=2e-6)
