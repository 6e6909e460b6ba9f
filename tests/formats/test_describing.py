"""What is said of a set is what numpy says of all of it at once."""

import tracemalloc

import numpy as np
import pytest

from sbitools.errors import StoreError
from sbitools.formats import describe, fingerprint, open_fields

RNG = np.random.default_rng(0)


def seen(path, values):
    np.save(path / "x.npy", values)
    with open_fields(path / "x.npy") as fields:
        return describe(fields)


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i4", "u1", "c8"])
@pytest.mark.parametrize("block", [1 << 25, 4096, 1])
def test_numbers(tmp_path, monkeypatch, dtype, block):
    monkeypatch.setattr("sbitools.formats.describing._BLOCK", block)
    x = RNG.integers(0, 200, (50, 3, 5)).astype(dtype)
    x[:, 0, 1] = 7
    x[10] = x[3]
    s = seen(tmp_path, x)
    assert (s.n, s.shape) == (50, x.shape)
    assert s.minimum == np.abs(x).min()
    assert s.maximum == np.abs(x).max()
    assert np.isclose(s.mean, np.abs(x).mean(dtype="f8"))
    assert np.isclose(s.std, np.abs(x).astype("f8").std())
    assert np.isclose(s.zeros, (x == 0).mean())
    assert (s.failed, s.first_failed) == (0, None)
    assert (s.duplicates, s.first_duplicate) == (1, (10, 3))
    assert np.isclose(s.constant, 1 / 15)


def test_faults(tmp_path):
    x = RNG.normal(size=(20, 4))
    x[4, 0], x[7, 1], x[9, 2], x[9, 3] = np.nan, np.inf, -1.6375e30, np.nan
    s = seen(tmp_path, x)
    assert (s.failed, s.first_failed) == (3, 4)
    good = x[np.isfinite(x) & (np.abs(x) < 1e30)]
    assert np.isclose(s.mean, good.mean())
    assert np.isclose(s.std, good.std())
    s = seen(tmp_path, np.full((5, 3), np.nan))
    assert s.failed == 5
    assert np.isnan([s.minimum, s.maximum, s.mean, s.std]).all()
    assert s.constant == 0
    large = seen(tmp_path, 1e300 * np.ones((4, 3)))
    assert large.mean == pytest.approx(1e300)


def test_nothing_to_describe(tmp_path):
    for values in (np.zeros((0, 3)), np.float64(1.0)):
        with pytest.raises(StoreError, match="one row per simulation"):
            seen(tmp_path, values)


AXES = {
    (64, 64): ["open"] * 2, (2, 64, 64): ["channel", "open", "open"], (40,): ["open"],
    (3, 1024): ["channel", "open"], (8, 9, 9): ["channel", "open", "open"],
    (9, 64, 64): ["open"] * 3, (4, 4): ["open"] * 2, (32, 32, 32): ["open"] * 3,
    (12 * 16**2,): ["healpix"], (2, 192): ["channel", "healpix"], (48,): ["open"], (): [],
    (300,): ["open"], (5, 32, 32, 32): ["channel", "open", "open", "open"],
}  # fmt: skip


@pytest.mark.parametrize("shape", AXES)
def test_guesses_of_axes(tmp_path, shape):
    axes = seen(tmp_path, np.zeros((2, *shape), "f4")).axes
    assert [a.kind for a in axes] == AXES[shape]
    assert tuple(a.length for a in axes) == shape
    assert len({a.name for a in axes}) == len(axes)
    assert all(a.reason and not a.stated for a in axes)


def test_memory_of_a_description_does_not_grow(tmp_path, monkeypatch):
    monkeypatch.setattr("sbitools.formats.describing._BLOCK", 1 << 18)
    seen(tmp_path, np.zeros((4, 32, 32), "f4"))
    peaks = []
    for n in (256, 2048):
        np.save(tmp_path / "x.npy", RNG.normal(size=(n, 32, 32)).astype("f4"))
        tracemalloc.start()
        with open_fields(tmp_path / "x.npy") as fields:
            describe(fields)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 1000 * 2048  # a digest of each simulation is kept


# Fingerprints


def test_a_fingerprint_is_of_the_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(12):
            np.save(tmp_path / name / f"run_{i}.npy", np.full(5, i))
    first = fingerprint(tmp_path / "a")
    assert fingerprint(tmp_path / "b") == first
    assert fingerprint(tmp_path / "b" / "run_{index}.npy") == first
    np.save(tmp_path / "b" / "run_11.npy", np.full(5, 10))
    assert fingerprint(tmp_path / "b") != first
    (tmp_path / "b" / "run_11.npy").unlink()
    assert fingerprint(tmp_path / "b") != first


@pytest.mark.parametrize("size", [0, 1, 65_536, 4_000_000, 30_000_000])
def test_a_changed_file_is_noticed(tmp_path, size):
    data = bytearray(RNG.bytes(size))
    (tmp_path / "x").write_bytes(data)
    prints = {fingerprint(tmp_path / "x")}
    assert prints == {fingerprint(tmp_path / "x")}
    (tmp_path / "x").write_bytes(data + b"0")
    prints.add(fingerprint(tmp_path / "x"))
    for at in (0, size - 1):
        if size:
            data[at] ^= 1
            (tmp_path / "x").write_bytes(data)
            prints.add(fingerprint(tmp_path / "x"))
    assert len(prints) == (2 if size == 0 else 4 if size > 1 else 3)


def test_little_of_a_huge_file_is_read(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(10**12)
    assert fingerprint(tmp_path / "x") == fingerprint(tmp_path / "x")
