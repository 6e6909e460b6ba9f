"""What simulators do to their process, on purpose or not; each takes a folder for its traces.

`DONE` are those after which the simulation still gives its field, `FAILED` those after which it
fails, `LETHAL` those that end the worker process: each costs a few starts of another.
"""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import torch

DONE, FAILED, LETHAL = {}, {}, {}
KEPT = []  # what lives as long as the process


def into(kind):
    def register(deed):
        kind[deed.__name__] = deed
        return deed

    return register


def trace(folder, pid):
    """Note a process that must be gone in the end."""
    (folder / f"{pid}.child").touch()


@into(DONE)
def fork_and_return(folder):
    if pid := os.fork():
        trace(folder, pid)


@into(DONE)
def fork_and_raise(folder):
    if os.fork() == 0:
        raise ValueError("in the child")


@into(DONE)
def fork_and_exit(folder):
    if os.fork() == 0:
        sys.exit(3)


@into(DONE)
def fork_twice_and_return(folder):
    os.fork()
    os.fork()


@into(DONE)
def print_a_lot(folder):
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    print("x" * 3_000_000, flush=True)  # noqa: T201
    os.write(2, b"y" * 3_000_000)


@into(DONE)
def close_stdout(folder):
    with contextlib.suppress(OSError):  # it may be the second one of its worker
        os.close(1)


@into(DONE)
def hide_files(folder):
    os.umask(0o777)


@into(DONE)
def ignore_signals(folder):
    for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGCHLD", "SIGALRM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)


@into(DONE)
def start_a_thread(folder):
    threading.Thread(target=time.sleep, args=(1000,)).start()


def start(folder, **options):
    trace(folder, subprocess.Popen(["/bin/sleep", "1000"], **options).pid)


@into(DONE)
def start_a_child(folder):
    start(folder)


@into(DONE)
def start_a_session(folder):
    start(folder, start_new_session=True)


@into(DONE)
def start_a_session_without_environment(folder):
    start(folder, start_new_session=True, env={})


@into(DONE)
def start_by_the_shell(folder):
    os.system(f"sleep 1000 & touch {folder}/$!.child")  # noqa: S605


@into(DONE)
def start_a_daemon(folder):
    line = f"setsid sh -c 'touch {folder}/$$.child; exec sleep 1000' &"
    subprocess.run(["sh", "-c", line], check=True, start_new_session=True)


def pid_of_a_worker(number):
    time.sleep(0.02)
    return os.getpid()


@into(DONE)
def start_a_pool(folder):
    pool = multiprocessing.get_context("fork").Pool(2)
    for pid in pool.map(pid_of_a_worker, range(4), 1):
        trace(folder, pid)
    KEPT.append(pool)


@into(DONE)
def change_defaults(folder):
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)


@into(DONE)
def change_seeds(folder):
    torch.manual_seed(1)  # noqa: TID251
    np.random.seed(1)  # noqa: NPY002, TID251


@into(DONE)
def limit_memory_and_core(folder):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))


@into(DONE)  # the last of its kind: a daemon without environment is beyond reach
def leave_home(folder):
    os.chdir("/")
    os.environ.clear()


@into(FAILED)
def fork_and_fail(folder):
    os.fork()
    raise ValueError("in both")


@into(FAILED)
def leave_by_sys_exit(folder):
    sys.exit(0)


@into(FAILED)
def raise_generator_exit(folder):
    raise GeneratorExit


@into(FAILED)
def raise_base_exception(folder):
    raise BaseException("base")


@into(FAILED)
def run_out_of_memory(folder):
    raise MemoryError


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@into(FAILED)
def raise_without_a_text(folder):
    raise Silent


class Text(str):
    __slots__ = ()


class Odd(Exception):
    def __str__(self):
        return Text("odd \udc80 \0 text")

    def __reduce__(self):
        raise TypeError("cannot be pickled")


@into(FAILED)
def raise_an_odd_text(folder):
    raise Odd


@into(FAILED)
def raise_a_long_text(folder):
    raise ValueError("m" * 10_000_000)


@into(FAILED)
def raise_a_long_chain(folder):
    error = ValueError("first")
    for number in range(5000):
        later = ValueError(number)
        later.__cause__, error = error, later
    raise error


@into(FAILED)
def recurse(folder):
    recurse(folder)


@into(FAILED)
def recurse_far(folder):
    sys.setrecursionlimit(100_000)
    recurse(folder)


@into(LETHAL)
def leave_by_os_exit(folder):
    os._exit(0)


@into(LETHAL)
def interrupt(folder):
    raise KeyboardInterrupt


@into(LETHAL)
def kill_itself(folder):
    os.kill(os.getpid(), signal.SIGKILL)


@into(LETHAL)
def abort(folder):
    os.abort()


@into(LETHAL)
def read_at_zero(folder):
    ctypes.string_at(0)


class Endless:
    def __repr__(self):
        return repr(self)


@into(LETHAL)
def overflow_the_stack(folder):
    sys.setrecursionlimit(10**9)
    repr(Endless())


@into(LETHAL)
def triple_a_text(folder):
    """No stack overflows: each step takes three times as long as the last, in one C call."""
    nested = 1
    while True:
        KEPT[:] = [repr(nested)]
        nested = [nested] * 3


@into(LETHAL)
def alarm(folder):
    signal.alarm(1)
    time.sleep(100)


@into(LETHAL)
def close_all_files(folder):
    os.closerange(3, 256)


@into(LETHAL)
def replace_all_files(folder):
    own = os.open(folder / "own", os.O_RDWR | os.O_CREAT)
    for fd in range(3, 64):
        if fd != own:
            os.dup2(own, fd)


@into(LETHAL)
def write_to_all_files(folder):
    for fd in range(3, 64):
        try:
            os.set_blocking(fd, False)
            os.write(fd, b"not for you" * 10)
        except OSError:
            continue


@into(LETHAL)
def die_beside_a_pool(folder):
    start_a_pool(folder)
    start_by_the_shell(folder)
    start_a_daemon(folder)
    kill_itself(folder)


@into(LETHAL)
def hold_the_lock_too_long(folder):
    start_a_session(folder)
    ctypes.PyDLL(None).sleep(1000)


@into(LETHAL)
def stop_itself(folder):
    os.kill(os.getpid(), signal.SIGSTOP)
