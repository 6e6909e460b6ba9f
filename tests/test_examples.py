"""The examples in the docstrings of the front door run, and every name there has one.

They go on from the program of docs/reference/front.md, which is run once, in a folder of its own.
"""

from __future__ import annotations

import doctest
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

import sbitools

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "front.md"
NAMES = [
    name for name in sbitools.__all__
    if name != "__version__" and not isinstance(getattr(sbitools, name), ModuleType)
]  # fmt: skip
# Of the program: as exact for this linear problem, and a hundredth of the time.
SMALL = {
    'seed=1)\ntests': 'seed=1, workers=1, progress=False)\ntests',
    'seed=2)': 'seed=2, workers=1, progress=False)',
    'run_dir="training"': 'run_dir="training", epochs=1, emulate=False',
}  # fmt: skip


def examples(name):
    """Of the docstring of a name, and of its methods."""
    found = doctest.DocTestFinder(exclude_empty=True).find(getattr(sbitools, name), name)
    return [test for test in found if test.examples]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the program ran, and where the examples write."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def namespace(folder):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for full, small in SMALL.items():
        assert full in program, f"the page changed: adapt this test to {full!r}"
        program = program.replace(full, small)
    names: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(program, names)  # noqa: S102  (the documentation's own)
    finally:
        os.chdir(before)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_front_door_has_an_example(name):
    own = [t for t in examples(name) if t.name == name]
    assert own, f"give sbitools.{name} a short example in its docstring"
    skipped = [e.source for t in own for e in t.examples if doctest.SKIP in e.options]
    assert not skipped, "an example that is not run is worth nothing"


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_run(name, namespace, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for test in examples(name):
        test.globs = namespace | {n: getattr(sbitools, n) for n in NAMES} | test.globs
        lines: list[str] = []
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        done = doctest.DocTestRunner(optionflags=flags).run(test, out=lines.append)
        assert not done.failed, "".join(lines)
