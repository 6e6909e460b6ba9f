"""A campaign among other processes: two at once, closed files, no room for another.

What cannot be had: a driver that prints what its own streams cannot encode (latin-1, ASCII), or
whose text Python itself cannot decode (`python -c` in a POSIX locale without UTF-8 mode), fails by
itself, whatever the package does.
"""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from sbitools import FunctionSimulator, SimulationStore
from sbitools.campaign import plan
from sbitools.errors import CampaignError, StoreError
from sbitools.store.manifest import prepare_folder

from .test_campaign import FIELD, SPACE, plain, run


def test_one_of_two_begins_a_store(tmp_path, monkeypatch):
    both, outcomes = threading.Barrier(2), []

    def prepared(path):
        prepare_folder(path)
        both.wait()

    def create(seed):
        try:
            simulator = FunctionSimulator(plain, SPACE, FIELD)
            outcomes.append(plan(simulator, 4, tmp_path / "s", seed=seed))
        except StoreError as error:
            outcomes.append(str(error))

    monkeypatch.setattr("sbitools.store.store.prepare_folder", prepared)
    threads = [threading.Thread(target=create, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (error,) = (o for o in outcomes if isinstance(o, str))
    (store,) = (o for o in outcomes if not isinstance(o, str))
    assert "got an existing store" in error
    assert torch.equal(SimulationStore(tmp_path / "s").theta, SPACE.design(4, store.seed))


def test_a_driver_without_stdin_stdout_and_stderr(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "from tests.test_campaign_system import noisy, run\n"
        "store = run(Path(sys.argv[1]), 4, noisy, task_size=2, progress=True)\n"
        "(store.path / 'digest').write_text(store.digest())\n"
    )
    subprocess.run(
        ["sh", "-c", f"exec {sys.executable} {script} {tmp_path / 's'} 0<&- 1>&- 2>&-"],
        check=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    store = SimulationStore(tmp_path / "s")
    assert (tmp_path / "s" / "digest").read_text() == store.digest()
    assert torch.equal(store.read(range(4)), plain(store.theta, store.seeds))


def noisy(theta, s):
    for fd in (1, 2):
        os.write(fd, b"noise")
    return plain(theta, s)


def test_no_room_for_a_process(tmp_path, monkeypatch):
    def full(*args, **options):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("sbitools.campaign.runner.subprocess.Popen", full)
    with pytest.raises(CampaignError, match=r"temporarily unavailable; fix: .*ulimit -u"):
        run(tmp_path / "s")
