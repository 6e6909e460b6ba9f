"""A simulator that cannot be sent is refused before anything is made, by the name of its part."""

import functools
import threading

import h5py
import numpy as np
import pytest

from sbitools import FieldSpec, FunctionSimulator, ParameterSpace
from sbitools.campaign import simulate
from sbitools.campaign.sending import as_bytes
from sbitools.errors import CampaignError

SPACE, FIELD = ParameterSpace([]), FieldSpec("x", ("i",), (3,))


class Holder:
    parameters, output = SPACE, FIELD

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def simulate(self, theta, seeds):
        return np.zeros((len(theta), 3), "f4")


class Slotted:
    __slots__ = ("thing",)

    def __init__(self):
        self.thing = threading.Lock()


class Wrapped:  # as Cython says of a class with a non-trivial __cinit__
    def __reduce__(self):
        raise TypeError("no default __reduce__ due to non-trivial __cinit__")


class Mute:
    def __reduce__(self):
        raise Silent


class Silent(Exception):
    def __str__(self):
        raise RuntimeError


def closure():
    lock = threading.Lock()
    return FunctionSimulator(lambda theta, s: lock, SPACE, FIELD)


def default():
    return FunctionSimulator(lambda theta, s, lock=threading.Lock(): lock, SPACE, FIELD)  # noqa: B008


def method():
    return FunctionSimulator(Holder(lock=threading.Lock()).simulate, SPACE, FIELD)


def nested():
    lock = threading.Lock()

    def inner():
        return lock

    return FunctionSimulator(lambda theta, s: inner(), SPACE, FIELD)


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return Holder(value=value)


CASES = {
    "lock": (lambda: Holder(lock=threading.Lock()), "simulator.lock:"),
    "in a table": (lambda: Holder(a={"b": [1, threading.Lock()]}), r"simulator.a\['b'\]\[1\]:"),
    "in slots": (lambda: Holder(a=Slotted()), "simulator.a.thing:"),
    "generator": (lambda: Holder(numbers=iter_numbers()), "simulator.numbers:"),
    "closure": (closure, "'lock' in simulator.function:"),
    "nested closure": (nested, "'lock' in 'inner' in simulator.function:"),
    "default": (default, r"defaults of simulator.function\[0\]:"),
    "method": (method, "simulator.function.*lock:"),
    "partial": (lambda: Holder(f=functools.partial(print, threading.Lock())), "simulator.f"),
    "wrapped": (lambda: Holder(model=Wrapped()), "simulator.model: .*non-trivial __cinit__"),
    "an error without a text": (lambda: Holder(model=Mute()), "simulator.model: .*Silent"),
    "too deep": (deep, "simulator.value"),
}


def iter_numbers():
    yield 1


@pytest.mark.parametrize(("make", "text"), CASES.values(), ids=CASES)
def test_the_part_that_cannot_be_sent_is_named(tmp_path, make, text):
    with pytest.raises(CampaignError, match=text) as raised:
        simulate(make(), 4, tmp_path / "s", seed=1, progress=False)
    assert "fix: open or make it inside simulate()" in str(raised.value)
    assert not (tmp_path / "s").exists()


def test_an_open_file(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        simulator = Holder(table=file)
        with pytest.raises(CampaignError, match=r"simulator.table: .*h5py"):
            as_bytes(simulator)
    with (tmp_path / "t.txt").open("w") as text:
        simulator = Holder(log=text)
        with pytest.raises(CampaignError, match=r"simulator.log: .*TextIOWrapper"):
            as_bytes(simulator)


def test_what_can_be_sent_is_sent():
    assert as_bytes(Holder(a=[1, {"b": 2}]))
