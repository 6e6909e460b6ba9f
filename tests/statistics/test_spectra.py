"""Spectra of batches of maps, in the shape of a dictionary."""

import healpy
import numpy as np
import pytest
import torch

from sbitools.errors import ConfigError, ShapeError
from sbitools.statistics import SphericalSpectra, angular_power

NSIDE = 8
PIXELS = 12 * NSIDE**2


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def nested(maps):
    return maps[..., healpy.nest2ring(NSIDE, np.arange(PIXELS))]


def test_names_and_values_are_those_of_healpy():
    maps = noise(1, 2, 3, PIXELS)
    spectra = angular_power(maps, ordering="ring", lmax=20)
    assert list(spectra) == ["TT", "EE", "BB", "TE", "EB", "TB"]
    for i, fields in enumerate(maps):
        for name, wanted in zip(spectra, healpy.anafast(fields, lmax=20), strict=True):
            assert spectra[name].dtype == np.float64
            assert np.array_equal(spectra[name][i], wanted)


def test_parts_of_the_fields_have_the_same_spectra():
    maps = noise(2, 2, 3, PIXELS)
    whole = angular_power(maps, ordering="ring")
    temperature, polarisation = (
        angular_power(maps[:, part], ordering="ring") for part in (0, slice(1, None))
    )
    assert list(temperature) == ["TT"]
    assert list(polarisation) == ["EE", "BB", "EB"]
    assert np.array_equal(angular_power(maps[:, :1], ordering="ring")["TT"], temperature["TT"])
    for name, values in (temperature | polarisation).items():
        assert values.shape == (2, 3 * NSIDE)
        assert np.allclose(values, whole[name], rtol=0, atol=1e-13)


def test_nested_maps_and_single_precision():
    maps = noise(3, 2, 2, PIXELS)
    wanted, got = (
        angular_power(maps, ordering="ring"),
        angular_power(nested(maps), ordering="nested"),
    )
    single = angular_power(maps.astype(np.float32), ordering="ring")
    for name, values in wanted.items():
        assert np.array_equal(values, got[name])
        assert np.allclose(values, single[name], atol=1e-6)  # 24 bits of the pixels
        assert not np.allclose(
            values, angular_power(nested(maps), ordering="ring")[name], rtol=0.1
        )


def test_without_iterations_it_is_the_differentiable_one():
    q_u = noise(4, 2, 2, PIXELS)
    ours = SphericalSpectra(NSIDE, ordering="nested", dtype=torch.float64)
    got = ours.power_eb(torch.from_numpy(q_u)).numpy()
    wanted = angular_power(q_u, ordering="nested", iterations=0)
    assert np.allclose(got, np.stack([wanted[n] for n in ("EE", "BB", "EB")], 1), atol=1e-13)


def test_pure_e_and_pure_b():
    alm = np.zeros((2, healpy.Alm.getsize(12)), complex)
    alm[0, healpy.Alm.getidx(12, 5, 2)] = 1.0
    q, u = healpy.alm2map_spin(alm, NSIDE, 2, 12)
    delta = 2 / 11 * (np.arange(13) == 5)
    e, b = (angular_power(np.array([m]), ordering="ring", lmax=12) for m in ([q, u], [-u, q]))
    # Three iterations leave 1e-8 of the quadrature's error for l up to 2 nside.
    for found, other in ((e["EE"], e["BB"]), (b["BB"], b["EE"])):
        assert np.allclose(found[0], delta, atol=1e-6)
        assert np.allclose(other, 0, atol=1e-6)


def test_weights_multiply_and_hide():
    maps = noise(5, 2, 2, PIXELS)
    weights = np.clip(np.linspace(-0.5, 1, PIXELS), 0, 1)
    wanted = angular_power(maps * weights, ordering="nested")
    hidden = np.where(weights == 0, healpy.UNSEEN, maps)
    hidden[:, :, 3] = np.nan
    for name, values in angular_power(hidden, ordering="nested", weights=weights).items():
        assert np.allclose(values, wanted[name], rtol=1e-12, atol=0)
    assert np.isnan(hidden[0, 0, 3])  # what is given is not changed


@pytest.mark.parametrize("value", [np.nan, np.inf, healpy.UNSEEN])
def test_pixels_that_are_no_numbers(value):
    maps = noise(6, 2, PIXELS)
    maps[1, 7] = value
    with pytest.raises(ShapeError, match="1 of 1536"):
        angular_power(maps, ordering="ring")


@pytest.mark.parametrize(
    "shape", [(PIXELS,), (2, 700), (2, 4, PIXELS), (1, 1, 1, PIXELS), (0, 48)]
)
def test_wrong_shapes(shape):
    with pytest.raises(ShapeError, match="maps"):
        angular_power(np.zeros(shape), ordering="ring")


def test_wrong_dtypes_and_weights():
    with pytest.raises(ShapeError, match="maps"):
        angular_power(np.zeros((1, 48), complex), ordering="ring")
    for weights in (np.ones(47), -np.ones(48), np.zeros(48), np.full(48, np.nan)):
        with pytest.raises(ShapeError, match="weights"):
            angular_power(np.zeros((1, 48)), ordering="ring", weights=weights)


def test_wrong_options():
    for ordering in ("NESTED", "nest", "", None):
        with pytest.raises(ConfigError, match="'ring' or 'nested'"):
            angular_power(np.zeros((1, 48)), ordering=ordering)
    with pytest.raises(ConfigError, match="lmax"):
        angular_power(np.zeros((1, 48)), ordering="ring", lmax=1)
