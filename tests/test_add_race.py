"""Several processes add to one store: one after the other, and none replaces another's result."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.errors import StoreError
from sbitools.store.manifest import lock

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
FIELD = FieldSpec("x", ("i",), (2000,))

ADDER = """
import sys, time
import numpy as np
from sbitools import SimulationStore
from sbitools.errors import StoreError
store, value, start = SimulationStore(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
for i in range(len(store)):
    while time.time() < start + 0.05 * i:
        pass
    try:
        store.add(i, np.full(2000, value, "f4"))
        print("added")
    except StoreError as error:
        print("refused" if "never replaced" in str(error) else error)
"""


def test_of_two_that_add_the_same_simulation_one_is_refused(tmp_path):
    """A job that a scheduler ran twice, with other content: the store stays readable."""
    n = 30
    store = SimulationStore.create(
        tmp_path / "s", SPACE, FIELD, SPACE.design(n, 1), range(n), task_size=1
    )
    command = [sys.executable, "-c", ADDER, str(store.path)]
    processes = [
        subprocess.Popen([*command, str(k), str(time.time() + 8)], stdout=subprocess.PIPE,
                         text=True, cwd=Path(__file__).parents[1])
        for k in range(2)
    ]  # fmt: skip
    answers = [p.communicate()[0].split("\n")[:-1] for p in processes]
    assert [sorted(pair) for pair in zip(*answers, strict=True)] == [["added", "refused"]] * n
    store = SimulationStore(store.path)
    kept = [float(k) for k in store.read(range(n))[:, 0]]
    assert kept == [float(a == "refused") for a in answers[0]]
    assert not (store.path / ".adding").exists()


def test_the_lock_of_a_campaign_names_its_owner(tmp_path, monkeypatch):
    monkeypatch.setattr("sbitools.store.manifest._LOCK_SECONDS", 0.1)
    planned = SimulationStore.create(tmp_path / "s", SPACE, FIELD, SPACE.design(4, 1), range(4))
    with (
        lock(planned.path, exclusive=True),
        pytest.raises(StoreError, match=rf"running campaign \(process {os.getpid()} on"),
    ):
        planned.add(0, np.zeros(2000, "f4"))
