"""The training loop on a small regression: resume, early stopping, divergence, averaging."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from sbitools.errors import CheckpointError, TrainingError
from sbitools.seeds import normal
from sbitools.training import TrainingOptions, read_metrics, run_training

HERE = str(Path(__file__).parent)
X = normal(range(64), (3,))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])


def network():
    net = nn.Linear(3, 1)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    return net


@pytest.fixture(autouse=True)
def _forked():
    with torch.random.fork_rng(devices=[]):  # nn.Linear initialises from the global generator
        yield


def loss(module, batch, rng):
    x, y = batch
    jitter = 0.01 * torch.randn(x.shape, generator=rng)
    return ((module(x + jitter) - y) ** 2).mean()


def train_batches(epoch, start):
    for i in range(start, 4):
        yield X[16 * i : 16 * i + 16], Y[16 * i : 16 * i + 16]


def run(path, resume=False, on_epoch=None, batches=train_batches, value=loss, **options):
    net = network()
    options = {"epochs": 8, "learning_rate": 0.1, "checkpoint_seconds": 0.0, "warmup_steps": 2,
               "patience": None} | options  # fmt: skip
    history = run_training(
        net, value, batches, lambda: iter([(X, Y)]), TrainingOptions(**options), path,
        steps_per_epoch=4, resume=resume, on_epoch=on_epoch,
    )  # fmt: skip
    return net, history


def test_a_linear_map_is_learned_and_the_history_tells(tmp_path):
    net, history = run(tmp_path, epochs=40)
    # The jitter of 0.01 biases the weights by 1e-4; optimisation leaves a little more.
    torch.testing.assert_close(net.weight[0], torch.tensor([1.0, -2.0, 0.5]), rtol=0, atol=0.05)
    assert history.stopped == "epochs"
    assert [r["epoch"] for r in read_metrics(tmp_path)] == list(range(40))
    assert history.best_validation_loss == min(r["validation_loss"] for r in history.epochs)


@pytest.mark.parametrize("stop_at", [1, 5, 14, 23])
def test_a_run_that_is_cut_anywhere_resumes_bit_for_bit(tmp_path, stop_at):
    whole, history = run(tmp_path / "whole")
    count = 0

    def cut(module, batch, rng):
        nonlocal count
        if module.training:
            count += 1
            if count == stop_at:
                raise KeyboardInterrupt
        return loss(module, batch, rng)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", value=cut)
    again, resumed = run(tmp_path / "cut", resume=True)
    assert torch.equal(again.weight, whole.weight)
    drop = {"seconds"}
    for one, two in zip(history.epochs, resumed.epochs, strict=True):
        assert {k: v for k, v in one.items() if k not in drop} == {
            k: v for k, v in two.items() if k not in drop
        }
    assert len(read_metrics(tmp_path / "cut")) == 8


def test_patience_stops_and_the_best_weights_are_kept(tmp_path):
    def worse(module, batch, rng):
        value = loss(module, batch, rng)
        return value if module.training else value + module.weight.norm() * 10

    _, history = run(tmp_path, value=worse, epochs=50, patience=3, ema_decay=0.0)
    assert history.stopped == "patience"
    assert len(history.epochs) == history.best_epoch + 4


def test_divergence_is_a_typed_error(tmp_path):
    def broken(module, batch, rng):
        return loss(module, batch, rng) * math.nan

    with pytest.raises(TrainingError, match="lower learning_rate"):
        run(tmp_path, value=broken)


def test_a_single_bad_batch_is_passed_over(tmp_path):
    calls = []

    def once(module, batch, rng):
        calls.append(1)
        return loss(module, batch, rng) * (math.nan if len(calls) == 3 else 1.0)

    net, _ = run(tmp_path, value=once, epochs=40)
    assert bool(torch.isfinite(net.weight).all())


def test_another_run_in_the_folder_is_refused(tmp_path):
    run(tmp_path, epochs=2)
    with pytest.raises(TrainingError, match=r"learning_rate.*another run_dir"):
        run(tmp_path, resume=True, epochs=2, learning_rate=0.2)
    state = next(tmp_path.glob("state-*"))
    (state / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError):
        run(tmp_path, resume=True, epochs=2)


def test_the_time_limit_stops_a_run(tmp_path):
    def slow(epoch, start):
        for batch in train_batches(epoch, start):
            time.sleep(0.05)
            yield batch

    _, history = run(tmp_path, batches=slow, epochs=1000, time_limit=0.3)
    assert history.stopped == "time limit"


_SCRIPT = """
import sys, time, torch
sys.path.insert(0, {here!r})
import test_training as t
def slow(epoch, start):
    for batch in t.train_batches(epoch, start):
        time.sleep(0.02)
        yield batch
net, _ = t.run({path!r}, resume=True, batches=slow)
print(net.weight.tolist())
"""


def test_kill_nine_then_resume(tmp_path):
    whole, _ = run(tmp_path / "whole")
    code = textwrap.dedent(_SCRIPT).format(
        here=HERE, path=str(tmp_path / "cut")
    )  # fmt: skip
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(read_metrics(tmp_path / "cut")) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == str(whole.weight.tolist())


@pytest.mark.slow
def test_two_ranks_train_like_one(tmp_path):
    """Under torchrun the mean of the ranks' gradients is the gradient of the batch."""
    script = tmp_path / "ddp.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, sys, torch
            sys.path.insert(0, {HERE!r})
            import test_training as t
            def plain(module, batch, rng):
                return ((module(batch[0]) - batch[1]) ** 2).mean()
            net, _ = t.run(sys.argv[1], value=plain)
            if int(os.environ.get("RANK", "0")) == 0:
                print("WEIGHT", net.weight.tolist())
            """
        )
    )

    def weights(command):
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
        line = next(x for x in done.stdout.splitlines() if x.startswith("WEIGHT"))
        return torch.tensor(eval(line.removeprefix("WEIGHT")))  # noqa: S307  (our own output)

    one = weights([sys.executable, str(script), str(tmp_path / "one")])
    two = weights(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         str(script), str(tmp_path / "two")]
    )  # fmt: skip
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)  # sums in another order


def test_a_run_on_other_data_is_not_resumed(tmp_path):
    options = TrainingOptions(epochs=1, warmup_steps=0)

    def start(identity, resume):
        return run_training(
            network(), loss, train_batches, lambda: iter([(X, Y)]), options, tmp_path,
            steps_per_epoch=4, identity=identity, resume=resume,
        )  # fmt: skip

    start({"store": "abc"}, resume=False)
    start({"store": "abc"}, resume=True)
    with pytest.raises(TrainingError, match="store"):
        start({"store": "other"}, resume=True)


def test_more_time_takes_a_stopped_run_to_the_uninterrupted_end(tmp_path):
    def slow(epoch, start):
        for batch in train_batches(epoch, start):
            time.sleep(0.05)
            yield batch

    whole, _ = run(tmp_path / "whole")
    _, cut = run(tmp_path / "cut", batches=slow, time_limit=0.3)
    assert cut.stopped == "time limit"
    again, history = run(tmp_path / "cut", resume=True)
    assert history.stopped == "epochs"
    assert torch.equal(again.weight, whole.weight)


def test_a_loss_that_is_not_finite_once_can_be_written_down(tmp_path):
    calls = []

    def once(module, batch, rng):
        calls.append(module.training)
        first = not module.training and calls.count(False) == 1
        return loss(module, batch, rng) * (math.inf if first else 1.0)

    _, history = run(tmp_path, value=once, epochs=3)
    assert history.epochs[0]["validation_loss"] == math.inf
    assert json.loads(json.dumps(history.to_dict(), allow_nan=False))["epochs"][0]
    assert type(history).from_dict(history.to_dict()) == history
    assert read_metrics(tmp_path)[0]["validation_loss"] is None
