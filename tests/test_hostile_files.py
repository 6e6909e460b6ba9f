"""Files that hang, nest without end or claim any size are refused where a user's file goes in.

A group that holds itself, once or many times, is walked once: a field beside it is read, and to
expect a refusal would be wrong.
"""

import json
import os
import signal
import time

import h5py
import numpy as np
import pytest
import torch

import sbitools
from sbitools import (
    FieldSpec,
    Parameter,
    ParameterSpace,
    Posterior,
    SimulationStore,
    priors,
    seeds,
)
from sbitools.calibration import CalibrationResult
from sbitools.chain.records import read_json, read_record
from sbitools.config import load_config
from sbitools.disk.files import parse_json, read_file
from sbitools.errors import CheckpointError, ConfigError, SbitoolsError, StoreError
from sbitools.formats.opening import open_array
from sbitools.formats.theta import read_theta
from sbitools.observation import Observation
from sbitools.observation.observed import read_field
from sbitools.report.artifacts import load_statistics
from sbitools.store.imports import import_files
from sbitools.store.layout import Layout
from tests.test_checkpoint import signed

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
FIELD = FieldSpec("d", ("i",), (3,))
N = 6
THETA = SPACE.design(N, 1)
X = np.random.default_rng(0).normal(size=(N, 3)).astype("f4")


@pytest.fixture(autouse=True)
def in_time():
    """Waiting for ever is a failure, not a hanging test."""

    def late(*_):
        raise TimeoutError("it waits for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


READERS = {
    "open_array .npy": lambda p: open_array(p.with_suffix(".npy")).__enter__(),
    "open_array .npz": lambda p: open_array(p.with_suffix(".npz")).__enter__(),
    "open_array .h5": lambda p: open_array(p.with_suffix(".h5")).__enter__(),
    "read_field": lambda p: read_field(p.with_suffix(".h5")),
    "read_theta .csv": lambda p: read_theta(p.with_suffix(".csv"), SPACE),
    "read_theta .h5": lambda p: read_theta(p.with_suffix(".h5"), SPACE),
    "read_theta .npz": lambda p: read_theta(p.with_suffix(".npz"), SPACE),
    "load_config": lambda p: load_config(p.with_suffix(".toml")),
    "load_statistics": load_statistics,
    "read_record": read_record,
    "read_json": read_json,
    "from_json": CalibrationResult.from_json,
    "mask": lambda p: Observation.from_dict([{"kind": "mask", "file": str(p)}]),
    "spectral noise": lambda p: Observation.from_dict([{"kind": "spectral_noise",
                                                        "file": str(p)}]),
    "store": SimulationStore.open,
    "checkpoint": Posterior.load,
}  # fmt: skip
SUFFIXES = {"open_array .npy": ".npy", "open_array .npz": ".npz", "open_array .h5": ".h5",
            "read_field": ".h5", "read_theta .csv": ".csv", "read_theta .h5": ".h5",
            "read_theta .npz": ".npz", "load_config": ".toml"}  # fmt: skip
THINGS = {
    "fifo": os.mkfifo,
    "device": lambda p: p.symlink_to("/dev/zero"),
    "folder": os.mkdir,
    "endless nesting": lambda p: p.write_bytes(b"[" * 100_000 + b"]" * 100_000),
    "not UTF-8": lambda p: p.write_bytes(b"\xff\xfe\xff"),
}


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses(tmp_path, reader, thing):
    path = tmp_path / "file"
    THINGS[thing](path.with_suffix(SUFFIXES.get(reader, "")))
    with pytest.raises(SbitoolsError, match="fix:"):
        READERS[reader](path)


@pytest.mark.parametrize("name", ["store.json", "design", "part"])
def test_a_fifo_in_a_store(tmp_path, name):
    store = SimulationStore.from_arrays(tmp_path / "s", THETA, X, SPACE, FIELD)
    files = {"store.json": store.path / "store.json", "design": next(store.path.glob("design-*")),
             "part": next((store.path / "parts").iterdir())}  # fmt: skip
    files[name].unlink()
    os.mkfifo(files[name])
    with pytest.raises(StoreError, match="fix:"):
        SimulationStore.open(store.path)


# JSON


@pytest.mark.parametrize(
    "text", [b"[" * 10**6, b'{"a":' * 10**5 + b"1" + b"}" * 10**5, b"[" * 101 + b"]" * 101,
             b"\xff", b"", b"9" * 10_000]
)  # fmt: skip
def test_json_that_is_too_deep_or_none(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_ordinary_json_is_read():
    values = {"a": [[1, 2.5, None], {"b": "ü"}], "c": True}
    assert parse_json(json.dumps(values)) == values
    assert parse_json(b"\xef\xbb\xbf[1]") == [1]
    assert parse_json(b"[" * 100 + b"]" * 100)


def test_large_files(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 100)
    assert read_file(tmp_path / "f") == b"x" * 100
    with pytest.raises(OSError, match="100 bytes, more than 99"):
        read_file(tmp_path / "f", most=99)


# HDF5


def test_rings_of_hard_links_are_walked_once(tmp_path):
    with h5py.File(tmp_path / "ring.h5", "w") as file:
        file["x"] = X
        groups = [file.create_group(f"g{i}") for i in range(8)]
        for group in (file, *groups):
            for i, other in enumerate(groups):
                group[f"again{i}"] = other
            group["root"] = file["/"]
    began = time.monotonic()
    with open_array(tmp_path / "ring.h5") as array:
        assert np.array_equal(array[:], X)
    assert time.monotonic() - began < 20


def test_links_out_of_a_file_are_refused(tmp_path):
    np.save(tmp_path / "other.npy", X)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = X
    outside = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    for name, link in (("soft", h5py.SoftLink("/nowhere")), ("external", outside)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_group("deep")["x"] = link
        with pytest.raises(StoreError, match="copy the data in"):
            read_field(tmp_path / f"{name}.h5")


def test_a_small_file_that_claims_a_large_array(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", shape=(10**12, 3), dtype="f8", chunks=(1, 3))
    assert (tmp_path / "x.h5").stat().st_size < 10_000
    with pytest.raises(StoreError, match="more than the memory"):
        read_theta(tmp_path / "x.h5", ParameterSpace([SPACE[0]]), "x")
    with pytest.raises(SbitoolsError, match="fix:"):
        import_files(tmp_path / "s", tmp_path / "x.h5", tmp_path / "x.h5", SPACE, FIELD)


# Names


@pytest.mark.parametrize("name", ["a/b", "..", ".", "...", "", "/", "../../etc/x"])
def test_any_name_of_a_field_can_be_stored(tmp_path, name):
    """Or is refused, typed, before anything is written."""
    try:
        spec = FieldSpec(name, (name,), (3,))
        store = SimulationStore.from_arrays(tmp_path / "s", THETA, X, SPACE, spec)
    except SbitoolsError:
        assert not list(tmp_path.iterdir())
        return
    assert np.array_equal(SimulationStore.open(store.path).read(range(N)), X)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    variables = Layout(SPACE, spec).variables
    assert "/" not in variables["x"]


# Checkpoints of an enemy: all hashes are right


@pytest.fixture(scope="module")
def posterior(tmp_path_factory):
    folder = tmp_path_factory.mktemp("posterior")
    theta = SPACE.design(200, 1)
    x = theta.float() * torch.arange(1, 4) + 0.1 * seeds.normal(range(200), (3,))
    store = SimulationStore.from_arrays(folder / "s", theta, x, SPACE, FIELD, design="random")
    return sbitools.train(
        store, run_dir=folder / "run", flow="zuko_nsf", flow_transforms=1, flow_hidden=8,
        features=4, epochs=1, batch_size=100,
    ).save(folder / "checkpoint")  # fmt: skip


CHANGES = {
    "hidden": ("options.flow_hidden", 10**9), "wide": ("options.flow_hidden", 60_000),
    "transforms": ("options.flow_transforms", 10**9), "deep": ("options.flow_transforms", 10**5),
    "allowed": ("options.flow_transforms", 256), "features": ("options.features", 10**9),
    "many features": ("options.features", 60_000), "flow": ("options.flow", "../../x"),
    "ensemble": ("options.ensemble", 10**9), "method": ("options.method", "os.system"),
    "methods": ("options.method", ["npe"]), "shape": ("output.shape", [10**9]),
    "four axes": ("output", {"name": "x", "dims": list("abcd"), "shape": [10**5] * 4,
                             "dtype": "float32", "unit": ""}),
    "dtype": ("output.dtype", "__class__"),
    "mask": ("observation", [{"kind": "mask", "file": "/dev/zero"}]),
    "bits": ("observation", [{"kind": "mask", "shape": [10**15], "bits": "", "fill": 0.0}]),
    "coarsen": ("observation", [{"kind": "coarsen", "factor": 10**9}]),
    "prior": ("parameters.0.prior", {"kind": "os"}), "no parameters": ("parameters", []),
    "info": ("options", "text"), "list": ("output", []),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_hostile_checkpoints(posterior, tmp_path, name):
    manifest = json.loads((posterior / "manifest.json").read_text())
    where, value = CHANGES[name]
    *parents, last = where.split(".")
    table = manifest["config"]
    for key in parents:
        table = table[int(key)] if isinstance(table, list) else table[key]
    table[last] = value
    weights = (posterior / "weights.safetensors").read_bytes()
    signed(tmp_path / "c", manifest["config"], weights, kind="posterior")
    began = time.monotonic()
    with pytest.raises(CheckpointError, match="fix:"):
        Posterior.load(tmp_path / "c")
    assert time.monotonic() - began < 40


def test_the_checkpoint_itself_loads(posterior, tmp_path):
    manifest = json.loads((posterior / "manifest.json").read_text())
    weights = (posterior / "weights.safetensors").read_bytes()
    assert Posterior.load(signed(tmp_path / "c", manifest["config"], weights, kind="posterior"))


def test_options_have_bounds(tmp_path):
    store = SimulationStore.from_arrays(tmp_path / "s", THETA, X, SPACE, FIELD)
    for option in ("flow_transforms", "flow_hidden", "features", "channels"):
        with pytest.raises(ConfigError, match=f"'{option}'"):
            sbitools.train(store, run_dir=tmp_path / "r", flow="zuko_nsf", **{option: 10**9})
