"""Locks have an owner, who is named, and die with it."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sbitools.disk.locks import Taken, held


def test_the_owner_is_named_and_the_file_goes(tmp_path):
    lock = tmp_path / ".lock"
    with held(lock):
        with pytest.raises(Taken, match=rf"^process {os.getpid()} on ."), held(lock):
            pass
        with pytest.raises(Taken), held(lock, exclusive=False, seconds=0.05, keep=True):
            pass
    assert not lock.exists()
    with held(lock, keep=True):
        pass
    assert lock.read_bytes() == b""


def test_shared_holders_admit_each_other_and_nobody_else(tmp_path):
    lock = tmp_path / ".lock"
    shared = {"exclusive": False, "keep": True}
    with (
        held(lock, **shared), held(lock, **shared),
        pytest.raises(Taken, match="another process"), held(lock, keep=True),
    ):  # fmt: skip
        pass
    with held(lock, keep=True):
        pass


def test_one_at_a_time_though_the_file_comes_and_goes(tmp_path):
    inside, most = [0], [0]
    mutex = threading.Lock()

    def work():
        for _ in range(200):
            with held(tmp_path / ".lock", seconds=60):
                with mutex:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                with mutex:
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    code = f"""
import os
from pathlib import Path
from sbitools.disk.locks import held
with held(Path({str(tmp_path / ".lock")!r})):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1])
    assert b"process" in (tmp_path / ".lock").read_bytes()
    with held(tmp_path / ".lock"):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_users_file_of_this_name_is_kept(tmp_path):
    (tmp_path / ".lock").write_text("thesis")
    with held(tmp_path / ".lock"), pytest.raises(Taken), held(tmp_path / ".lock"):
        pass
    assert (tmp_path / ".lock").read_text() == "thesis"


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "thesis").touch()
    (tmp_path / ".lock").symlink_to(tmp_path / "thesis")
    with pytest.raises(OSError), held(tmp_path / ".lock"):
        pass
    assert (tmp_path / "thesis").read_bytes() == b""


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_systems_without_locks_are_worked_on(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(tmp_path / ".lock"):
        pass
