"""Digests: equal for what computes the same, different for what does not, in every process."""

import functools
import linecache
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sbitools import FieldSpec, FunctionSimulator, Parameter, ParameterSpace, priors, seeds
from sbitools.identity import changes, identity
from sbitools.identity.values import Digester

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
FIELD = FieldSpec("x", ("i",), (3,))


def of(thing):
    return Digester()(thing)


def made(text, **scope):
    """The function `f` of a text, as at a prompt."""
    scope = {"np": np, "seeds": seeds} | scope
    exec(text, scope)  # noqa: S102  (what a notebook does)
    return scope["f"]


def in_file(folder, text):
    """The function `f` of a module of the user's own."""
    file = folder / f"model{len(list(folder.iterdir()))}.py"
    file.write_text(text)
    module = types.ModuleType(file.stem)
    module.__file__ = str(file)
    exec(compile(text, str(file), "exec"), vars(module))  # noqa: S102
    return module.f


BODY = """
def f(theta, s, k={k}):
    y = np.exp(theta * {a}) + k
    if y.sum() > {b}:
        y = y[:, ::2]
    return [v for v in y if v > {c}]
"""
SAME = """
# a comment

def f(theta,   s, k = {k}) :
    'A docstring.'
    y : float = (
        np.exp(theta * {a})   # another
        + k
    )
    if y.sum() > {b}: y = y[:, ::2]

    return [
        v for v in y
        if v > {c}]
"""
NUMBERS = st.integers(0, 3) | st.sampled_from([0.5, 1.0])
VALUES = st.fixed_dictionaries(dict.fromkeys("kabc", NUMBERS))


@pytest.mark.parametrize("where", ["file", "prompt"])
@given(first=VALUES, second=VALUES)
def test_layout_does_not_matter_and_constants_do(tmp_path_factory, where, first, second):
    folder = tmp_path_factory.mktemp("code")
    make = made if where == "prompt" else functools.partial(in_file, folder)
    one, two = make(BODY.format(**first)), make(BODY.format(**second))
    same = all((type(v), v) == (type(second[k]), second[k]) for k, v in first.items())
    assert (of(one) == of(two)) is same
    if where == "file":  # at a prompt a type hint is an instruction of its own in some versions
        assert of(make(SAME.format(**first).replace("y : float =", "y ="))) == of(one)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return theta + 1", "return theta - 1"),
        ("return theta.sum(0)", "return theta.sum(1)"),
        ("return np.sin(theta)", "return np.cos(theta)"),
        ("return theta + K", "return theta + L"),
        ("return [t for t in theta]", "return [t + 1 for t in theta]"),
        ("return (lambda t: t)(theta)", "return (lambda t: -t)(theta)"),
        ("return 'a'", "return 'b'"),
        ("return {1, 2, 3}", "return {1, 2, 4}"),
        ("return 0.0", "return -0.0"),
        ("return 1", "return True"),
    ],
)
@pytest.mark.parametrize("where", ["file", "prompt"])
def test_other_code(tmp_path, where, before, after):
    head = "import numpy as np\nK, L = 1, 2\ndef f(theta, s):\n    "
    make = made if where == "prompt" else functools.partial(in_file, tmp_path)
    assert of(make(head + before)) != of(make(head + after))


def test_what_a_function_refers_to():
    text = "def helper(t):\n    return t * {k}\n"
    text += "class C:\n    scale = {k}\n    def m(self): return {k}\n"
    for use in ("helper(theta)", "C().m()", "C.scale", "(lambda: helper(1))()"):
        one, same, other = (made(text.format(k=k) + f"def f(theta, s): return {use}")
                            for k in (2, 2, 3))  # fmt: skip
        assert of(one) == of(same) != of(other)
    for values in ((0.1, 0.2), (np.zeros(3), np.ones(3)), ({"a": 1}, {"a": 2}), ([1], [2]),
                   (torch.zeros(2), torch.ones(2)), (np.zeros(2), np.zeros((1, 2)))):  # fmt: skip
        one, two = (made("def f(theta, s): return theta + K", K=value) for value in values)
        assert of(one) != of(two)


def test_a_module_of_the_user_counts_as_far_as_it_is_used(monkeypatch):
    def using(text):
        module = types.ModuleType("physics")
        exec(text, vars(module))  # noqa: S102
        monkeypatch.setitem(sys.modules, "physics", module)
        return made("def f(theta, s): return physics.model(theta)", physics=module)

    text = "def model(t): return t * {a}\ndef plot(t): return {b}\n"
    one, same, other = (using(text.format(a=a, b=b)) for a, b in ((1, 1), (1, 2), (2, 1)))
    assert of(one) == of(same) != of(other)


def test_an_edited_file_is_not_taken_for_what_runs(tmp_path):
    old = in_file(tmp_path, "def f(theta, s):\n    return theta + 1\n")
    before = of(old)
    next(tmp_path.iterdir()).write_text("def f(theta, s):\n    return theta + 2\n")
    linecache.checkcache()
    new = in_file(tmp_path, "def f(theta, s):\n    return theta + 2\n")
    assert of(new) not in (before, of(old))


class Options(BaseModel):
    amplitude: float = 1.0


class Slots:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def closure(k):
    return lambda t: t + k


@pytest.mark.parametrize(
    "make",
    [
        lambda v: functools.partial(np.add, v), closure, Slots, lambda v: Options(amplitude=v),
        lambda v: {"a": [v, {"b": (v,)}]}, lambda v: np.float32(v), lambda v: {v, "other"},
        lambda v: Slots(v).__init__, lambda v: functools.lru_cache(closure(v)),
        lambda v: torch.nn.ParameterList([torch.full((2,), v)]),
        lambda v: np.vectorize(closure(v)),
        lambda v: np.array([v, None], object),
    ],
)  # fmt: skip
def test_values(make):
    one, same, other = make(1.0), make(1.0), make(2.0)
    assert of(one) == of(same) != of(other)


def test_what_cannot_be_looked_into_and_rings():
    ring: list = [1]
    ring.append(ring)
    assert of(ring) == of(ring)
    with Path(os.devnull).open() as one, Path(__file__).open() as two:
        assert of(one) == of(two)
    assert of(threading.Lock()) == of(threading.Lock())
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert len(of(deep)) == 32


class Plain:
    parameters, output, source, group_size = SPACE, FIELD, None, 1

    def __init__(self, amplitude=1.0):
        self.amplitude = amplitude

    @functools.cached_property
    def table(self):
        return np.arange(3)

    def simulate(self, theta, s):
        return self.amplitude + theta.float() + seeds.normal(s, (3,)) * len(self.table)


class Corrected(Plain):
    def simulate(self, theta, s):
        return super().simulate(theta, s) + 1


class Stated(Plain):
    version = "3"


def test_simulators():
    used = Plain()
    used.simulate(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
    assert identity(used) == identity(Plain()), "what it remembers does not matter"
    assert changes(identity(Plain()), identity(Plain(2.0))) == ["option amplitude"]
    assert "code of Corrected" in changes(identity(Plain()), identity(Corrected()))
    stated = identity(Stated())
    assert stated["version"] == "3"
    assert not [k for k in stated if k.startswith("code")]
    assert changes(stated, identity(Stated(2.0))) == ["option amplitude"]


def test_a_version_stands_for_the_code_and_not_for_what_is_closed_over():
    def sim(k, code, version):
        f = made(f"def g(k):\n    def f(t, s): return {code}\n    return f\nf = g({k})")
        return identity(FunctionSimulator(f, SPACE, FIELD, version=version))

    assert sim(1, "t + k", "1") == sim(1, "k + t", "1")
    assert changes(sim(1, "t + k", "1"), sim(2, "t + k", "1")) == ["closure k"]
    assert changes(sim(1, "t + k", "1"), sim(1, "t + k", "2")) == ["version"]
    assert changes(sim(1, "t + k", ""), sim(1, "k + t", "")) == ["code of f"]
    assert changes({}, sim(1, "t + k", "")) == [], "older stores say nothing"


def test_shipped_simulators_state_all_they_are():
    from emulators.nbody import NBodySimulator

    class Noisy(NBodySimulator):
        def simulate(self, theta, s):
            return super().simulate(theta, s) * 2

    assert set(identity(NBodySimulator(n=8))) == {"class", "version"}
    assert any(k.startswith("code of") and "Noisy" in k for k in identity(Noisy(n=8)))


SCRIPT = """
import numpy as np
from sbitools import FieldSpec, FunctionSimulator, Parameter, ParameterSpace, priors, seeds
from sbitools.identity import identity
TABLE = {"b": 1, "a": {3, 1, 2}, "c": np.arange(4)}
class Model:
    kinds = frozenset(["x", "y", "z"])
    def __init__(self, **options): self.options = options
    def __call__(self, theta, s): return theta * TABLE["b"] + len({"q", "r", "s"}) + helper(s)
def helper(s, names={"u", "v", "w"}): return seeds.normal(s, (3,)) if s in ("a", "b") else 0
space = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
print(sorted(identity(FunctionSimulator(Model(x={"k", "l"}, y=2), space,
      FieldSpec("x", ("i",), (3,)))).items()))
print(sorted(identity(FunctionSimulator(lambda t, s: helper(s) + len(TABLE), space,
      FieldSpec("x", ("i",), (3,)))).items()))
"""


def test_equal_in_every_process(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    runs = [
        subprocess.run(
            [sys.executable, *flags, str(tmp_path / "script.py")], capture_output=True, text=True,
            check=True, env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(
                p for p in sys.path if p)},
        ).stdout
        for seed, flags in (("0", []), ("1", []), ("77", ["-B"]))
    ]  # fmt: skip
    assert len(set(runs)) == 1
    assert "code of" in runs[0]
