"""When the emulator of data vectors is chosen, and why not."""

from __future__ import annotations

import pytest

from emulators.methods.diffusion import method as diffusion
from emulators.methods.vector import method
from emulators.methods.vector.emulator import VectorEmulator
from emulators.methods.vector.options import VectorOptions
from sbitools import FieldSpec
from sbitools.emulation import Method, Task
from tests.emulators.methods.vector import toys

# field, simulations, rank (None: it cannot), a word of the reason
TASKS = {
    "spectrum": (FieldSpec("x", ("band",), (40,)), 231, 2, "data vector"),
    "scalar": (FieldSpec("x", (), ()), 100, 2, "1 number"),
    "counts": (FieldSpec("x", ("i",), (9,), "int64"), 100, 2, "data vector"),
    "spectra": (FieldSpec("x", ("channel", "l"), (3, 20)), 64, 2, "data vector"),
    "features": (FieldSpec("x", ("channel",), (128,)), 64, 2, "128 numbers"),
    "series": (FieldSpec("x", ("t",), (100,)), 256, 0, "shifts"),
    "plane": (FieldSpec("x", ("x", "y"), (8, 8)), 256, 0, "2 axes of space"),
    "cube": (FieldSpec("x", ("x", "y", "z"), (8, 8, 8)), 256, None, "diffusion"),
    "complex": (FieldSpec("x", ("i",), (4,), "complex64"), 256, None, "channels"),
    "few": (FieldSpec("x", ("band",), (40,)), 31, None, "32 simulations or more"),
}


@pytest.mark.parametrize("case", TASKS)
def test_what_it_suits(case):
    output, n, rank, word = TASKS[case]
    task = Task(toys.SPACE, output, n)
    fit = method.suits(task)
    assert fit.rank == rank
    assert word in fit.why
    other = diffusion.suits(task).rank
    # A field that it takes for a vector is left to who knows its axes; a vector is not.
    if fit.rank is not None and other is not None:
        assert (fit.rank > other) == (rank == 2)


def test_networks_learn_only_from_enough_simulations():
    options = VectorOptions()
    assert options.learns(100, 10)
    assert not options.learns(99, 10)
    assert VectorOptions(network=True).learns(32, 128)
    assert not VectorOptions(network=False).learns(10**6, 1)


def test_a_source_is_refused():
    fit = method.suits(Task(toys.SPACE, toys.SPEC, 100, toys.SPEC))
    assert fit.rank is None
    assert "source" in fit.why


def test_it_is_a_method(tmp_path):
    assert isinstance(method, Method)
    assert method.name == "vector"
    assert method.options is VectorOptions
    store = toys.store(tmp_path / "s", 40)
    emulator = method.emulator(Task(store.parameters, store.output, 40))
    assert isinstance(emulator, VectorEmulator)
    emulator.fit(store, toys.QUICK, run_dir=tmp_path / "r")
    again = method.load(emulator.save(tmp_path / "c"))
    assert again.version == emulator.version
