"""SimulationStore: what goes in comes out, and nothing wrong gets in."""

import copy
import csv
import json

import h5py
import numpy as np
import pytest
import torch
import xarray

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import ParameterError, ShapeError, StoreError
from sbitools.seeds import simulation_seeds
from sbitools.store.manifest import _own_digest, lock
from sbitools.store.store import default_task_size

SPACE = ParameterSpace(
    [Parameter("a", priors.Uniform(0, 1)), Parameter("b", priors.Normal(0, 1), unit="km")]
)
FIELD = FieldSpec("delta", ("x", "y"), (4, 3), unit="mK")
N = 40
THETA = SPACE.design(N, 1)
X = np.random.default_rng(0).normal(size=(N, 4, 3)).astype("f4")
IC = FieldSpec("ic", ("k",), (2,), "float64")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s"
    return SimulationStore.from_arrays(path, THETA, X, SPACE, FIELD, unit="mK", group_size=2)


@pytest.fixture
def planned(tmp_path):
    return SimulationStore.create(
        tmp_path / "s", SPACE, FIELD, THETA, simulation_seeds(0, range(N)), task_size=8
    )


def names(store):
    return sorted(p.name for p in (store.path / "parts").iterdir())


def test_what_goes_in_comes_out(store):
    again = SimulationStore.open(store.path)
    assert len(again) == N
    assert again.parameters == SPACE
    assert again.output == FIELD
    assert again.source is None
    assert torch.equal(again.theta, THETA)
    assert again.theta.dtype == torch.float64
    assert torch.equal(again.seeds, torch.from_numpy(simulation_seeds(0, range(N))))
    assert np.array_equal(again.groups, np.arange(N) // 2)
    assert np.array_equal(again.done, np.arange(N))
    assert again.design == "imported"
    assert len(names(store)) == 20  # 40 / 16, rounded down to whole groups of 2
    assert again.counts() == {"pending": 0, "done": N, "failed": 0, "rejected": 0, "running": 0}
    assert again.failures() == []
    again.verify()


@pytest.mark.parametrize(
    "rows",
    [range(N), [], [5], [7, 3, 3, 39], np.random.default_rng(1).permutation(N), range(5, 9)],
)
def test_read_any_order(store, rows):
    x = store.read(list(rows))
    assert x.shape == (len(rows), 4, 3)
    assert np.array_equal(x.numpy(), X[list(rows)])


def test_read_takes_indices_only(store):
    for bad in ([-1], [N], [True] * (N - 1), [1.5]):
        with pytest.raises(StoreError):
            store.read(bad)
    with pytest.raises(StoreError, match="no such field"):
        store.read([0], "source")


def test_batches_stream_in_order(store):
    rows = np.arange(N)[::-1]
    got = list(store.batches(rows, 7))
    assert [len(i) for i, _, _ in got] == [7] * 5 + [5]
    assert np.array_equal(np.concatenate([i for i, _, _ in got]), rows)
    assert torch.equal(torch.cat([t for _, t, _ in got]), THETA[rows.copy()])
    assert np.array_equal(torch.cat([x for _, _, x in got]).numpy(), X[rows])


def test_survives_a_process_boundary(store):
    twin = copy.deepcopy(store)  # by the same protocol as multiprocessing
    assert np.array_equal(twin.read([3]), X[3:4])
    assert twin.digest() == store.digest()


def test_digest_does_not_depend_on_how_parts_are_cut(store, planned):
    seeds = simulation_seeds(0, range(N))
    for i in np.random.default_rng(2).permutation(N):
        planned.add(int(i), X[i], unit="mK")
    assert len(names(planned)) == N
    before = planned.digest()
    planned.compact()
    assert len(names(planned)) == 5  # 40 in tasks of 8
    assert planned.digest() == before
    assert np.array_equal(planned.read(range(N)), X)
    other = SimulationStore.create(planned.path.parent / "t", SPACE, FIELD, THETA, seeds)
    other.add_many(0, torch.from_numpy(X))
    assert other.digest() == before
    x = X.copy()
    x[3, 0, 0] = np.nextafter(x[3, 0, 0], np.float32(9))
    third = SimulationStore.create(planned.path.parent / "u", SPACE, FIELD, THETA, seeds)
    third.add_many(0, x)
    assert third.digest() != before


def test_a_reader_follows_a_merge(planned):
    planned.add_many(0, X[:4])
    planned.add_many(4, X[4:8])
    reader = SimulationStore.open(planned.path)
    planned.compact()
    assert np.array_equal(reader.read(range(8)), X[:8])


def test_add_is_idempotent_and_never_replaces(planned):
    planned.add(3, X[3])
    planned.add(3, torch.from_numpy(X[3]))
    planned.add_many(2, X[2:5])
    assert planned.counts()["done"] == 3
    with pytest.raises(StoreError, match=r"simulation 3: .*other content"):
        planned.add(3, X[4])
    assert np.array_equal(planned.read([2, 3, 4]), X[2:5])
    with pytest.raises(StoreError, match="got pending"):
        planned.read([2, 9])


def test_added_failures_are_kept_until_a_result_comes(planned):
    planned.fail(5, "node 17 lost power")
    (failure,) = SimulationStore.open(planned.path).failures()
    assert (failure.index, failure.state, failure.message) == (5, "failed", "node 17 lost power")
    assert torch.equal(failure.theta, THETA[5])
    assert failure.seed == int(planned.seeds[5])
    assert planned.states()[5] == "failed"
    planned.add(5, X[5])
    assert planned.failures() == []
    planned.fail(5, "too late")
    assert planned.states()[5] == "done"


def test_source_is_stored_beside_x(tmp_path):
    ic = np.random.default_rng(3).normal(size=(N, 2))
    store = SimulationStore.from_arrays(
        tmp_path / "s", THETA, X, SPACE, FIELD, source=IC, source_x=ic
    )
    assert np.array_equal(store.read([9, 2], "source"), ic[[9, 2]])
    assert np.array_equal(store.to_xarray().ic, ic)
    planned = SimulationStore.create(tmp_path / "t", SPACE, FIELD, THETA, range(N), source=IC)
    with pytest.raises(StoreError, match="source"):
        planned.add(0, X[0])
    planned.add(0, X[0], ic[0])


def test_no_parameters_are_fine(tmp_path):
    space = ParameterSpace([])
    store = SimulationStore.from_arrays(tmp_path / "s", space.design(N, 0), X, space, FIELD)
    assert store.theta.shape == (N, 0)
    assert np.array_equal(SimulationStore.open(store.path).read([1]), X[1:2])
    assert store.to_xarray().theta.shape == (N, 0)
    with xarray.open_dataset(next(iter((store.path / "parts").iterdir())), engine="h5netcdf") as d:
        assert d.delta.dims == ("simulation", "x", "y")


def test_xarray_view(store):
    found = store.to_xarray()
    assert found.delta.dims == ("simulation", "x", "y")
    assert found.delta.attrs["units"] == "mK"
    assert np.array_equal(found.delta.sel(simulation=7), X[7])
    assert np.array_equal(found.theta.sel(parameter="b"), THETA[:, 1])


def test_exported_design_has_all_digits(planned, tmp_path):
    with planned.export_design(tmp_path / "d.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(r["index"]) for r in rows] == list(range(N))
    assert [int(r["seed"]) for r in rows] == planned.seeds.tolist()
    assert [[float(r["a"]), float(r["b"])] for r in rows] == THETA.tolist()
    with np.load(planned.export_design(tmp_path / "d.npz"), allow_pickle=False) as table:
        assert np.array_equal(table["theta"], THETA)
        assert table["names"].tolist() == ["a", "b"]
    with pytest.raises(StoreError, match="suffix"):
        planned.export_design(tmp_path / "d.parquet")


def test_task_size_follows_the_field_not_the_workers():
    from sbitools.store.layout import Layout

    def layout(side):
        return Layout(SPACE, FieldSpec("d", ("x", "y", "z"), (side,) * 3))

    assert default_task_size(100_000, layout(64), 1) == 61  # 64 MB of 1.05 MB fields
    assert default_task_size(100_000, layout(512), 1) == 1
    assert default_task_size(100_000, layout(2), 1) == 1024
    assert default_task_size(160, layout(2), 1) == 10
    assert default_task_size(160, layout(2), 4) == 8


# Bad input: each has a typed error, and nothing is left behind or lost.


def test_nan_in_an_imported_set(tmp_path):
    x = X.copy()
    x[17, 1] = np.nan
    x[30, 0, 0] = np.inf
    with pytest.raises(StoreError, match=r"simulation 17: .*got 3 NaN"):
        SimulationStore.from_arrays(tmp_path / "s", THETA, x, SPACE, FIELD)
    assert not (tmp_path / "s").exists()
    store = SimulationStore.from_arrays(tmp_path / "s", THETA, x, SPACE, FIELD, nonfinite="fail")
    assert [f.index for f in store.failures()] == [17, 30]
    assert "3 of 12 values of x are NaN" in store.failures()[0].message
    assert np.isnan(x[17, 1]).all()  # the user's array is untouched
    assert np.isfinite(x[17, 0]).all()
    assert len(store.done) == N - 2


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"x": X[:-1]}, StoreError, "as many as theta"),
        ({"x": X.astype("f8")}, ShapeError, "dtype float64"),
        ({"x": X.astype(object)}, ShapeError, "dtype object"),
        ({"x": X[:, :2]}, ShapeError, r"shape \(3, 2, 3\)|shape"),
        ({"unit": "K"}, ShapeError, "'mK'; got 'K'"),
        ({"theta": THETA + 1}, ParameterError, "column 'a'"),
        ({"theta": THETA[:, :1]}, ParameterError, "columns"),
        ({"seeds": np.arange(N - 1)}, StoreError, "39 seeds"),
        ({"seeds": -np.arange(N)}, StoreError, "seed in"),
        ({"seeds": np.arange(N) / 2}, StoreError, "float64"),
        ({"groups": np.arange(3)}, StoreError, "3 groups"),
        ({"group_size": 0}, StoreError, "group_size"),
        ({"design": "grid"}, StoreError, "design"),
        ({"task_size": 0}, StoreError, "task_size"),
        ({"source": IC}, StoreError, "source"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, error, text):
    arguments = {"theta": THETA, "x": X, "parameters": SPACE, "output": FIELD} | change
    with pytest.raises(error, match=text):
        SimulationStore.from_arrays(tmp_path / "s", **arguments)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("index", "x", "error"),
    [
        (0, X[0, :2], ShapeError),
        (0, X[0].astype("f8"), ShapeError),
        (0, np.full((4, 3), np.inf, "f4"), StoreError),
        (N, X[0], StoreError),
        (-1, X[0], StoreError),
    ],
)
def test_bad_results_are_refused(planned, index, x, error):
    with pytest.raises(error):
        planned.add(index, x)
    with pytest.raises(ShapeError, match="unit"):
        planned.add(0, X[0], unit="K")
    assert planned.counts()["pending"] == N
    assert names(planned) == []


def test_paths_that_are_taken(tmp_path, store):
    with pytest.raises(StoreError, match="existing store"):
        SimulationStore.from_arrays(store.path, THETA, X, SPACE, FIELD)
    assert store.counts()["done"] == N
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        SimulationStore.from_arrays(tmp_path, THETA, X, SPACE, FIELD)
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(StoreError, match="a file"):
        SimulationStore.from_arrays(tmp_path / "thesis.tex", THETA, X, SPACE, FIELD)
    with pytest.raises(StoreError, match=r"no readable store\.json"):
        SimulationStore.open(tmp_path)


def edited(store, **values):
    """Forge ``store.json``, its own sha256 included."""
    file = store.path / "store.json"
    text = json.loads(file.read_text()) | values
    del text["sha256"]
    file.write_text(json.dumps(text | {"sha256": _own_digest(text)}))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"schema": 99}, "schema 99"),
        ({"kind": "cake"}, "another kind"),
        ({"output": {"name": "x"}}, "do not fit"),
        ({"surprise": 1}, "do not fit"),
        ({"design_sha256": "0" * 64}, "no readable file"),
    ],
)
def test_a_changed_manifest(planned, values, text):
    edited(planned, **values)
    with pytest.raises(StoreError, match=text):
        SimulationStore.open(planned.path)


def test_a_broken_manifest_and_design(planned):
    design = next(planned.path.glob("design-*.h5"))
    raw = design.read_bytes()
    design.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(StoreError, match="sha256"):
        SimulationStore.open(planned.path)
    (planned.path / "store.json").write_text("{")
    with pytest.raises(StoreError, match="not JSON"):
        SimulationStore.open(planned.path)


def flip(path, needle):
    raw = path.read_bytes()
    at = raw.index(needle)
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])


def test_a_flipped_bit_is_an_error_not_a_field(planned):
    planned.add_many(0, X[:8])
    planned.add_many(8, X[8:16])
    flip(planned.path / "parts" / names(planned)[1], X[9].tobytes())
    store = SimulationStore.open(planned.path)
    assert np.array_equal(store.read(range(8)), X[:8])
    with pytest.raises(StoreError, match=r"part-00000008.*sha256"):
        store.read([15])
    with pytest.raises(StoreError, match="part-00000008"):
        store.verify()
    trusting = SimulationStore.open(planned.path, verify=False)
    assert not np.array_equal(trusting.read([9]), X[9:10])


def test_truncated_and_foreign_parts(planned):
    planned.add_many(0, X[:8])
    path = planned.path / "parts" / names(planned)[0]
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(StoreError, match="cannot read"):
        SimulationStore.open(planned.path)
    path.write_bytes(raw)
    (planned.path / "parts" / "core.1234").write_text("x")
    with pytest.raises(StoreError, match=r"move .*core\.1234"):
        SimulationStore.open(planned.path)


def test_a_part_of_another_store(planned, tmp_path):
    other = SimulationStore.create(tmp_path / "o", SPACE, FIELD, SPACE.design(N, 2), range(N))
    other.add(0, X[0])
    (name,) = names(other)
    (planned.path / "parts" / name).write_bytes((other.path / "parts" / name).read_bytes())
    with pytest.raises(StoreError, match="another campaign"):
        SimulationStore.open(planned.path)


def test_two_results_for_one_simulation(planned, tmp_path):
    twin = SimulationStore.create(tmp_path / "o", SPACE, FIELD, THETA, planned.seeds)
    planned.add(0, X[0])
    twin.add(0, X[1])
    (name,) = names(twin)
    (planned.path / "parts" / name).write_bytes((twin.path / "parts" / name).read_bytes())
    with pytest.raises(StoreError, match=r"simulation 0: .*different"):
        SimulationStore.open(planned.path)


def test_a_lost_part_is_pending_again(planned):
    planned.add(0, X[0])
    (planned.path / "parts" / names(planned)[0]).unlink()
    assert planned.counts()["pending"] == N


def test_adding_waits_for_no_campaign(planned, monkeypatch):
    monkeypatch.setattr("sbitools.store.manifest._LOCK_SECONDS", 0.1)
    with (
        lock(planned.path, exclusive=True),
        pytest.raises(StoreError, match="running campaign"),
    ):
        planned.add(0, X[0])
    with lock(planned.path, exclusive=False):
        planned.add(0, X[0])
        with pytest.raises(StoreError, match="at work"):
            planned.compact()


def test_memory_maps_and_datasets_are_read_in_slices(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = X
        store = SimulationStore.from_arrays(tmp_path / "s", THETA, file["x"], SPACE, FIELD)
    assert np.array_equal(store.read(range(N)), X)
    np.save(tmp_path / "x.npy", X.astype(">f4"))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    other = SimulationStore.from_arrays(tmp_path / "t", THETA, mapped, SPACE, FIELD)
    assert other.digest() == store.digest()
