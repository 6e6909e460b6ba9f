"""The guide's example of an emulator is real code: it runs, fits and conforms."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from emulators.testing import check_emulator
from sbitools import FieldSpec, SimulationStore
from sbitools.emulation import known_methods
from sbitools.errors import StoreError
from sbitools.report.blocks import Table
from sbitools.report.emulator_figures import emulator_blocks
from sbitools.systems import System

GUIDE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def ripple():
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    module = types.ModuleType("ripple_of_the_guide")
    sys.modules[module.__name__] = module
    exec(compile("\n\n".join(blocks), str(GUIDE), "exec"), module.__dict__)  # noqa: S102
    yield module
    del sys.modules[module.__name__]


@pytest.fixture(scope="module")
def store(ripple, tmp_path_factory):
    reference = ripple.Ripple()
    theta, seeds = reference.parameters.design(1000, seed=1, kind="random"), torch.arange(1000)
    return SimulationStore.from_arrays(
        tmp_path_factory.mktemp("guide") / "store", theta, reference.simulate(theta, seeds),
        reference.parameters, reference.output, seeds=seeds,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(ripple, store, tmp_path_factory):
    emulator = ripple.RippleEmulator()
    options = {"epochs": 60, "batch_size": 50, "learning_rate": 1e-2, "patience": None}
    emulator.fit(store, options, run_dir=tmp_path_factory.mktemp("guide-run"))
    return emulator


def test_the_example_learns_its_reference(ripple, fitted):
    reference = ripple.Ripple()
    theta, seeds = reference.parameters.design(200, seed=2, kind="random"), torch.arange(200)
    error = fitted.simulate(theta, seeds) - reference.simulate(theta, seeds)
    # Two seeds differ by 0.3 mK, the least noise there is has 0.05 mK; other seeds of the training
    # give 0.027 to 0.038.
    assert error.square().mean().sqrt() < 0.05


def test_the_example_conforms(fitted, store, tmp_path):
    short = {"epochs": 2, "batch_size": 250, "checkpoint_seconds": 0}
    check_emulator(fitted, store, short, folder=tmp_path / "conformance")


def test_the_example_is_a_system(ripple, fitted, store, tmp_path):
    system = ripple.system
    assert isinstance(system, System)
    settings = system.settings()
    statistics = system.validate(fitted, settings, store)
    errors = statistics["errors"]["ripple"]
    assert errors["emulator"] < 0.2 * errors["reference, another seed"]
    assert set(statistics["labels"]) == set(statistics["errors"])
    (table,) = emulator_blocks(statistics)  # what the example returns, the report draws
    assert isinstance(table, Table)
    assert len(table.rows) == len(errors)
    again = system.load_emulator(fitted.save(tmp_path / "checkpoint"))
    theta, seeds = store.theta[:3], store.seeds[:3]
    assert torch.equal(again.simulate(theta, seeds), fitted.simulate(theta, seeds))


def test_a_system_may_take_a_method_that_is_there(ripple, store, tmp_path):
    if "diffusion" not in known_methods():
        pytest.skip("the distribution was installed before it named the method")
    system = ripple.SimpleRippleSystem()
    assert isinstance(system, System)
    emulator = system.emulator(system.settings())
    emulator.fit(store, {"network": False}, run_dir=tmp_path / "fit")
    again = system.load_emulator(emulator.save(tmp_path / "fitted"))
    fields = again.simulate(store.theta[:500], store.seeds[:500])
    truth = store.read(range(500))
    assert (fields.mean(0) - truth.mean(0)).abs().max() < 0.15  # 0.02 by chance, 1.25 the ripple
    assert abs(fields.std() / truth.std() - 1) < 0.1


@pytest.mark.parametrize("page", ["docs/guide/own_simulations.md", "tutorials/01_chain.py"])
def test_the_example_is_as_long_as_we_say(page):
    text = (GUIDE.parent / page).read_text(encoding="utf-8")
    said = int(re.findall(r"complete one in\s+(\d+)\s+lines", text)[0])
    first = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert abs(len(first.splitlines()) - said) <= 5  # a round number


def test_a_foreign_store_is_refused(ripple, tmp_path):
    parameters = ripple.Ripple.parameters
    theta = parameters.design(4, seed=1, kind="random")
    foreign = SimulationStore.from_arrays(
        tmp_path / "foreign",
        theta,
        torch.zeros(4, 8),
        parameters,
        FieldSpec("other", ("j",), (8,)),
    )
    with pytest.raises(StoreError, match="ripple"):
        ripple.RippleEmulator().fit(foreign, run_dir=tmp_path / "run")
