"""HEALPix maps in FITS files: the order of pixels is stated, and is that of the specification."""

import os

import healpy
import numpy as np
import pytest
from astropy.io import fits

from sbitools import FieldSpec
from sbitools.errors import ObservationError, StoreError
from sbitools.formats import describe, open_array, open_fields
from sbitools.observation.observed import check_field, read_field

NSIDE = 4
MAPS = np.random.default_rng(0).normal(size=(3, 12 * NSIDE**2)).astype("f4")


def write(path, maps=MAPS, **options):
    options = {"nest": False, "dtype": np.float32, "column_units": "mK"} | options
    healpy.write_map(path, list(maps) if maps.ndim == 2 else maps, **options)
    return path


@pytest.mark.parametrize("nest", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("fits_IDL", [True, False])  # 1024 pixels per row, or one
def test_maps_are_rows(tmp_path, nest, dtype, fits_IDL):
    maps = (100 * np.tile(MAPS, (1, 64))).astype(dtype)
    write(tmp_path / "m.fits", maps, nest=nest, dtype=dtype, fits_IDL=fits_IDL)
    with open_fields(tmp_path / "m.fits") as fields:
        assert fields.shape == maps.shape
        assert fields.dtype == dtype
        assert fields.unit == "mK"
        assert fields.kinds == ("healpix",)
        assert fields.dims == (f"pixel_{'nested' if nest else 'ring'}",)
        assert np.array_equal(fields[:], maps)
        assert np.array_equal(fields[[2]], maps[2:])
        assert describe(fields).axes[0].stated


def test_unseen_stays(tmp_path):
    maps = MAPS.copy()
    maps[1, 5] = healpy.UNSEEN
    with open_fields(write(tmp_path / "m.fits", maps)) as fields:
        assert np.array_equal(fields[:], maps)
        seen = describe(fields)
    assert (seen.failed, seen.first_failed) == (1, 1)
    spec = FieldSpec("m", ("map", "pixel_ring"), MAPS.shape, unit="mK")
    read = _read(tmp_path / "m.fits", spec)
    with pytest.raises(ObservationError, match="UNSEEN"):
        check_field(*read)


def _read(file, spec):
    array, unit = read_field(file, None, spec)
    return array, spec, unit


@pytest.mark.parametrize(
    ("cards", "fix"),
    [({"ORDERING": None}, "no ORDERING.*setval"), ({"ORDERING": "SPIRAL"}, "SPIRAL"),
     ({"NSIDE": None}, "NSIDE = None"), ({"NSIDE": 3}, "NSIDE = 3"), ({"NSIDE": 8}, "192"),
     ({"INDXSCHM": "EXPLICIT"}, "partial=False"), ({"TUNIT2": "K"}, "one unit.*dataset=")],
)  # fmt: skip
def test_maps_that_do_not_say_what_they_are(tmp_path, cards, fix):
    file = write(tmp_path / "m.fits")
    for name, value in cards.items():
        if value is None:
            fits.delval(file, name, ext=1)
        else:
            fits.setval(file, name, value=value, ext=1)
    with pytest.raises(StoreError, match=fix), open_fields(file):
        pass


def test_a_part_of_the_sky_is_refused(tmp_path):
    maps = MAPS[0].copy()
    maps[:100] = healpy.UNSEEN
    with (
        pytest.raises(StoreError, match="full sky"),
        open_fields(write(tmp_path / "m.fits", maps, partial=True)),
    ):
        pass


def test_one_map_of_several(tmp_path):
    write(tmp_path / "m.fits", column_names=["I", "Q", "U"], column_units=["mK", "K", "K"])
    with open_array(tmp_path / "m.fits", "Q") as field:
        assert np.array_equal(field.whole(), MAPS[1])
        assert field.unit == "K"


@pytest.mark.parametrize("maps", [1, 3])
def test_one_file_per_simulation(tmp_path, maps):
    for i in range(4):
        write(tmp_path / f"sky_{i}.fits", MAPS[:maps] + i)
    with open_fields(tmp_path) as fields:
        one = MAPS[0] if maps == 1 else MAPS
        assert np.array_equal(fields[:], np.stack([one + i for i in range(4)]).astype("f4"))
        axes = describe(fields).axes
        assert [a.name for a in axes] == ["map"] * (maps > 1) + ["pixel_ring"]
        assert axes[-1].kind == "healpix"
    write(tmp_path / "sky_4.fits", MAPS[:maps], nest=True)
    with pytest.raises(StoreError, match=r"order of pixels|axes"), open_fields(tmp_path) as fields:
        fields[:]


SPECS = {"pixel": "ring", "healpix": "ring", "pixel_ring": "ring", "pixel_nested": "nested"}


@pytest.mark.parametrize("nest", [True, False])
@pytest.mark.parametrize("axis", SPECS)
def test_an_observation_in_another_order_is_refused(tmp_path, axis, nest):
    one = FieldSpec("m", (axis,), MAPS.shape[1:], unit="mK")
    all_maps = FieldSpec("m", ("stokes", axis), MAPS.shape, unit="mK")
    fits_it = (SPECS[axis] == "nested") == nest
    write(tmp_path / "one.fits", MAPS[0], nest=nest)
    write(tmp_path / "all.fits", MAPS, nest=nest)
    for name, spec, maps in (("one", one, MAPS[0]), ("all", all_maps, MAPS)):
        if fits_it:
            field = check_field(*_read(tmp_path / f"{name}.fits", spec))
            assert np.array_equal(field[0], maps)
        else:
            with pytest.raises(ObservationError, match="order of pixels"):
                _read(tmp_path / f"{name}.fits", spec)
    with pytest.raises(ObservationError, match="unit"):
        _read(tmp_path / "one.fits", FieldSpec("m", (axis,), MAPS.shape[1:], unit="K"))


WMAP = os.environ.get("SBITOOLS_WMAP")


@pytest.mark.skipif(not WMAP, reason="SBITOOLS_WMAP names no WMAP map (I, Q, U in mK, ring)")
def test_maps_of_wmap():
    maps = healpy.read_map(WMAP, field=(0, 1, 2), dtype=np.float32)
    with open_fields(WMAP) as fields:
        assert fields.dims == ("pixel_ring",)
        assert np.array_equal(fields[:], maps)
