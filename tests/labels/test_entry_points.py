"""Wherever an array enters, a label is used, or refused: every entry with every kind of label."""

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from astropy.nddata import CCDData
from astropy.table import QTable, Table
from astropy.utils.masked import Masked

from sbitools import FieldSpec, SimulationStore, simulate
from sbitools.arviz import draws_to_arviz, from_arviz
from sbitools.calibration import CalibrationDraws
from sbitools.calibration.drawing.given import observed_field
from sbitools.campaign.worker import _unpack
from sbitools.errors import ObservationError, PosteriorError, SbitoolsError, ShapeError, StoreError
from sbitools.inference.rounds import _checked
from sbitools.observation import Mask, Observation
from sbitools.observation.observed import check_field
from sbitools.repairs.posterior import RepairedPosterior
from sbitools.seeds import simulation_seeds
from sbitools.simulator import FunctionSimulator
from sbitools.store.layout import Layout

from .conftest import FIELD, SPACE, THETA, UNSEEN, N, X

FRAME = pd.DataFrame(THETA, columns=["h", "s"])
NAMED = {"h": THETA[:, 0], "s": THETA[:, 1]}
METRES = THETA[:, 0] * 1e3 * u.m
SEEDS = torch.from_numpy(simulation_seeds(3, range(N)))
FILL = np.where(X > 1, np.float32(UNSEEN), X)

# Labelled theta; what equals THETA, and what is refused.
USED_THETA = {
    "frame, other order": FRAME[["s", "h"]],
    "frame with more columns": FRAME.assign(run="LH 1", date=pd.Timestamp("2024"))[
        ["run", "s", "date", "h"]
    ],
    "frame without names": pd.DataFrame(THETA),
    "frame of other rows": FRAME[["s", "h"]].set_index(np.arange(N)[::-1]),
    "nullable frame": FRAME[["s", "h"]].convert_dtypes(),
    "dictionary": {"s": THETA[:, 1], "h": THETA[:, 0]},
    "dictionary of series": dict(FRAME[["s", "h"]].items()),
    "record array": FRAME[["s", "h"]].to_records(index=False),
    "astropy table": Table({"s": THETA[:, 1], "h": THETA[:, 0]}),
    "table in metres": QTable({"s": THETA[:, 1], "h": METRES}),
    "table with a unit": Table({"s": THETA[:, 1], "h": METRES.value}, units={"h": "m"}),
    "dictionary in metres": {"s": THETA[:, 1], "h": METRES},
    "open archive": {"theta": THETA[:, ::-1], "names": np.array(["s", "h"])},
    "rows by name": [{"s": row[1], "h": row[0]} for row in THETA],
    "rows as series": [row for _, row in FRAME[["s", "h"]].iterrows()],
    "xarray with names": xr.DataArray(THETA[:, ::-1], dims=("run", "p"), coords={"p": ["s", "h"]}),
    "xarray, names first": xr.DataArray(
        THETA[:, ::-1].T, dims=("p", "run"), coords={"p": ["s", "h"]}
    ),
    "xarray without names": xr.DataArray(THETA),
    "dataset": xr.Dataset({"s": ("run", THETA[:, 1]), "h": ("run", THETA[:, 0], {"units": "km"})}),
    "nothing masked": np.ma.masked_array(THETA),
    "list": THETA.tolist(),
    "list of tensors": [torch.from_numpy(row) for row in THETA],
    "big-endian": THETA.astype(">f8"),
    "tensor with gradient": torch.from_numpy(THETA.copy()).requires_grad_(),
    "sparse tensor": torch.from_numpy(THETA.copy()).to_sparse(),
}
REFUSED_THETA = {
    "missing name": FRAME[["h"]],
    "other names": FRAME.rename(columns={"s": "S"}),
    "name twice": pd.DataFrame(np.c_[THETA, THETA[:, :1]], columns=["h", "s", "h"]),
    "numbers in another order": pd.DataFrame(THETA).iloc[:, ::-1],
    "missing key": {"h": THETA[:, 0]},
    "columns of other rows": {"h": FRAME["h"], "s": FRAME["s"].iloc[::-1]},
    "columns of other lengths": {"h": THETA[:, 0], "s": THETA[1:, 1]},
    "masked": np.ma.masked_array(THETA, THETA > 0.5),
    "masked rows": [np.ma.masked_array(row, [True, False]) for row in THETA],
    "one unit for all": THETA * u.km,
    "seconds": {"h": THETA[:, 0] * u.s, "s": THETA[:, 1]},
    "unit of a number": {"h": THETA[:, 0], "s": THETA[:, 1] * u.km},
    "dataset in metres": xr.Dataset(
        {"h": ("run", THETA[:, 0], {"units": "m"}), "s": ("run", THETA[:, 1])}
    ),
    "axes without names of parameters": xr.DataArray(THETA, dims=("run", "p")),
    "truth values": FRAME.assign(h=THETA[:, 0] > 0.5),
    "complex": THETA.astype(complex),
    "objects": FRAME.astype(object),
    "dates": FRAME.assign(h=pd.Timestamp("2024")),
    "text": THETA.astype(str),
}


class Base:
    """What a repair asks of a posterior."""

    def __init__(self, posterior):
        self.posterior = posterior

    def __getattr__(self, name):
        return getattr(self.posterior, name)


class Same(RepairedPosterior):
    """A repair that leaves everything as it is."""

    method = "same"

    def sample_and_log_prob(self, x, n, seed=None, time_limit=None):
        return self.base.sample_and_log_prob(self._pair(THETA, x)[1], n, seed, time_limit)

    def log_prob(self, theta, x):
        return self.base.log_prob(*self._pair(theta, x))

    def state(self):
        return {}, {}

    @classmethod
    def from_state(cls, base, values, tensors, **common):
        return cls(base)


THETA_ENTRIES = {
    "from_arrays": lambda t, p, path: (
        SimulationStore.from_arrays(path, t, X, SPACE, FIELD, task_size=N).theta
    ),
    "create": lambda t, p, path: SimulationStore.create(path, SPACE, FIELD, t, range(N)).theta,
    "check": lambda t, p, path: SPACE.check(t),
    "prior": lambda t, p, path: SPACE.log_prob(t),
    "unconstrained": lambda t, p, path: SPACE.to_unconstrained(t),
    "volume": lambda t, p, path: SPACE.log_abs_det(t),
    "log_prob": lambda t, p, path: p.log_prob(t, X),
    "latent": lambda t, p, path: p.latent(t, X),
    "repaired log_prob": lambda t, p, path: Same(Base(p)).log_prob(t, X),
    "calibration": lambda t, p, path: (
        CalibrationDraws(t, np.random.default_rng(0).random((N, 30, 2)), prior=SPACE).theta
    ),
    "arviz": lambda t, p, path: from_arviz(draws_to_arviz(t, SPACE, prior=0), SPACE),
}


@pytest.mark.parametrize("entry", THETA_ENTRIES)
def test_labels_of_theta(entry, posterior, tmp_path):
    enter = THETA_ENTRIES[entry]
    want = np.asarray(enter(THETA, posterior, tmp_path / "plain"))
    for i, (kind, theta) in enumerate(USED_THETA.items()):
        got = enter(theta, posterior, tmp_path / f"used-{i}")
        got = got.detach() if isinstance(got, torch.Tensor) else got
        assert np.allclose(got, want, rtol=1e-6, atol=1e-9), kind
    for i, (kind, theta) in enumerate(REFUSED_THETA.items()):
        with pytest.raises(SbitoolsError, match="fix: "):
            pytest.fail(f"{kind}: {enter(theta, posterior, tmp_path / f'refused-{i}')}")


USED_X = {
    "xarray": xr.DataArray(X, dims=("run", "y", "z"), attrs={"units": "mK"}),
    "xarray, other order": xr.DataArray(X.transpose(2, 0, 1), dims=("z", "run", "y")),
    "xarray, lazy": xr.DataArray(X.transpose(2, 0, 1), dims=("z", "run", "y")).chunk({"run": 2}),
    "xarray without names": xr.DataArray(X),
    "xarray with coordinates": xr.DataArray(
        X, dims=("run", "y", "z"), coords={"run": np.arange(N)[::-1], "y": [0.1, 0.2]}
    ),
    "dataset": xr.Dataset({"map": (("z", "run", "y"), X.transpose(2, 0, 1)), "other": 1}),
    "dictionary": {"map": X, "other": 1},
    "record array": np.rec.fromarrays([X[:, 0, 0], X], dtype=[("n", "f4"), ("map", "f4", (2, 2))]),
    "quantity": X * u.mK,
    "quantity in kelvin": X.astype("f4") * np.float32(1e-3) * u.K,
    "nothing masked": np.ma.masked_array(X),
    "quantity, nothing masked": Masked(X * u.mK, mask=np.zeros(X.shape, bool)),
    "image": CCDData(X, unit="mK"),
    "list of xarray": [xr.DataArray(row.T, dims=("z", "y")) for row in X],
    "list of quantities": [row * u.mK for row in X],
    "list of tensors": [torch.from_numpy(row) for row in X],
    "big-endian": X.astype(">f4"),
}
REFUSED_X = {
    "other axes": xr.DataArray(X, dims=("run", "x", "z")),
    "other unit": xr.DataArray(X, dims=("run", "y", "z"), attrs={"units": "K"}),
    "coordinates the other way round": xr.DataArray(
        X, dims=("run", "y", "z"), coords={"z": [2.0, 1.0]}
    ),
    "coordinates of text": xr.DataArray(X, dims=("run", "y", "z"), coords={"z": ["r", "g"]}),
    "dataset without it": xr.Dataset({"other": (("run", "y", "z"), X)}),
    "dictionary without it": {"other": X},
    "metres": X * u.m,
    "masked": np.ma.masked_array(X, X > 1),
    "masked quantity": Masked(X * u.mK, mask=X > 1),
    "masked image": CCDData(X, unit="mK", mask=X > 1),
    "image in kelvin": CCDData(X, unit="K"),
    "list of masked": [np.ma.masked_array(row, row > 1) for row in X],
    "unseen": FILL,
    "unseen in another unit": FILL * np.float64(1e-3) * u.K,
    "truth values": X > 0,
    "complex": X.astype("c8"),
    "objects": X.astype(object),
    "text": X.astype(str),
    "dates": X.astype("i8").astype("M8[s]"),
}


def results(x, posterior, path):
    """The store that a simulator fills which returns x."""
    simulator = FunctionSimulator(lambda theta, seeds: x, SPACE, FIELD)
    fields = _unpack(Layout(SPACE, FIELD), simulator.simulate(SEEDS, SEEDS), N)
    store = SimulationStore.create(path, SPACE, FIELD, THETA, range(N))
    store.add_many(0, fields["x"])
    return store.read(range(N))


def added(x, posterior, path):
    store = SimulationStore.create(path, SPACE, FIELD, THETA, range(N))
    store.add_many(0, x, unit="mK")
    return store.read(range(N))


X_ENTRIES = {
    "from_arrays": lambda x, p, path: SimulationStore.from_arrays(
        path, THETA, x, SPACE, FIELD, task_size=N
    ).read(range(N)),
    "add_many": added,
    "simulator": results,
    "sample": lambda x, p, path: p.sample(x, 3, 1),
    "log_prob": lambda x, p, path: p.log_prob(THETA, x),
    "latent": lambda x, p, path: p.latent(THETA, x),
    "features": lambda x, p, path: p.features(x),
    "observe": lambda x, p, path: p.features(p.observe(x, SEEDS)),
    "repaired": lambda x, p, path: Same(Base(p)).log_prob(THETA, x),
    "repaired sample": lambda x, p, path: Same(Base(p)).sample(x, 3, 1),
    "checks": lambda x, p, path: p.features(observed_field(p, x)),
}


@pytest.mark.filterwarnings("ignore::sbitools.errors.MisspecificationWarning")
@pytest.mark.parametrize("entry", X_ENTRIES)
def test_labels_of_fields(entry, posterior, tmp_path):
    enter = X_ENTRIES[entry]
    want = np.asarray(enter(X, posterior, tmp_path / "plain"))
    for i, (kind, x) in enumerate(USED_X.items()):
        got = enter(x, posterior, tmp_path / f"used-{i}")
        assert np.allclose(got, want, rtol=1e-4, atol=1e-5), kind
    for i, (kind, x) in enumerate(REFUSED_X.items()):
        with pytest.raises(SbitoolsError, match="fix: "):
            pytest.fail(f"{kind}: {enter(x, posterior, tmp_path / f'refused-{i}')}")


ONE = {
    "xarray": xr.DataArray(X[0].T, dims=("z", "y")),
    "quantity": X[0] * u.mK,
    "dictionary": {"map": X[0]},
    "numbers": pd.DataFrame(X[0]),
}
NOT_ONE = {
    "other axes": xr.DataArray(X[0], dims=("x", "z")),
    "a batch axis": xr.DataArray(X[:1], dims=("run", "y", "z")),
    "metres": X[0] * u.m,
    "masked": np.ma.masked_array(X[0], X[0] > X[0].min()),
    "columns of text": pd.DataFrame(X[0], columns=["a", "b"]),
    "rows of text": pd.DataFrame(X[0], index=["a", "b"]),
    "unseen": np.full((2, 2), UNSEEN, "f4"),
}


@pytest.mark.parametrize("entry", ["add", "x_observed", "command line"])
def test_labels_of_one_field(entry, tmp_path):
    store = SimulationStore.create(tmp_path / "s", SPACE, FIELD, THETA, range(N))

    def add(x):
        index = len(store.done)
        store.add(index, x)
        return store.read([index])

    def read(x):
        return check_field(x, FIELD)

    def observed(x):
        simulator = FunctionSimulator(lambda theta, seeds: x, SPACE, FIELD)
        return _checked(x, simulator, Observation())

    enter = {"add": add, "x_observed": observed, "command line": read}[entry]
    for kind, x in ONE.items():
        assert np.allclose(enter(x), X[:1]), kind
    for kind, x in NOT_ONE.items():
        if kind == "a batch axis" and entry != "add":
            assert np.allclose(enter(x), X[:1])
            continue
        with pytest.raises(SbitoolsError, match="fix: "):
            pytest.fail(f"{kind}: {enter(x)}")


def test_vectors_as_tables(tmp_path):
    """A field names no cells: numbered columns are as they stand, and others are refused."""
    spec = FieldSpec("v", ("i",), (4,))
    x = X.reshape(N, 4)
    stores = [
        SimulationStore.from_arrays(tmp_path / f"{i}", THETA, form, SPACE, spec).digest()
        for i, form in enumerate((x, pd.DataFrame(x), pd.DataFrame(x, columns=[2, 3, 5, 9])))
    ]
    assert len(set(stores)) == 1
    for columns in (list("abcd"), [3, 2, 1, 0], ["0", "1", "2", "3"]):
        with pytest.raises(ShapeError, match=r"columns .* in ascending order"):
            SimulationStore.from_arrays(
                tmp_path / "no", THETA, pd.DataFrame(x, columns=columns), SPACE, spec
            )
    one = FieldSpec("v", ("i",), (1,))
    frame = pd.DataFrame(x[:, :1], columns=["chi2"])  # one column cannot be in another order
    assert len(SimulationStore.from_arrays(tmp_path / "one", THETA, frame, SPACE, one)) == N


def test_rows_in_different_orders_are_refused(posterior, tmp_path):
    shuffled = FRAME.iloc[::-1]
    x = xr.DataArray(X, dims=("run", "y", "z"), coords={"run": np.arange(N)})
    seeds = pd.Series(np.arange(N))
    with pytest.raises(StoreError, match=r"rows of x: .*reset_index"):
        SimulationStore.from_arrays(tmp_path / "s", shuffled, x, SPACE, FIELD)
    with pytest.raises(StoreError, match="rows of seeds"):
        SimulationStore.create(tmp_path / "s", SPACE, FIELD, shuffled, seeds)
    for ask in (posterior.log_prob, posterior.latent, Same(Base(posterior)).log_prob):
        with pytest.raises(PosteriorError, match="rows of x"):
            ask(shuffled, x)
    with pytest.raises(ShapeError, match="rows of group"):
        CalibrationDraws(shuffled, np.zeros((N, 3, 2)), group=seeds, prior=SPACE)
    # Of rows that were dropped together the order is one, and so it is without any labels.
    kept = [0, 2, 5]
    assert len(SimulationStore.from_arrays(
        tmp_path / "some", FRAME.iloc[kept], x[kept], SPACE, FIELD)) == 3  # fmt: skip
    assert len(SimulationStore.from_arrays(tmp_path / "bare", shuffled, X, SPACE, FIELD)) == N


def test_what_to_xarray_gives_comes_back(tmp_path):
    source = FieldSpec("y", ("y", "z"), (2, 2))  # its axis is renamed, as a field is called so
    spec = FieldSpec("map", ("y", "z"), (2, 2), unit="mK")
    store = SimulationStore.from_arrays(
        tmp_path / "s", THETA, X, SPACE, spec, source=source, source_x=2 * X
    )
    data = store.to_xarray()
    again = SimulationStore.from_arrays(
        tmp_path / "again", data, data["map"], SPACE, spec, source=source, source_x=data["y"],
        seeds=data["seed"],
    )  # fmt: skip
    assert again.digest() == store.digest()


def test_a_simulation_with_unseen_pixels_failed(tmp_path):
    def function(theta, seeds):
        x = np.zeros((len(theta), 2, 2), "f4")
        x[theta[:, 0].numpy() > 0.5, 0, 1] = UNSEEN
        return x

    store = simulate(FunctionSimulator(function, SPACE, FIELD), 8, tmp_path / "s", seed=1,
                     workers=1, progress=False)  # fmt: skip
    assert store.counts()["failed"] == int((store.theta[:, 0] > 0.5).sum()) > 0
    assert store.failures()[0].message == "1 of 4 values of x are NaN, infinite or healpy.UNSEEN"


@pytest.mark.parametrize(
    "mask",
    [
        np.ma.masked_array([[1, 1], [0, 1]], [[0, 0], [1, 0]]),
        np.array([[1, UNSEEN], [0, 1]]),
        xr.DataArray([[1, 0], [0, 1]], dims=("z", "y")),
        [["a", "b"], ["c", "d"]],
    ],
)
def test_masks_that_say_something_else(mask):
    with pytest.raises(ObservationError, match="fix: "):
        Mask(mask)
