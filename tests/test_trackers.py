"""Histories of trainings in CSV files and in TensorBoard, also of runs that were interrupted."""

import csv
import sys

import pytest
import torch

import sbitools
from sbitools.errors import ConfigError, StoreError
from sbitools.training import CSVTracker, TensorBoardTracker, read_metrics
from sbitools.training.trackers import of_part
from tests.inference.conftest import gaussian_store
from tests.test_training import run


@pytest.fixture(autouse=True)
def _forked():
    with torch.random.fork_rng(devices=[]):  # nn.Linear initialises from the global generator
        yield


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def row(epoch, loss=1.0, **more):
    return {"epoch": epoch, "step": 4 * epoch, "train_loss": loss, "validation_loss": loss} | more


def test_a_table_is_the_history_and_survives_an_interruption(tmp_path):
    file = tmp_path / "history.csv"

    class Stop(Exception):
        pass

    def until(last):
        track = CSVTracker(file)

        def told(row):
            track(row)
            if row["epoch"] == last:
                raise Stop

        return told

    with pytest.raises(Stop):  # after the row was written, before the state was: trained again
        run(tmp_path / "run", on_epoch=until(3), epochs=6, patience=None)
    assert len(rows(file)) == 4
    run(tmp_path / "run", resume=True, on_epoch=until(None), epochs=6, patience=None)
    have, history = rows(file), read_metrics(tmp_path / "run")
    assert [float(r["epoch"]) for r in have] == [0, 1, 2, 3, 4, 5]
    assert [float(r["train_loss"]) for r in have] == [r["train_loss"] for r in history]


def test_parts_do_not_replace_each_other(tmp_path):
    track = CSVTracker(tmp_path / "a.csv")
    for part in ("member 1", "member 2"):
        for epoch in range(3):
            of_part(track, part)(row(epoch))
    again = CSVTracker(tmp_path / "a.csv")
    of_part(of_part(again, "member 2"), "frozen")(row(0))
    again(row(1, part="member 2"))
    assert [(r["part"], r["epoch"]) for r in rows(tmp_path / "a.csv")] == [
        ("member 1", "0"), ("member 1", "1"), ("member 1", "2"), ("member 2", "0"),
        ("member 2, frozen", "0"), ("member 2", "1"),
    ]  # fmt: skip
    assert of_part(None, "x") is None


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\0", b"text"])
def test_another_file_is_never_replaced(tmp_path, content):
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.csv"):
        CSVTracker(file)
    assert file.read_bytes() == content
    late = CSVTracker(tmp_path / "b.csv")
    (tmp_path / "b.csv").write_bytes(b"mine")
    with pytest.raises(StoreError):
        late(row(0))
    assert (tmp_path / "b.csv").read_bytes() == b"mine"


def test_train_names_its_parts(tmp_path):
    store = gaussian_store(tmp_path / "s", 200)
    sbitools.train(
        store, run_dir=tmp_path / "run", on_epoch=CSVTracker(tmp_path / "a.csv"), ensemble=2,
        pretrain_epochs=1, epochs=2, flow="zuko_maf", flow_transforms=1, flow_hidden=8,
        features=2, channels=1,
    )  # fmt: skip
    found = [r["part"] for r in rows(tmp_path / "a.csv")]
    one = ["member 1, pretrain", "member 1, frozen", "member 1", "member 1"]
    assert found == one + [part.replace("1", "2") for part in one]


def test_tensorboard_shows_each_epoch_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for epochs in (range(4), range(2, 6)):  # the second takes up the first at epoch 2
        track = TensorBoardTracker(tmp_path)
        for epoch in epochs:
            track(row(epoch, loss=float(epoch + 10 * (epochs[0] > 0)), part="a/b"))
        track.close()
    events = EventAccumulator(str(tmp_path / "a-b"))
    events.Reload()
    found = [(e.step, e.value) for e in events.Scalars("train_loss")]
    assert found == [(0, 0.0), (1, 1.0), (2, 12.0), (3, 13.0), (4, 14.0), (5, 15.0)]


def test_without_tensorboard_the_fix_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"sbitools\[tensorboard\]"):
        TensorBoardTracker(tmp_path)
