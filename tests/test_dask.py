"""A Dask cluster gives the same bits as local processes."""

import contextlib
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, FunctionSimulator, Parameter, ParameterSpace, priors, seeds
from sbitools.campaign import simulate
from sbitools.errors import CampaignError, ShapeError

distributed = pytest.importorskip("distributed")

# Dask's own: sockets and event loops that its threads close after the client says it is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
FIELD = FieldSpec("x", ("i",), (3,))
OPTIONS = {"seed": 5, "task_size": 2, "progress": False}


def make(folder=None, fatal=()):
    lethal = {int(s) for s in seeds.simulation_seeds(5, fatal)}
    once = folder / "once" if folder else None

    def function(theta, s):
        if once is not None and not once.exists():
            once.touch()
            os.kill(os.getppid(), signal.SIGKILL)  # the Dask worker, not its child
        if lethal & set(s.tolist()):
            raise ValueError("unlucky")
        x = theta.float() + seeds.normal(s, (3,))
        x[theta[:, 0] > 0.9] = float("inf")
        return x

    simulator = FunctionSimulator(function, SPACE, FIELD)
    simulator.identity = "unlucky"  # where it kills its worker changes nothing in x
    return simulator


@pytest.fixture(scope="module")
def client():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


def files(store):
    return {p.name: p.read_bytes() for p in (store.path / "parts").iterdir()}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return simulate(make(fatal=[7]), 16, tmp_path_factory.mktemp("local") / "s", **OPTIONS)


def test_a_cluster_gives_the_same_store(client, local, tmp_path):
    store = simulate(make(fatal=[7]), 16, tmp_path / "s", client=client, **OPTIONS)
    assert files(store) == files(local)
    assert store.digest() == local.digest()
    assert 7 in [f.index for f in store.failures()]
    done = local.done
    assert np.array_equal(store.done, done)
    assert torch.equal(store.read(done), local.read(done))


def test_a_lost_dask_worker_changes_nothing(client, local, tmp_path):
    store = simulate(make(tmp_path, fatal=[7]), 16, tmp_path / "s", client=client, **OPTIONS)
    assert (tmp_path / "once").exists()
    assert files(store) == files(local)


def test_errors_cross_the_cluster_whole(client, tmp_path):
    wrong = FunctionSimulator(lambda theta, s: torch.zeros(len(s), 9), SPACE, FIELD)
    with pytest.raises(ShapeError, match=r"got shape \(2, 9\)"):
        simulate(wrong, 4, tmp_path / "s", client=client, **OPTIONS)


def test_a_cluster_that_loses_every_try_is_named(client, tmp_path, monkeypatch):
    def function(theta, s):
        os.kill(os.getppid(), signal.SIGKILL)

    monkeypatch.setattr("sbitools.campaign.cluster._TRIES", 1)
    monkeypatch.setattr("sbitools.campaign.cluster._LOST_TRIES", 1)
    with pytest.raises(CampaignError, match="run again to resume"):
        simulate(
            FunctionSimulator(function, SPACE, FIELD), 2, tmp_path / "s", client=client, **OPTIONS
        )


@pytest.fixture
def empty():
    """A cluster that has no worker yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, processes=True, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as client:
            yield cluster, client


def truth(theta, s):
    return theta.float() + seeds.normal(s, (3,))


def slow(theta, s):
    time.sleep(0.2)
    return truth(theta, s)


SLOW = FunctionSimulator(slow, SPACE, FIELD)


def test_workers_that_come_late_or_vanish_are_waited_for(empty, tmp_path, capfd):
    cluster, client = empty
    parts = tmp_path / "s" / "parts"

    def come_and_go():
        time.sleep(1.0)
        for least in (2,):
            cluster.scale(1)
            while len(list(parts.glob("part-*"))) < least:
                time.sleep(0.05)
            (victim,) = client.run(os.getpid).values()
            cluster.scale(0)  # nobody starts another
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            while client.nthreads():
                time.sleep(0.05)
            time.sleep(1.0)
        cluster.scale(2)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    store = simulate(SLOW, 16, tmp_path / "s", client=client, **OPTIONS | {"progress": True})
    thread.join()
    assert store.counts()["done"] == 16
    assert torch.equal(store.read(range(16)), truth(store.theta, store.seeds))
    assert "no Dask worker answers; waiting up to 300 s" in capfd.readouterr().err


def test_a_cluster_without_workers_is_not_waited_for_for_ever(empty, tmp_path, monkeypatch):
    monkeypatch.setattr("sbitools.campaign.cluster._PATIENCE_SECONDS", 0.5)
    with pytest.raises(CampaignError, match=r"a worker within 0.5 s; got none; fix: start"):
        simulate(SLOW, 4, tmp_path / "s", client=empty[1], **OPTIONS)
