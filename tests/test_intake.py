"""Whatever form a result or a table has, the store holds the same, or says what is wrong."""

import h5py
import numpy as np
import pytest
import torch

from sbitools import (
    FieldSpec,
    FunctionSimulator,
    Parameter,
    ParameterSpace,
    SimulationStore,
    priors,
    simulate,
)
from sbitools.campaign.runner import Payload, Runner, _Hung
from sbitools.campaign.worker import as_part
from sbitools.errors import CampaignError, ParameterError, ShapeError, StoreError
from sbitools.gate.arrays import as_native
from sbitools.store.imports import add_results, open_array, read_theta
from sbitools.store.intake import checked_rows

SPACE = ParameterSpace(
    [Parameter("a", priors.Uniform(0, 1)), Parameter("b", priors.Uniform(0, 1))]
)
FIELD = FieldSpec("d", ("i",), (3,))
N = 8
THETA = SPACE.design(N, 1).numpy()
X = np.random.default_rng(0).normal(size=(N, 3)).astype("f4")


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "columns first": np.asfortranarray,
    "read-only": frozen,
    "broadcast": lambda a: np.repeat(a, 2, 0)[::2],
    "tensor": torch.from_numpy,
    "tensor with gradient": lambda a: torch.from_numpy(a.copy()).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_array(tmp_path, form):
    change = FORMS[form]
    store = SimulationStore.from_arrays(tmp_path / "s", change(THETA), change(X), SPACE, FIELD)
    assert np.array_equal(store.read(range(N)), X)
    assert np.array_equal(store.theta, THETA)
    native = as_native(change(X))
    assert native.dtype == np.float32
    assert native.dtype.isnative
    assert native.flags.writeable
    assert native.flags.c_contiguous


@pytest.mark.parametrize("nothing", [None, iter([X]), object()])
def test_what_is_no_array_is_named(nothing):
    """A simulator that forgets to return is told so, not that it gave a scalar."""
    with pytest.raises(ShapeError, match=f"x: expected an array .*got {type(nothing).__name__} "):
        as_native(nothing, "x")


@pytest.mark.parametrize("simulated", [np.float32, ">f4"])
def test_a_simulator_may_return_either_byte_order(tmp_path, simulated):
    simulator = FunctionSimulator(
        lambda theta, s: np.repeat(theta[:, :1].numpy(), 3, 1).astype(simulated), SPACE, FIELD
    )
    store = simulate(simulator, 4, tmp_path / "s", seed=1, workers=1, progress=False)
    assert torch.equal(store.read(range(4))[:, 0], store.theta[:, 0].float())


@pytest.mark.parametrize(
    ("theta", "error"),
    [
        (THETA.astype(str), ParameterError),
        (THETA.astype(complex), ParameterError),
        (THETA > 0, ParameterError),
        (THETA.astype(object), ParameterError),
        ([[0.1, 0.2], [0.3]], ShapeError),
        (0.5, ParameterError),
        (THETA[0], ParameterError),
    ],
)
def test_theta_that_is_no_table_of_numbers(tmp_path, theta, error):
    with pytest.raises(error, match="theta"):
        SimulationStore.from_arrays(tmp_path / "s", theta, X, SPACE, FIELD)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"x": [[1.0, 2.0], [3.0]] * 4}, ShapeError),
        ({"x": np.float32(1)}, StoreError),
        ({"groups": np.arange(N) / 2}, StoreError),
        ({"groups": ["a"] * N}, StoreError),
        ({"seeds": [[1], [1, 2]]}, ShapeError),
    ],
)
def test_what_is_no_array(tmp_path, change, error):
    with pytest.raises(error, match="fix:"):
        SimulationStore.from_arrays(
            tmp_path / "s",
            **{"theta": THETA, "x": X, "parameters": SPACE, "output": FIELD} | change,
        )
    assert not list(tmp_path.iterdir())


def test_a_failed_simulation_is_the_same_however_it_came(tmp_path):
    bad = X.copy()
    bad[3, 1:] = np.nan
    imported = SimulationStore.from_arrays(
        tmp_path / "s", THETA, bad, SPACE, FIELD, nonfinite="fail"
    )
    table = imported._table
    given = checked_rows(imported.layout, table, 0, bad, None, None, "fail")
    simulated = as_part(table, (0, N, 0, N), {"x": bad.copy()})
    assert given.errors == simulated.errors
    assert given.errors[3] == "2 of 3 values of x are NaN or infinite"
    campaign = SimulationStore.create(tmp_path / "t", SPACE, FIELD, THETA, imported.seeds)
    campaign._write(simulated)
    assert campaign.digest() == imported.digest()


class Bare:
    """A simulator with nothing but what it needs."""

    parameters, output = SPACE, FIELD

    def simulate(self, theta, seeds):
        return torch.ones(len(theta), 3)


def test_group_size_is_optional(tmp_path):
    store = simulate(Bare(), 3, tmp_path / "s", seed=1, workers=1, progress=False)
    assert store.group_size == 1
    for wrong in (0, -2, None, 1.5):
        simulator = Bare()
        simulator.group_size = wrong  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(CampaignError, match="group_size of the simulator"):
            simulate(simulator, 4, tmp_path / "t", seed=1, progress=False)
    assert not (tmp_path / "t").exists()


def test_a_worker_that_never_starts_is_a_campaign_error(tmp_path, monkeypatch):
    store = SimulationStore.create(tmp_path / "s", SPACE, FIELD, THETA, range(N))

    def hang(*args):
        raise _Hung

    monkeypatch.setattr("sbitools.campaign.runner._Process.set_up", hang)
    runner = Runner(Payload(b"", str(store.path), 1, None, []))
    with pytest.raises(CampaignError, match="no answer in 600 s"):
        runner.run(0, 2)
    assert runner._process is None


# Column names of tables


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), h5py.string_dtype("ascii", 4), "S1"])
def test_names_in_hdf5_choose_the_columns(tmp_path, dtype):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["theta"] = THETA[:, ::-1]
        file.create_dataset("names", data=np.array([b"b", b"a"]), dtype=dtype)
    assert np.array_equal(read_theta(tmp_path / "t.h5", SPACE), THETA)


@pytest.mark.parametrize("kind", ["numbers", "ragged", "missing", "pickle"])
def test_names_that_cannot_be_used(tmp_path, kind):
    path = tmp_path / ("t.npz" if kind == "pickle" else "t.h5")
    if kind == "pickle":
        np.savez(path, theta=THETA, names=np.array(["b", "a"], object))
    else:
        with h5py.File(path, "w") as file:
            file["theta"] = THETA[:, ::-1]
            if kind == "ragged":
                file.create_dataset("names", (2,), h5py.vlen_dtype(np.int32))
            else:
                file["names"] = np.arange(2) if kind == "numbers" else ["b", "c"]
    with pytest.raises((StoreError, ParameterError), match="fix:"):
        read_theta(path, SPACE)


def test_complex_and_scalar_tables(tmp_path):
    np.save(tmp_path / "t.npy", THETA.astype(complex))
    with pytest.raises(ParameterError, match="complex128"):
        read_theta(tmp_path / "t.npy", SPACE)
    np.save(tmp_path / "t.npy", 1.0)
    with pytest.raises(ParameterError, match=r"shape \(\)"):
        read_theta(tmp_path / "t.npy", SPACE)


# Damage


def test_a_flipped_bit_in_a_compressed_archive(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, theta=THETA)
    raw, refused = path.read_bytes(), 0
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x15]) + raw[at + 1 :])
        for read in (lambda: read_theta(path, SPACE), lambda: open_array(path).__enter__()):
            try:
                read()
            except (StoreError, ParameterError):
                refused += 1
    assert refused > len(raw)  # a few bytes are times and attributes, which nobody reads


def test_a_damaged_chunk_shows_when_its_slice_is_read(tmp_path):
    path = tmp_path / "000000.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X, chunks=(2, 3), compression="gzip")
        where = file["x"].id.get_chunk_info(2)
    raw = bytearray(path.read_bytes())
    for i in range(where.byte_offset, where.byte_offset + where.size):
        raw[i] ^= 0xFF
    path.write_bytes(raw)
    with open_array(path) as array:
        assert np.array_equal(array[:4], X[:4])
        with pytest.raises(StoreError, match="whole array file"):
            array[:]
    with h5py.File(path) as file, pytest.raises(StoreError, match="whole array file"):
        SimulationStore.from_arrays(tmp_path / "s", THETA, file["x"], SPACE, FIELD)
    store = SimulationStore.create(
        tmp_path / "t", SPACE, FieldSpec("d", ("n", "i"), (N, 3)), THETA, range(N)
    )
    (tmp_path / "out").mkdir()
    path.rename(tmp_path / "out" / path.name)
    with pytest.raises(StoreError, match="1 result files"):
        add_results(store, tmp_path / "out")
