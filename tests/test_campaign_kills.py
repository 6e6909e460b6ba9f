"""Kill a campaign anywhere: run it again, and the store equals the uninterrupted one."""

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, FunctionSimulator, ParameterSpace, SimulationStore, seeds, simulate
from sbitools.campaign import CampaignInterrupted
from sbitools.errors import StoreError

FIELD = FieldSpec("x", ("i",), (500,))
N, TASK = 120, 4
PAUSE = 0.02  # of one simulation: a campaign of 2 workers takes 1.2 s and 30 parts


class Slow:
    """Its pause and its folder say how it is simulated, and not what: its `identity` is a text."""

    parameters, output, identity = ParameterSpace([]), FIELD, "slow"

    def __init__(self, folder, pause=PAUSE):
        self.folder, self.pause = folder, pause

    def simulate(self, theta, s):
        (self.folder / f"{os.getpid()}.pid").touch()
        if (self.folder / "leaves").exists():
            (self.folder / "s" / "parts" / ".part-half-written.0123abcd.tmp").touch()
        if (self.folder / "full").exists():  # a quota, enforced by the kernel
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        time.sleep(self.pause * len(s))
        return seeds.normal(s, (500,))


def run(folder, pause=PAUSE, **options):
    return simulate(
        Slow(folder, pause), N, folder / "s", seed=2, task_size=TASK, progress=False,
        **options,
    )  # fmt: skip


def files(store):
    return {p.name: p.read_bytes() for p in (store.path / "parts").iterdir()}


def finished(folder):
    return len(list(folder.glob("s/parts/part-*.h5")))


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.002)


def workers(folder):
    """Worker processes that are alive."""
    pids = [int(f.stem) for f in folder.glob("*.pid")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and not zombie(pid)]


def zombie(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"), pause=0.0)


def assert_equals(store, reference):
    assert files(store) == files(reference)
    assert store.digest() == reference.digest()
    assert not list((store.path / "running").iterdir())
    store.verify()


def test_kill_the_driver_at_three_random_moments(tmp_path, uninterrupted):
    rng = np.random.default_rng(11)
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from tests.test_campaign_kills import run\nrun(Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(tmp_path)]
    for _ in range(3):
        before = finished(tmp_path)
        driver = subprocess.Popen(command, cwd=tmp_path)
        more = int(rng.integers(1, 8))
        wait_for(lambda: finished(tmp_path) >= before + more)  # noqa: B023  (runs at once)
        time.sleep(rng.uniform(0, 2 * PAUSE * TASK))
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
        assert before + more <= finished(tmp_path) < N // TASK, "killed too late: not a test"
        wait_for(lambda: not workers(tmp_path))  # they notice that they are orphans
        assert SimulationStore(tmp_path / "s").counts()["running"] == 0
    (tmp_path / "s" / "parts" / ".part-half-written.tmp").write_bytes(b"x")
    (tmp_path / "s" / "running").mkdir(exist_ok=True)
    (tmp_path / "s" / "running" / "0-4").touch()
    assert_equals(run(tmp_path, pause=0.0), uninterrupted)


def hold(folder):
    """A campaign whose simulator holds the interpreter's lock, beside what it started."""

    def function(theta, s):
        for options in ({}, {"start_new_session": True}):
            child = subprocess.Popen(["sleep", "1000"], **options)
            (folder / f"{child.pid}.pid").touch()
        (folder / f"{os.getpid()}.pid").touch()
        ctypes.PyDLL(None).sleep(1000)  # the lock is kept: no thread of the worker runs

    simulate(
        FunctionSimulator(function, ParameterSpace([]), FIELD), 2, folder / "s", seed=2,
        workers=1, progress=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["SIGKILL", *(pytest.param(n, marks=pytest.mark.slow) for n in ("SIGHUP", "SIGABRT"))]
)
def test_all_ends_with_the_driver_whatever_the_simulator_does(tmp_path, name):
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from tests.test_campaign_kills import hold\nhold(Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(tmp_path)]
    driver = subprocess.Popen(command, cwd=tmp_path)
    wait_for(lambda: len(workers(tmp_path)) == 3)
    driver.send_signal(getattr(signal, name))
    driver.wait()
    wait_for(lambda: not workers(tmp_path), 10.0)


def test_kill_workers_at_three_random_moments(tmp_path, uninterrupted):
    rng, killed = np.random.default_rng(12), []

    def killer():
        for _ in range(3):
            alive = set(workers(tmp_path)) - set(killed)
            while not alive:
                time.sleep(0.01)
                alive = set(workers(tmp_path)) - set(killed)
            time.sleep(rng.uniform(0.02, 0.3))
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim := max(alive), signal.SIGKILL)
                killed.append(victim)

    thread = threading.Thread(target=killer)
    thread.start()
    store = run(tmp_path, pause=0.05)
    thread.join()
    assert len(killed) == 3
    assert_equals(store, uninterrupted)
    assert not workers(tmp_path)


def test_what_a_killed_writer_left_is_gone_at_the_end(tmp_path, uninterrupted):
    (tmp_path / "leaves").touch()
    assert_equals(run(tmp_path, pause=0.0, workers=1), uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_workers_and_resumes(tmp_path, uninterrupted, number):
    def interrupter():
        wait_for(lambda: finished(tmp_path) >= 2)
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=interrupter)
    thread.start()
    with pytest.raises(CampaignInterrupted, match="run the same command again"):
        run(tmp_path)
    thread.join()
    assert not workers(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    assert 2 <= finished(tmp_path) < N // TASK
    if number == signal.SIGTERM:
        assert_equals(run(tmp_path, pause=0.0), uninterrupted)


def test_a_hanging_batch_is_interrupted_too(tmp_path):
    def interrupter():
        wait_for(lambda: workers(tmp_path))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupter)
    thread.start()
    with pytest.raises(CampaignInterrupted):
        run(tmp_path, pause=1000.0, workers=1)
    thread.join()
    assert not workers(tmp_path)


def test_a_file_size_limit_loses_nothing(tmp_path, uninterrupted):
    options = {"seed": 2, "task_size": TASK, "progress": False, "workers": 1}
    (tmp_path / "full").touch()
    with pytest.raises(StoreError, match=r"room for .*free some space and run the same command"):
        simulate(Slow(tmp_path, 0.0), N, tmp_path / "s", **options)
    assert finished(tmp_path) == 0
    assert not list((tmp_path / "s" / "parts").iterdir())
    (tmp_path / "full").unlink()
    assert_equals(simulate(Slow(tmp_path, 0.0), N, tmp_path / "s", **options), uninterrupted)


@pytest.fixture
def small_disk(tmp_path):
    mount = shutil.which("mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small tmpfs needs privileges")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk, uninterrupted):
    with pytest.raises(StoreError, match="No space left on device"):
        run(small_disk, pause=0.0, workers=1)
    kept = finished(small_disk)
    assert 0 < kept < N // TASK
    assert not list(small_disk.glob("s/parts/.*"))
    store = SimulationStore(small_disk / "s")
    store.verify()
    assert torch.equal(store.read(store.done), uninterrupted.read(store.done))
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    assert_equals(run(small_disk, pause=0.0, workers=1), uninterrupted)


def test_a_damaged_part_is_named_and_made_again(tmp_path, uninterrupted):
    shutil.copytree(uninterrupted.path, tmp_path / "s")
    part = sorted((tmp_path / "s" / "parts").iterdir())[3]
    raw = part.read_bytes()
    part.write_bytes(raw[: len(raw) // 3])
    with pytest.raises(StoreError, match=rf"delete {part} and run the campaign again"):
        run(tmp_path)
    part.unlink()
    assert_equals(run(tmp_path, pause=0.0, workers=1), uninterrupted)
