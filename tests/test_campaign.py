"""simulate(): the same store however it is run, and every mishap recorded or explained."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

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
    seeds,
    simulate,
)  # fmt: skip
from sbitools.campaign import CampaignInterrupted, RejectedSimulation, plan
from sbitools.campaign.progress import Progress
from sbitools.campaign.runner import _exit_text
from sbitools.campaign.worker import Worker
from sbitools.errors import CampaignError, ShapeError, StoreError

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
FIELD = FieldSpec("x", ("i",), (3,))


def plain(theta, s):
    return theta.float() + seeds.normal(s, (3,))


def run(path, n=12, function=plain, **options):
    simulator = FunctionSimulator(function, SPACE, FIELD, options.pop("group_size", 1))
    return simulate(simulator, n, path, **({"seed": 5, "workers": 1, "progress": False} | options))


def parts(store):
    return sorted(p.name for p in (store.path / "parts").iterdir())


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run(tmp_path_factory.mktemp("campaign") / "s")


def test_store_holds_what_the_simulator_gives(reference):
    assert reference.seed == 5
    assert reference.design == "random"
    assert torch.equal(reference.theta, SPACE.design(12, 5))
    assert np.array_equal(reference.seeds, seeds.simulation_seeds(5, range(12)))
    assert torch.equal(reference.read(range(12)), plain(reference.theta, reference.seeds))
    assert reference.manifest.simulator == "FunctionSimulator(plain)"
    assert "sbitools" in reference.manifest.code_version
    assert reference.counts()["done"] == 12
    assert sorted(p.name for p in reference.path.iterdir() if p.is_dir()) == ["parts", "running"]
    assert not list((reference.path / "running").iterdir())


def test_two_workers_give_the_same_files(reference, tmp_path):
    store = run(tmp_path / "s", workers=2)
    assert parts(store) == parts(reference)
    assert store.digest() == reference.digest()


def test_resume_and_extension(reference, tmp_path):
    run(tmp_path / "s", 8, task_size=2)
    lost = sorted((tmp_path / "s" / "parts").iterdir())[1]
    stamp, content = {p: p.stat().st_mtime_ns for p in lost.parent.iterdir()}, lost.read_bytes()
    lost.unlink()
    run(tmp_path / "s", 8, task_size=2)
    assert lost.read_bytes() == content
    watcher = SimulationStore(tmp_path / "s")
    store = run(tmp_path / "s", 12)  # extends; the task size is the store's
    assert watcher.counts()["done"] == len(watcher) == 12
    assert store.manifest.segments == (8, 4)
    assert store.manifest.task_size == 2
    assert all(p.stat().st_mtime_ns == t for p, t in stamp.items() if p != lost)
    assert store.digest() == reference.digest()
    with pytest.raises(StoreError, match=r"n of the store .*got 8"):
        run(tmp_path / "s", 8)


class Versioned(FunctionSimulator):
    version = "2"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"seed": 6}, "seed"),
        ({"design": "sobol"}, "design"),
        ({"task_size": 3}, "task_size"),
        ({"group_size": 2}, "group_size"),
        ({"function": lambda theta, s: theta}, "simulator"),
        ({"resume": False}, "existing store"),
    ],
)
def test_a_store_of_another_campaign(reference, options, name):
    with pytest.raises(StoreError, match=name):
        run(reference.path, **options)


def test_a_store_of_other_specifications(reference):
    others = {
        "parameters": FunctionSimulator(
            plain, ParameterSpace([Parameter("a", priors.Uniform(0, 2))]), FIELD
        ),
        "output": FunctionSimulator(plain, SPACE, FieldSpec("y", ("i",), (3,))),
        "source": FunctionSimulator(plain, SPACE, FIELD, source=FIELD),
        "code_version": Versioned(plain, SPACE, FIELD),
    }
    others["code_version"].name = "FunctionSimulator"
    for name, simulator in others.items():
        with pytest.raises(StoreError, match=f"{name} of the store"):
            simulate(simulator, 12, reference.path, seed=5)
    assert reference.counts()["done"] == 12


def test_a_latin_hypercube_cannot_grow(tmp_path):
    run(tmp_path / "s", 4, design="latin_hypercube")
    with pytest.raises(StoreError, match="Latin hypercube"):
        run(tmp_path / "s", 8, design="latin_hypercube")


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"n": 5, "group_size": 2}, {"workers": 0}, {"time_limit": 0},
                {"task_size": 3, "group_size": 2}]
)  # fmt: skip
def test_bad_arguments(tmp_path, options):
    with pytest.raises(CampaignError, match="fix"):
        run(tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_source_groups_and_no_parameters(tmp_path):
    def pair(theta, s):  # members of one group share their source
        shared = seeds.normal(s[::2], (2,), torch.float64).repeat_interleave(2, 0)
        return seeds.normal(s, (3,)), shared

    source = FieldSpec("ic", ("k",), (2,), "float64")
    simulator = FunctionSimulator(pair, ParameterSpace([]), FIELD, 2, source)
    store = simulate(simulator, 8, tmp_path / "s", seed=1, workers=1, progress=False)
    ic = store.read(range(8), "source")
    assert torch.equal(ic[::2], ic[1::2])
    assert len(ic.unique(dim=0)) == 4
    assert torch.equal(store.read(range(8)), seeds.normal(store.seeds, (3,)))
    assert store.manifest.task_size == 2
    (tmp_path / "s" / "parts" / parts(store)[0]).unlink()
    assert simulate(simulator, 8, tmp_path / "s", seed=1, progress=False).digest() == (
        SimulationStore(tmp_path / "s").digest()
    )


# What goes wrong: index -> what its simulation does
FATE = {1: "raise", 4: "nan", 5: "reject", 9: "hang", 12: "die"}


def unlucky(mended):
    fate = {int(seeds.simulation_seeds(5, [i])[0]): what for i, what in FATE.items()}

    def function(theta, s):
        x = plain(theta, s)
        if mended.exists():  # what was missing outside: memory, a licence, a file
            return x
        for row, seed in zip(x, s.tolist(), strict=True):
            match fate.get(seed):
                case "raise":
                    raise ZeroDivisionError(f"at {object()}")
                case "nan":
                    row[1:] = float("nan")
                case "reject":
                    raise RejectedSimulation("no halo formed")
                case "hang":
                    subprocess.Popen(["sleep", "1000"])
                    time.sleep(1000)
                case "die":
                    os.kill(os.getpid(), signal.SIGKILL)
        return x

    return function


@pytest.fixture(scope="module")
def mishaps(tmp_path_factory):
    path = tmp_path_factory.mktemp("mishaps") / "s"
    # 0.5 s is far above the microseconds of a simulation and bounds two hangs: batch and single
    return run(path, 16, unlucky(path.parent / "mended"), workers=2, task_size=4, time_limit=0.5)


def test_only_those_at_fault_fail(mishaps):
    states = mishaps.states()
    assert states[5] == "rejected"
    assert {int(i) for i in np.flatnonzero(states == "failed")} == set(FATE) - {5}
    assert torch.equal(
        mishaps.read(mishaps.done), plain(mishaps.theta, mishaps.seeds)[mishaps.done]
    )


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (1, "ZeroDivisionError: at <object object at 0x...>"),
        (4, "2 of 3 values of x are NaN or infinite"),
        (5, "no halo formed"),
        (9, "no result within the time limit of 0.5 s"),
        (12, "signal 9 (SIGKILL)"),
    ],
)
def test_failures_say_why(mishaps, index, text):
    failure = {f.index: f for f in mishaps.failures()}[index]
    assert text in failure.message
    assert torch.equal(failure.theta, mishaps.theta[index])
    assert failure.seed == int(mishaps.seeds[index])
    if index == 1:
        assert failure.message.startswith("Traceback")
        assert "sbitools/worker.py" not in failure.message


def test_failures_stay_until_asked(mishaps):
    before, digest = parts(mishaps), mishaps.digest()
    flag = mishaps.path.parent / "mended"
    simulator = FunctionSimulator(unlucky(flag), SPACE, FIELD)
    flag.touch()
    options = {"seed": 5, "workers": 1, "progress": False}
    again = simulate(simulator, 16, mishaps.path, **options)
    assert (parts(again), again.digest()) == (before, digest)
    again = simulate(simulator, 16, mishaps.path, retry_failed=True, **options)
    assert again.counts() == {
        "pending": 0, "done": 15, "failed": 0, "rejected": 1, "running": 0
    }  # fmt: skip
    assert torch.equal(again.read(again.done), plain(again.theta, again.seeds)[again.done])


def test_a_simulator_that_breaks_its_word_stops_the_campaign(tmp_path):
    with pytest.raises(ShapeError, match=r"got shape \(1, 4\)"):
        run(tmp_path / "s", function=lambda theta, s: torch.zeros(len(s), 4))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda theta, s: torch.zeros(len(s), 3, dtype=torch.float64), "got dtype float64"),
        (lambda theta, s: torch.zeros(1, 3), r"got shape \(1, 3\)"),
        (lambda theta, s: np.full((len(s), 3), "x", object), "got dtype object"),
        (lambda theta, s: 1.0, r"got shape \(\)"),
    ],
)
def test_what_a_worker_does_not_accept(reference, function, text):
    worker = Worker(FunctionSimulator(function, SPACE, FIELD), str(reference.path))
    verb, error = worker.answer("rows", (0, 2, 0, 2))
    assert verb == "abort"
    assert type(error) is ShapeError
    assert re.search(text, str(error))


def test_groups_are_simulated_whole(reference):
    seen = []

    def function(theta, s):
        seen.append(len(s))
        return plain(theta, s)

    worker = Worker(FunctionSimulator(function, SPACE, FIELD), str(reference.path))
    verb, fields = worker.answer("rows", (3, 5, 2, 6))
    assert (verb, seen) == ("rows", [4])
    assert np.array_equal(fields["x"], reference.read([3, 4]))


def test_exit_texts():
    assert "exit code 3" in _exit_text(3)
    assert "signal 11 (SIGSEGV)" in _exit_text(-11)


def test_a_simulator_that_cannot_be_sent(tmp_path):
    class Awkward:
        def __reduce__(self):
            return int, ("not a number",)

    awkward = Awkward()
    with pytest.raises(CampaignError, match=r"not a number[\s\S]*cloudpickle"):
        run(tmp_path / "s", function=lambda theta, s: awkward)


def test_one_campaign_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("sbitools.store.manifest._LOCK_SECONDS", 0.1)
    go = tmp_path / "go"

    def slow(theta, s):
        while not go.exists():
            time.sleep(0.01)
        return plain(theta, s)

    thread = threading.Thread(target=run, args=(tmp_path / "s", 4, slow))
    thread.start()
    while not list(tmp_path.glob("s/running/*")):
        time.sleep(0.01)
    assert SimulationStore(tmp_path / "s").states().tolist() == ["running"] + 3 * ["pending"]
    with pytest.raises(StoreError, match="no other process writing"):
        run(tmp_path / "s", 4, slow)
    go.touch()
    thread.join()
    assert SimulationStore(tmp_path / "s").counts()["done"] == 4


def test_needs_no_main_guard_and_keeps_stdout_clean(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch, helper\n"
        "from sbitools import *\n".replace("*", "FieldSpec, FunctionSimulator, ParameterSpace, "
                                           "simulate")
        + "def f(theta, s):\n    print('noise'); return torch.full((len(s), 1), helper.VALUE)\n"
        "s = FunctionSimulator(f, ParameterSpace([]), FieldSpec('x', ('i',), (1,)))\n"
        f"store = simulate(s, 2, {str(tmp_path / 's')!r}, seed=0, workers=1)\n"
        "print(store.read([0, 1]).sum().item())\n"
    )  # fmt: skip
    (tmp_path / "helper.py").write_text("VALUE = 1.5\n")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, cwd="/",
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.stdout == "3.0\n"
    assert "2/2 done" in done.stderr


def test_interrupt_is_typed_twice():
    error = CampaignInterrupted("campaign", expected="a", got="b", fix="run again")
    assert isinstance(error, KeyboardInterrupt)
    assert isinstance(error, CampaignError)
    assert "run again" in str(error)


def test_progress_text():
    bar = Progress(100, [10, 0, 0], shown=False)
    assert bar.text == "10/100 done"
    bar._begin -= 10.0
    bar.add([20, 2, 1])
    # 23 in 10 s, 67 to go; the clock may tick within the test: 0.1 s is far below a digit
    assert bar.text == "30/100 done, 2 failed, 1 rejected, 2.3 per s, 0:29 left"


def test_a_planned_campaign_is_the_one_that_is_run(tmp_path, reference):
    simulator = FunctionSimulator(plain, SPACE, FIELD)
    planned = plan(simulator, 12, tmp_path / "s", seed=5)
    assert planned.counts()["pending"] == 12
    assert run(tmp_path / "s").digest() == reference.digest()
    with pytest.raises(StoreError):
        plan(simulator, 12, tmp_path / "s", seed=5)
