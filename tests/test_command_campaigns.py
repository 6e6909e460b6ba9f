"""Campaigns of other programs: the same store by any engine, whatever the programs do."""

import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sbitools import CommandSimulator, FieldSpec, Parameter, ParameterSpace, priors, simulate
from sbitools.campaign.program import CannotRun
from sbitools.cli import main
from sbitools.errors import StoreError
from sbitools.seeds import simulation_seeds
from sbitools.store import SimulationStore

from .test_command import alive, here, script  # noqa: F401  (the first is a fixture)

SPACE = ParameterSpace([Parameter("a", priors.Normal(0, 1))])
FIELD = FieldSpec("x", ("i",), (2,), "float64")
SMALL = (1 << 31) - 1
SIMPLE = "sh sim.sh {a} {seed32} {output_file}.txt"
N = 16
WRITE = 'echo $1 $2 > "$3"'
DEEDS = {
    1: "echo unlucky >&2; exit 3",
    2: "echo begun >&2; sleep 1000",
    5: f"(sh -c 'echo > $PPID.child; exec sleep 1000') & {WRITE}; sleep 0.2",
    6: f"setsid sh -c 'echo > $$.child; exec sleep 1000' & {WRITE}; sleep 0.2",
    8: "exit 0",
    9: 'echo 1 2 3 > "$3"',
    10: 'echo nan 1 > "$3"',
    11: "head -c 3000000 /dev/zero | tr '\\0' 'e' >&2; exit 4",
    13: "kill -9 $PPID; sleep 1",
    14: 'rm -rf "${3%/*}"; exit 6',
}
TOLD = {
    1: "unlucky", 2: "begun", 8: "wrote no", 9: "shape (3,)", 11: "eeee", 13: "signal 9", 14: "6",
}  # fmt: skip
LETHAL = 13  # for its worker


def deeds(folder, chosen):
    """A program that does something else for some of the seeds."""
    small = [1 + int(s) % SMALL for s in simulation_seeds(5, range(N))]
    cases = "".join(f"{small[i]}) {DEEDS[i]};;\n" for i in chosen)
    script(folder / "deeds.sh", f"echo > $$.child\ncase $2 in\n{cases}*) {WRITE};;\nesac\n")
    command = f"sh {folder}/deeds.sh {{a}} {{seed32}} {{output_file}}.txt"
    return CommandSimulator(command, SPACE, FIELD)


def truth(store):
    return np.column_stack([store.theta[:, 0], [1 + int(s) % SMALL for s in store.seeds]])


def files(store):
    return {p.name: p.read_bytes() for p in (store.path / "parts").iterdir()}


def run(simulator, path, n=N, limit=6, **options):
    return simulate(simulator, n, path, seed=5, time_limit=limit, progress=False, **options)


def check(store, failed):
    texts = {f.index: f.message for f in store.failures()}
    assert set(texts) == set(failed)
    assert all(TOLD.get(index, "") in text for index, text in texts.items())
    assert "time limit of 6 s" in texts[2]
    assert "Traceback" not in texts[1]
    assert np.array_equal(store.read(store.done), truth(store)[store.done])
    store.verify()


def test_each_is_right_or_failed_whatever_the_workers(here):  # noqa: F811
    simulator = deeds(here, set(DEEDS) - {LETHAL})
    one = run(simulator, here / "one", workers=1, task_size=4)
    assert not alive(here)
    check(one, [1, 2, 8, 9, 10, 11, 14])
    two = run(simulator, here / "two", workers=2, task_size=4)
    assert files(two) == files(one)
    assert one.manifest.identity["command"] == simulator.command


@pytest.mark.slow
def test_one_that_kills_its_worker(here):  # noqa: F811
    store = run(deeds(here, [1, 2, LETHAL]), here / "s", task_size=8)
    check(store, [1, 2, LETHAL])
    assert not alive(here)


def test_one_program_in_one_part_unless_there_are_thousands(here):  # noqa: F811
    script("sim.sh", WRITE)
    simulator = CommandSimulator(SIMPLE, SPACE, FIELD)
    assert [simulator.task_size(n, 64) for n in (1, 999, 2500, 10**6)] == [1, 1, 2, 64]
    pairs = CommandSimulator(SIMPLE, SPACE, FIELD, group_size=2)
    assert [pairs.task_size(n, 64) for n in (2, 2500, 3000)] == [2, 2, 4]
    store = simulate(pairs, 4, here / "s", seed=1, workers=1, progress=False)
    assert len(files(store)) == 2
    assert np.array_equal(store.read(store.done), truth(store))


def test_a_killed_driver_leaves_nothing_and_resumes(here):  # noqa: F811
    script("sim.sh", f"echo > $$.child; [ -e go ] || sleep 1000 & wait; {WRITE}")
    code = (
        "import sys, tempfile; sys.path.insert(0, sys.argv[1]); tempfile.tempdir = sys.argv[2]\n"
        "from tests.test_command_campaigns import *\n"
        "run(CommandSimulator(SIMPLE, SPACE, FIELD), 's', limit=500)"
    )
    arguments = [str(Path(__file__).parents[1]), tempfile.gettempdir()]
    driver = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=here)
    end = time.monotonic() + 120
    while len(list(here.glob("*.child"))) < 2:
        assert time.monotonic() < end
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    while alive(here) or list(Path(tempfile.gettempdir()).iterdir()):
        assert time.monotonic() < end, "programs or folders are left"
        time.sleep(0.05)
    Path("go").touch()
    store = run(CommandSimulator(SIMPLE, SPACE, FIELD), here / "s", limit=500)
    assert store.counts()["done"] == N
    assert np.array_equal(store.read(store.done), truth(store))


def test_another_program_or_command_is_refused(here):  # noqa: F811
    script("sim.sh", WRITE)
    options = {"seed": 5, "progress": False, "workers": 1}
    simulate(CommandSimulator(SIMPLE, SPACE, FIELD), 2, here / "s", **options)
    other = CommandSimulator(SIMPLE.replace("{a}", "1{a}"), SPACE, FIELD)
    with pytest.raises(StoreError, match="--command"):
        simulate(other, 2, here / "s", **options)
    script("sim.sh", WRITE + "\necho corrected\n")
    with pytest.raises(StoreError, match=r"file sim\.sh"):
        simulate(CommandSimulator(SIMPLE, SPACE, FIELD), 4, here / "s", **options)
    stated = CommandSimulator(SIMPLE, SPACE, FIELD, version="1")
    simulate(stated, 2, here / "t", **options)
    script("sim.sh", WRITE)
    assert len(simulate(stated, 3, here / "t", **options)) == 3


def test_a_program_that_changes_while_it_runs_stops_the_campaign(here):  # noqa: F811
    script("sim.sh", f"{WRITE}; echo >> sim.sh")
    with pytest.raises(CannotRun, match=r"sim\.sh"):
        run(CommandSimulator(SIMPLE, SPACE, FIELD), here / "s", workers=1)
    assert SimulationStore(here / "s").counts()["done"] == 0


def test_dask_gives_the_same_store(here):  # noqa: F811
    distributed = pytest.importorskip("distributed")
    simulator = deeds(here, [1, 5, 6])
    local = run(simulator, here / "local", n=8, task_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as client:
            store = run(simulator, here / "dask", n=8, task_size=4, client=client)
    assert files(store) == files(local)
    end = time.monotonic() + 20
    while alive(here) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(here)


LINE = 'awk -v a="$1" -v b="$2" "BEGIN {for (i = 0; i < 6; i++) print a + b * i}" > "$3"'
COMMAND = ["--command", "sh line.sh {mu} {slope} {output_file}.txt {seed}"]


def test_on_the_command_line(config, capsys, here):  # noqa: F811
    def simulated(*more, store="reference/train", n=4):
        options = ["--set", f"reference.n_train={n}", "--set", "workers=1"]
        code = main(["simulate", str(config), "--store", store, *options, *more])
        captured = capsys.readouterr()
        return code, " ".join((captured.out + captured.err).split())

    script("line.sh", LINE)
    assert simulated("--command", "sh line.sh {mu} {output_file}")[0] == 2
    assert simulated(*COMMAND, store="emulated/train")[0] == 2
    assert simulated(*COMMAND, "--export-design", "d.csv")[0] == 2
    assert simulated(*COMMAND)[0] == 0
    store = SimulationStore(here / "results" / "reference" / "train")
    line = store.theta[:, :1] + store.theta[:, 1:] * torch.arange(6)
    assert np.allclose(store.read(store.done), line, atol=1e-5)
    assert "line.sh" in store.manifest.identity["command"]
    assert simulated()[0] == 0  # it is done, whoever asks
    assert simulated(*COMMAND)[0] == 0
    for more in ((), ("--command", COMMAND[1] + " 2")):
        code, text = simulated(*more, n=5)
        assert code == 2
        assert "pass that command again" in text
    assert simulated("--command", COMMAND[1] + " 2")[0] == 2
    assert simulated(*COMMAND, n=5)[0] == 0
    assert len(SimulationStore(store.path)) == 5
    assert simulated(n=5)[0] == 0
    script("line.sh", LINE + "\n# corrected\n")
    code, text = simulated(*COMMAND, n=5)
    assert code == 2
    assert "file line.sh" in text
