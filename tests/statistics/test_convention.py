"""One convention for the arguments of all statistics: see the docstring of the package."""

import inspect

import pytest

from sbitools import statistics

FUNCTIONS = [getattr(statistics, name) for name in statistics.__all__]
FUNCTIONS += [f.__init__ for f in FUNCTIONS if isinstance(f, type)]
FUNCTIONS = [f for f in FUNCTIONS if inspect.isfunction(f)]
# Results hold what they were measured with; fields come before `box_size`.
FIELDS = {"field", "first", "second", "reference"}


def parameters(name):
    found = {f.__qualname__: inspect.signature(f).parameters for f in FUNCTIONS}
    return {k: v for k, v in found.items() if name in v}


@pytest.mark.parametrize(("name", "least"), [
    ("edges", 6), ("edges_perp", 1), ("edges_par", 1), ("ordering", 5),
])  # fmt: skip
def test_bins_and_orderings_are_passed_by_name(name, least):
    found = parameters(name)
    assert len(found) >= least
    assert all(p[name].kind is p[name].KEYWORD_ONLY for p in found.values()), found.keys()


def test_no_ordering_is_guessed():
    found = parameters("ordering").values()
    assert all(p["ordering"].default is inspect.Parameter.empty for p in found)


@pytest.mark.parametrize("name", ["box_size", "cell_size"])
def test_the_size_follows_the_fields_and_has_no_default(name):
    for function, found in parameters(name).items():
        positional = [p.name for p in found.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional[-1] == name, function
        assert set(positional[:-1]) <= FIELDS, function
        assert found[name].default is inspect.Parameter.empty
