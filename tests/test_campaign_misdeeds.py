"""A simulator may do anything to its process: each row is right or failed, and nothing is left.

The law, for every misdeed: the campaign ends; a simulation is done, and then equal to what its
seed gives, or failed with a text; no process that it started lives on; the driver is as before.

A simulation that computes for ever is no misdeed without a time limit: nobody can tell it from one
that is slow. (Nested texts that triple, under a lifted limit of recursion, are of that kind: no
stack overflows, each step just takes three times as long as the last.) Likewise a simulator that
draws from a global generator cannot be reproducible: seeds are arguments.
"""

import os
import resource
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, FunctionSimulator, Parameter, ParameterSpace, priors, seeds
from sbitools.campaign import simulate

from .misdeeds import DONE, FAILED, LETHAL

SPACE = ParameterSpace([Parameter("a", priors.Normal(0, 1))])
FIELD = FieldSpec("x", ("i",), (3,))
LIMIT = 20.0  # seconds; all but two misdeeds take milliseconds


def truth(theta, s):
    return theta.float() + seeds.normal(s, (3,))


def misbehaving(folder, deeds, first=1, every=2):
    """A simulator whose simulations first, first + every, ... do one deed each."""
    numbers = [first + every * i for i in range(len(deeds))]
    fate = dict(zip(seeds.simulation_seeds(5, numbers).tolist(), deeds, strict=True))

    def function(theta, s):
        x = truth(theta, s)
        for seed in s.tolist():
            if seed in fate:
                fate[seed](folder)
        return x

    return FunctionSimulator(function, SPACE, FIELD), numbers


def alive(folder):
    found = []
    for file in folder.glob("*.child"):
        try:
            stat = Path(f"/proc/{file.stem}/stat").read_text()
        except OSError:
            continue
        if stat.rpartition(")")[2].split()[0] not in "ZX":
            found.append(int(file.stem))
    return found


def own_state():
    """Of this process, which is the driver."""
    mask = os.umask(0)
    os.umask(mask)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    limits = [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_STACK)]
    files = list(Path("/proc/self/fd").iterdir())
    return (
        Path.cwd(), mask, handlers, limits, len(files), dict(os.environ),
        torch.get_default_dtype(), torch.get_num_threads(), threading.active_count(),
    )  # fmt: skip


def check(folder, deeds, workers, states, limit=LIMIT):
    simulator, bad = misbehaving(folder, deeds)
    before = own_state()
    store = simulate(
        simulator, max(bad) + 2, folder / "s", seed=5, task_size=2, workers=workers,
        time_limit=limit, progress=False,
    )  # fmt: skip
    end = time.monotonic() + 10.0  # threads of the driver that only wait for a process to end
    while own_state() != before and time.monotonic() < end:
        time.sleep(0.05)
    assert own_state() == before
    assert not alive(folder)
    done = store.done
    assert torch.equal(store.read(done), truth(store.theta, store.seeds)[done])
    found = store.states()
    assert set(np.delete(found, bad)) == {"done"}
    for deed, index, state in zip(deeds, bad, states, strict=True):
        assert found[index] in state, deed.__name__
    assert all(f.message.strip() for f in store.failures())
    store.verify()
    for name in ("sbitools.campaign", "guard.py"):
        assert not children(name)


def children(name):
    """Processes of this one whose command line has `name`."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == os.getpid() and name in (folder / "cmdline").read_text():
                found.append(folder.name)
        except (OSError, IndexError):
            continue
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_misdeeds_that_a_worker_survives(tmp_path, workers):
    deeds = [*DONE.values(), *FAILED.values()]
    check(tmp_path, deeds, workers, len(DONE) * [["done"]] + len(FAILED) * [["failed"]])


def test_a_death_beside_children_that_hold_the_connection_and_an_overflow(tmp_path):
    deeds = [LETHAL["die_beside_a_pool"], LETHAL["overflow_the_stack"]]
    check(tmp_path, deeds, 1, 2 * [["failed"]])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("deed", LETHAL.values(), ids=LETHAL)
def test_every_lethal_misdeed(tmp_path, deed, workers):
    sleeps = deed.__name__ in ("hold_the_lock_too_long", "stop_itself", "triple_a_text")
    # what was written to the connection comes before the answer, but after the part
    states = ["failed", "done"] if deed.__name__ == "write_to_all_files" else ["failed"]
    check(tmp_path, [deed], workers, [states], 2.0 if sleeps else LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("deed", (DONE | FAILED).values(), ids=DONE | FAILED)
def test_every_other_misdeed(tmp_path, deed):
    check(tmp_path, [deed, deed], 1, 2 * [["done" if deed.__name__ in DONE else "failed"]])
