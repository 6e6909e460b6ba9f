"""What the front promises everywhere: `import *` shadows nothing, one default of `resume`."""

import ast
import builtins
import inspect
import keyword
from pathlib import Path

import pytest

import sbitools

ROOT = Path(__file__).parents[1]
# Names that scripts of this field have for themselves, or import from elsewhere.
COMMON = set(dir(builtins)) | set(keyword.kwlist) | {
    "np", "pd", "plt", "torch", "nn", "math", "json", "os", "sys", "time", "random", "copy",
    "logging", "plot", "show", "figure", "corner", "mean", "std", "log", "exp", "sample", "load",
    "save", "fit", "test", "data", "x", "theta", "prior", "posterior", "store", "run", "main",
}  # fmt: skip
# By default every function with `resume` goes on with what is there: the same call gives the same
# result, and what is there of another call is refused.
RESUME = {"sbitools", "emulators"}


def test_import_star_shadows_nothing():
    names = {}
    exec("from sbitools import *", names)  # noqa: S102
    names.pop("__builtins__")
    assert not COMMON & set(names)
    assert {"train", "calibrate", "SimulationStore"} <= set(names)
    assert not {name for name in names if inspect.ismodule(names[name])}
    assert all(hasattr(sbitools, name) for name in names)


def test_modules_are_still_found_and_completed():
    assert {"priors", "statistics", "errors", "store"} <= set(dir(sbitools))
    assert inspect.ismodule(sbitools.priors)


def functions():
    for folder in sorted(RESUME):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    yield f"{path.relative_to(ROOT)}:{node.name}", node.args


def defaults(arguments):
    positional = [*arguments.posonlyargs, *arguments.args]
    told = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    pairs = [*zip(positional, told, strict=True),
             *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]  # fmt: skip
    return {a.arg: d for a, d in pairs if d is not None}


@pytest.mark.parametrize("name", ["resume", "progress"])
def test_one_default_of(name):
    found = {k: defaults(a)[name].value for k, a in functions() if name in defaults(a)}
    if name == "progress":  # the pieces that others call are silent by themselves
        found = {k: v for k, v in found.items() if k.rpartition(":")[2] in sbitools.__all__}
    assert len(found) >= {"resume": 8, "progress": 4}[name]
    assert [k for k, value in found.items() if value is not True] == []
