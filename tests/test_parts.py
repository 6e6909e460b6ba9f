"""Part files: equal bytes for equal content, readable by xarray, and every damage is noticed."""

import dataclasses
import time

import numpy as np
import pytest
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sbitools import FieldSpec, Parameter, ParameterSpace, priors
from sbitools.errors import StoreError
from sbitools.store.layout import Layout
from sbitools.store.parts import (
    DONE,
    FAILED,
    REJECTED,
    Part,
    PartData,
    row_digests,
    write_part,
)

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
LAYOUT = Layout(SPACE, FieldSpec("delta", ("x", "y"), (4, 3), unit="K"))


def data(layout=LAYOUT, n=5, start=10, seed=0):
    rng = np.random.default_rng(seed)
    fields = {
        k: rng.normal(0, 50, (n, *s.shape)).astype(s.dtype) for k, s in layout.fields.items()
    }
    theta = rng.random((n, len(layout.parameters)))
    state = np.full(n, DONE, np.uint8)
    return PartData(start, theta, np.arange(n), state, [""] * n, **fields)


def read(part, what="x"):
    spec = part.layout.fields[what]
    raw = part.path.read_bytes()[part.offset(what) :][: (part.stop - part.start) * spec.nbytes]
    return np.frombuffer(raw, spec.dtype).reshape(-1, *spec.shape)


def test_equal_content_gives_equal_files(tmp_path):
    (tmp_path / "b").mkdir()
    one = write_part(tmp_path, LAYOUT, data())
    time.sleep(1.1)  # HDF5 can keep times, in seconds
    two = write_part(tmp_path / "b", LAYOUT, data())
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()
    assert write_part(tmp_path, LAYOUT, data(seed=1)).name != one.name
    assert write_part(tmp_path, LAYOUT, data()) == one
    assert not list(tmp_path.glob(".*"))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.lists(st.integers(1, 4), max_size=3),
    dtype=st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "complex64"]),
    n=st.integers(1, 5),
    parameters=st.integers(0, 3),
    source=st.booleans(),
)
def test_round_trip_of_any_field(tmp_path, shape, dtype, n, parameters, source):
    space = ParameterSpace(
        [Parameter(f"p{i}", priors.Uniform(0, 1)) for i in range(parameters)]
    )  # fmt: skip
    spec = FieldSpec("f", tuple("xyz"[: len(shape)]), tuple(shape), dtype)
    layout = Layout(space, spec, FieldSpec("ic", ("x",), (7,)) if source else None)
    content = data(layout, n)
    part = Part(write_part(tmp_path, layout, content), layout)
    part.verify()
    meta = part.meta()
    assert (meta.start, meta.stop) == (10, 10 + n)
    assert np.array_equal(meta.theta, content.theta)
    assert np.array_equal(meta.digests, row_digests(content))
    for what, values in content.arrays.items():
        assert read(part, what).tobytes() == values.tobytes()


def test_failures_keep_their_message_and_no_values(tmp_path):
    content = data()
    content.state[1:3] = FAILED, REJECTED
    content.errors[1:3] = "Traceback: 5 < 4 in µ-space", "x" * 10_000
    meta = (part := Part(write_part(tmp_path, LAYOUT, content), LAYOUT)).meta()
    assert meta.errors[1] == "Traceback: 5 < 4 in µ-space"
    assert meta.errors[2] == "x" * 4000  # the end is kept
    assert np.isnan(read(part)[1:3]).all()
    assert np.isfinite(read(part)[[0, 3, 4]]).all()


def test_xarray_opens_a_part(tmp_path):
    layout = dataclasses.replace(LAYOUT, source=FieldSpec("ic", ("x", "k"), (8, 2), "float64"))
    content = data(layout)
    path = write_part(tmp_path, layout, content)
    with xarray.open_dataset(path, engine="h5netcdf") as found:
        assert found.delta.dims == ("simulation", "x", "y")
        assert found.ic.dims == ("simulation", "source_x", "k")  # x has another length there
        assert found.delta.attrs["units"] == "K"
        assert np.array_equal(found.delta, content.x)
        assert np.array_equal(found.simulation, np.arange(10, 15))


def test_names_that_collide_are_renamed(tmp_path):
    layout = Layout(SPACE, FieldSpec("theta", ("theta_field", "state"), (2, 3)))
    with xarray.open_dataset(write_part(tmp_path, layout, data(layout)), engine="h5netcdf") as ds:
        assert ds.theta_field.dims == ("simulation", "theta_field_axis", "state_axis")
        assert ds.theta.shape == (5, 1)


def test_truncation_is_noticed(tmp_path):
    path = write_part(tmp_path, LAYOUT, data())
    path.write_bytes(path.read_bytes()[:-100])
    part = Part(path, LAYOUT)
    with pytest.raises(StoreError, match=r"delete .* run the campaign again"):
        part.verify()
    with pytest.raises(StoreError, match="cannot read"):
        part.meta()


def test_every_flipped_bit_is_noticed(tmp_path):
    path = write_part(tmp_path, LAYOUT, data())
    raw = path.read_bytes()
    for at in range(0, len(raw), 97):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
        with pytest.raises(StoreError, match="sha256"):
            Part(path, LAYOUT).verify()


def test_flipped_small_columns_are_noticed_without_hashing_the_file(tmp_path):
    content = data()
    path = write_part(tmp_path, LAYOUT, content)
    raw = path.read_bytes()
    at = raw.index(content.theta.tobytes())
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    with pytest.raises(StoreError, match="do not match their sha256"):
        Part(path, LAYOUT).meta()


def test_parts_of_other_specifications_are_foreign(tmp_path):
    path = write_part(tmp_path, LAYOUT, data())
    other = ParameterSpace([Parameter("a", priors.Uniform(0, 2))])
    with pytest.raises(StoreError, match="another parameters"):
        Part(path, dataclasses.replace(LAYOUT, parameters=other)).meta()
    with pytest.raises(StoreError, match="another output"):
        Part(path, dataclasses.replace(LAYOUT, output=FieldSpec("d", ("x",), (12,)))).meta()
    with pytest.raises(StoreError, match="another source"):
        Part(path, dataclasses.replace(LAYOUT, source=FieldSpec("d", ("x",), (12,)))).meta()


@pytest.mark.parametrize("name", ["notes.txt", "part-1-2-3.h5", "part-00000000-00000001-zz.h5"])
def test_foreign_names(tmp_path, name):
    with pytest.raises(StoreError, match="move"):
        Part(tmp_path / name, LAYOUT)
