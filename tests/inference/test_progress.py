"""Bars of training, chains, tests and rounds: who sees them, and that nothing depends on them."""

import io
import sys
import threading

import pytest
import torch

import sbitools
from sbitools.display.bars import Bar, counting, drawn, showing
from sbitools.display.lines import epoch_printer
from sbitools.errors import ConfigError

from .conftest import gaussian_store
from .test_mcmc import LinearGaussian, observations, posterior_of

OPTIONS = {"flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 8, "features": 2,
           "channels": 1, "batch_size": 128, "epochs": 3}  # fmt: skip


class Terminal(io.StringIO):
    """stderr that is a terminal."""

    def isatty(self):
        return True


class Broken(Terminal):
    """A terminal that went away."""

    def write(self, text):
        raise OSError(5, "Input/output error")


@pytest.fixture
def watch(monkeypatch):
    """Makes stderr a terminal: within the test, since pytest sets its own between the phases."""

    def begin(stream=None):
        monkeypatch.setattr(sys, "stderr", stream or Terminal())
        return sys.stderr

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sbitools.display.bars._SECONDS", 0.0)  # every step is drawn
    return begin


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return gaussian_store(tmp_path_factory.mktemp("store") / "train", 300)


def weights(posterior):
    return torch.cat([v.flatten() for v in posterior.estimator.state_dict().values()])


def test_training_shows_epochs_losses_and_time_left_and_computes_the_same(
    small, tmp_path, watch, capsys
):
    terminal = watch()
    shown = sbitools.train(small, run_dir=tmp_path / "a", **OPTIONS)
    text = terminal.getvalue()
    row = shown.info["history"]["epochs"][1]
    assert "training, epoch" in text
    assert f"2/3  loss {row['train_loss']:.4g}  validation {row['validation_loss']:.4g}" in text
    assert "0:00 left" in text
    terminal.truncate(0)
    silent = sbitools.train(small, run_dir=tmp_path / "b", progress=False, **OPTIONS)
    assert terminal.getvalue().strip("\0") == ""
    assert torch.equal(weights(shown), weights(silent))
    assert capsys.readouterr().out == ""


def test_a_terminal_that_fails_stops_nothing(small, tmp_path, watch):
    watch()
    expected = sbitools.train(small, run_dir=tmp_path / "a", **OPTIONS)
    broken = watch(Broken())
    before = sys.stdout, broken
    got = sbitools.train(small, run_dir=tmp_path / "b", **OPTIONS)
    assert torch.equal(weights(expected), weights(got))
    assert (sys.stdout, sys.stderr) == before
    assert not drawn()
    watch(Terminal()).close()
    with counting("simulations", 2) as bar:
        bar.add()


def test_where_nobody_looks_nothing_is_written(small, tmp_path, capsys):
    sbitools.train(small, run_dir=tmp_path, **OPTIONS)
    assert capsys.readouterr() == ("", "")


def test_members_and_rounds_say_which_they_are(small, tmp_path, watch):
    terminal = watch()
    sbitools.train(small, run_dir=tmp_path / "a", ensemble=2, **OPTIONS)
    assert "member 2: training, epoch" in terminal.getvalue()
    model = LinearGaussian(2, 2, dtype="float32")
    x = model.simulate(model.parameters.design(1, 3), torch.tensor([9]))
    sbitools.train_rounds(
        model, x, n_per_round=100, rounds=2, run_dir=tmp_path / "b", seed=1, workers=1, **OPTIONS
    )
    text = terminal.getvalue()
    assert "round 1: simulations" in text
    assert "round 2: training, epoch" in text


def test_chains_count_observations(watch):
    terminal = watch()
    model = LinearGaussian(2, 3)
    x = observations(model, 2)
    shown = posterior_of(model).sample(x, 100, seed=1)
    assert "chains" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    with showing(False):
        terminal.truncate(0)
        assert torch.equal(posterior_of(model).sample(x, 100, seed=1), shown)
    assert terminal.getvalue().strip("\0") == ""


def test_one_bar_at_a_time_and_silence_holds_within(watch):
    watch()
    with counting("outer", 2) as outer:
        with counting("inner", 2) as inner:
            assert outer.seen
            assert not inner.seen
        with pytest.raises(RuntimeError, match="no"), counting("inner", 2):
            raise RuntimeError("no")
        assert drawn()
    assert not drawn()
    with showing(False), showing(True):
        assert not Bar("x", 1).seen


def test_a_bar_that_is_drawn_elsewhere_does_not_wait(watch):
    watch()
    seen = []
    with counting("outer", 2):
        thread = threading.Thread(target=lambda: seen.append(Bar("x", 1).seen))
        thread.start()
        thread.join(10)
    assert seen == [False]


def test_lines_of_epochs_are_left_out_where_a_bar_is_drawn(watch, capsys):
    watch()
    with counting("training", 2):
        epoch_printer(2)({"epoch": 0, "train_loss": 1.0})
    assert capsys.readouterr().out == ""


def test_the_first_process_of_many_draws(monkeypatch, watch):
    watch()
    monkeypatch.setenv("RANK", "1")
    with counting("training", 2) as bar:
        assert not bar.seen


def test_progress_is_a_truth_value(small, tmp_path):
    with pytest.raises(ConfigError, match="progress"):
        sbitools.train(small, run_dir=tmp_path, progress="yes", **OPTIONS)  # pyright: ignore
