"""Import of existing sets from files, and of results as they come."""

import h5py
import numpy as np
import pytest

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import ParameterError, ShapeError, StoreError
from sbitools.store.imports import add_results, import_files, open_array, read_theta

SPACE = ParameterSpace(
    [Parameter("Omega_m", priors.Uniform(0.1, 0.5)), Parameter("sigma_8", priors.Uniform(0.6, 1))]
)
FIELD = FieldSpec("delta", ("x",), (6,))
N = 10
THETA = SPACE.design(N, 3).numpy()
X = np.random.default_rng(0).normal(size=(N, 6)).astype("f4")


def write_x(folder, kind):
    path = folder / f"x.{kind}"
    if kind == "npy":
        np.save(path, X)
    elif kind == "npz":
        np.savez(path, x=X, other=np.zeros(3))
    else:
        with h5py.File(path, "w") as file:
            file["fields/x"] = X
            file["other"] = np.zeros(3)
    return path, {"npy": None, "npz": "x", "h5": "/fields/x"}[kind]


def text(separator, comment="", extra=False):
    head = ["Omega_m", "tau", "sigma_8"] if extra else ["sigma_8", "Omega_m"]
    lines = [comment + separator.join((["Name"] if extra else []) + head)]
    for i, (om, s8) in enumerate(THETA.tolist()):
        row = [f"LH_{i}", repr(om), "0.05", repr(s8)] if extra else [repr(s8), repr(om)]
        lines.append(separator.join(row))
    return "\n".join(lines) + "\n"


def write_theta(folder, kind):
    path = folder / f"theta.{kind.split('-')[0]}"
    match kind:
        case "csv":
            path.write_text(text(", "))
        case "txt":  # Quijote: a comment sign and blanks
            path.write_text(text("  ", "#"))
        case "dat":  # CAMELS: a name per row, and columns nobody asked for
            path.write_text(text(" ", "# ", extra=True))
        case "npy":
            np.save(path, THETA)
        case "npz":
            np.savez(path, sigma_8=THETA[:, 1], Omega_m=THETA[:, 0], tau=np.ones(N))
        case "npz-names":
            np.savez(path, theta=THETA[:, ::-1], names=np.array(["sigma_8", "Omega_m"]))
        case "h5":
            with h5py.File(path, "w") as file:
                file["Omega_m"], file["sigma_8"] = THETA.T
        case "h5-table":
            with h5py.File(path, "w") as file:
                file["theta"] = THETA
    return path


KINDS = ["csv", "txt", "dat", "npy", "npz", "npz-names", "h5", "h5-table"]


@pytest.mark.parametrize("kind", KINDS)
def test_tables(tmp_path, kind):
    theta = read_theta(write_theta(tmp_path, kind), SPACE)
    assert theta.dtype == np.float64
    assert np.array_equal(theta, THETA)  # bit for bit: repr keeps all digits


@pytest.mark.parametrize("kind", ["npy", "npz", "h5"])
def test_files_become_a_store(tmp_path, kind):
    path, dataset = write_x(tmp_path, kind)
    np.save(tmp_path / "seeds.npy", np.arange(N) + 100)
    store = import_files(
        tmp_path / "s", path, write_theta(tmp_path, "csv"), SPACE, FIELD, dataset=dataset,
        seeds=tmp_path / "seeds.npy", group_size=2,
    )  # fmt: skip
    assert np.array_equal(store.read(range(N)), X)
    assert np.array_equal(store.theta, THETA)
    assert store.seeds.tolist() == list(range(100, 100 + N))
    assert store.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_source_field_comes_along(tmp_path):
    path, _ = write_x(tmp_path, "npy")
    np.save(tmp_path / "ic.npy", X[:, :2].astype("f8"))
    store = import_files(
        tmp_path / "s", path, write_theta(tmp_path, "npy"), SPACE, FIELD,
        source=FieldSpec("ic", ("k",), (2,), "float64"), source_x=tmp_path / "ic.npy",
    )  # fmt: skip
    assert np.array_equal(store.read([3], "source"), X[3:4, :2])


# Bad input


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Omega_m,sigma8\n0.3,0.8\n", r"not one \['sigma_8'\]"),
        ("0.3,0.8\n0.2,0.9\n", "first line"),
        ("Omega_m,sigma_8,sigma_8\n0.3,0.8,0.8\n", "sigma_8"),
        ("Omega_m,sigma_8\n0.3,0.8\n0.3\n", "row 1 .*got 1 entries"),
        ("Omega_m,sigma_8\n0.3,high\n", "row 0 .*high"),
        ("Omega_m,sigma_8\n0.3,nan\n", "column 'sigma_8'.*nan in row 0"),
        ("Omega_m,sigma_8\n0.3,0.8\n0.7,0.8\n", "column 'Omega_m'.*0.7 in row 1"),
        ("", "columns"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ParameterError, match=message):
        read_theta(tmp_path / "t.csv", SPACE)


def test_bad_table_files(tmp_path):
    np.save(tmp_path / "t.npy", THETA[:, :1])
    with pytest.raises(ParameterError, match=r"shape \(10, 1\)"):
        read_theta(tmp_path / "t.npy", SPACE)
    np.savez(tmp_path / "t.npz", Omega_m=THETA[:, 0], sigma_8=THETA[:5, 1])
    with pytest.raises(ParameterError, match="equal length"):
        read_theta(tmp_path / "t.npz", SPACE)
    np.savez(tmp_path / "u.npz", Omega_m=THETA[:, 0])
    with pytest.raises(ParameterError, match="sigma_8"):
        read_theta(tmp_path / "u.npz", SPACE)
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match="text table in UTF-8"):
        read_theta(tmp_path / "t.csv", SPACE)
    with pytest.raises(StoreError, match=r"missing\.txt"):
        read_theta(tmp_path / "missing.txt", SPACE)
    (tmp_path / "t.h5").write_bytes(b"not HDF5")
    with pytest.raises(StoreError, match="whole array file"):
        read_theta(tmp_path / "t.h5", SPACE)


@pytest.mark.parametrize("kind", ["npy", "npz", "h5"])
def test_truncated_arrays(tmp_path, kind):
    path, dataset = write_x(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError, match="copied completely"), open_array(path, dataset) as array:
        array[:]


def test_foreign_arrays(tmp_path):
    for name in ("x.npy", "x.npz", "x.h5"):
        (tmp_path / name).write_text("hello")
        with (
            pytest.raises(StoreError, match=r"whole array file|got something else"),
            open_array(tmp_path / name),
        ):
            pass
    (tmp_path / "x.jpg").touch()
    with pytest.raises(StoreError, match="suffix"), open_array(tmp_path / "x.jpg"):
        pass
    with pytest.raises(StoreError, match="no such file"), open_array(tmp_path / "no.npy"):
        pass
    np.save(tmp_path / "o.npy", np.array([{}, 1], object), allow_pickle=True)
    with pytest.raises(StoreError, match="array of numbers"), open_array(tmp_path / "o.npy"):
        pass
    np.save(tmp_path / "t.npy", np.array(["a"]))
    with pytest.raises(StoreError, match="array of numbers"), open_array(tmp_path / "t.npy"):
        pass
    path, _ = write_x(tmp_path, "npz")
    with pytest.raises(StoreError, match=r"'other', 'x'.*dataset="), open_array(path):
        pass
    with pytest.raises(StoreError, match="called 'y'"), open_array(path, "y"):
        pass


def test_hdf5_links_out_of_the_file_are_refused(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = X
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["x"] = h5py.ExternalLink("secret.h5", "x")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("x", (4,), "f4", external=[(str(tmp_path / "secret.h5"), 0, 16)])
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((N, 6), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (N, 6))
        file.create_virtual_dataset("x", layout)
    for name in ("link.h5", "raw.h5", "virtual.h5"):
        with (
            pytest.raises(StoreError, match="data inside the file"),
            open_array(tmp_path / name, "x"),
        ):
            pass


def test_different_lengths_and_nan(tmp_path):
    table = write_theta(tmp_path, "csv")
    np.save(tmp_path / "x.npy", X[:-1])
    with pytest.raises(StoreError, match="10 rows, as many as theta; got 9"):
        import_files(tmp_path / "s", tmp_path / "x.npy", table, SPACE, FIELD)
    bad = X.copy()
    bad[6, 0] = np.nan
    np.save(tmp_path / "x.npy", bad)
    with pytest.raises(StoreError, match="simulation 6"):
        import_files(tmp_path / "s", tmp_path / "x.npy", table, SPACE, FIELD)
    with pytest.raises(ShapeError, match="unit"):
        import_files(tmp_path / "s", tmp_path / "x.npy", table, SPACE, FIELD, unit="K")
    assert not (tmp_path / "s").exists()
    store = import_files(tmp_path / "s", tmp_path / "x.npy", table, SPACE, FIELD, nonfinite="fail")
    assert store.counts()["failed"] == 1


# Campaigns that run elsewhere


@pytest.fixture
def planned(tmp_path):
    (tmp_path / "out").mkdir()
    return SimulationStore.create(
        tmp_path / "s", SPACE, FIELD, THETA, np.arange(N), task_size=4, simulator="gadget"
    )


def test_results_come_file_by_file(planned, tmp_path):
    out = tmp_path / "out"
    for i in (0, 1, 2, 3, 4, 8):
        np.save(out / f"run2_result_{i:06d}.npy", X[i])
    (out / "slurm-17.log").write_text("not a result")
    assert add_results(planned, out) == 6
    assert len(list((planned.path / "parts").iterdir())) == 3  # 0-3, 4, 8
    assert add_results(planned, out) == 0
    np.savez(out / "5.npz", x=X[5], extra=np.ones(2))
    with h5py.File(out / "result.6.h5", "w") as file:
        file["x"] = X[6]
    assert add_results(planned, out) == 2
    assert planned.done.tolist() == [0, 1, 2, 3, 4, 5, 6, 8]
    assert np.array_equal(planned.read(planned.done), X[planned.done])


def test_a_bad_result_does_not_keep_others_out(planned, tmp_path):
    out = tmp_path / "out"
    for i in range(5):
        np.save(out / f"{i}.npy", X[i])
    half = out / "1.npy"
    half.write_bytes(half.read_bytes()[:-4])  # a job is still writing it
    np.save(out / "3.npy", np.full(6, np.inf, "f4"))
    with pytest.raises(StoreError, match=r"2 result files .*1\.npy.*3 others were added"):
        add_results(planned, out)
    assert planned.done.tolist() == [0, 2, 4]
    np.save(half, X[1])
    assert add_results(planned, out, nonfinite="fail") == 1
    assert [f.index for f in planned.failures()] == [3]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["10.npy"], "below 10"), (["final.npy"], "below 10"), (["1.npy", "b_1.npy"], "the index")],
)
def test_names_without_a_place(planned, tmp_path, names, message):
    for name in names:
        np.save(tmp_path / "out" / name, X[0])
    with pytest.raises(StoreError, match=message):
        add_results(planned, tmp_path / "out")
    with pytest.raises(StoreError, match="directory of result files"):
        add_results(planned, tmp_path / "nowhere")
