"""A store and the simulator that fills it: another one is refused, texts and releases are not."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from sbitools import (
    FieldSpec,
    FunctionSimulator,
    Parameter,
    ParameterSpace,
    SimulationStore,
    priors,
    seeds,
    simulate,
)
from sbitools.errors import StaleSimulationsWarning, StoreError
from sbitools.store.manifest import Manifest

FIELD = FieldSpec("x", ("i",), (3,), unit="mK")
OPTIONS = {"seed": 1, "workers": 1, "task_size": 4, "progress": False}


def space(latex=None, unit="", sigma=1.0):
    return ParameterSpace([Parameter("mu", priors.Normal(0.0, sigma), latex=latex, unit=unit)])


SPACE = space()


def notebook(code, **scope):
    scope = {"np": np, "seeds": seeds} | scope
    exec(code, scope)  # noqa: S102  (what a cell does)
    return scope["model"]


GOOD = "def model(theta, s):\n    return (theta + {k}).float() + seeds.normal(s, (3,))"


def fill(path, n=4, k=0, function=None, parameters=SPACE, field=FIELD, version=""):
    function = function or notebook(GOOD.format(k=k))
    simulator = FunctionSimulator(function, parameters, field, version=version)
    return simulate(simulator, n, path, **OPTIONS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("identity") / "s", 8)


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "s")
    return tmp_path / "s"


def as_before(path):
    """The store as sbitools 0.1.0 wrote it: without identity, in store.json and in parts."""
    manifest = Manifest.read(path)
    layout = replace(manifest.layout, origin="", stamps=None)
    old = replace(manifest, layout=layout, identity={}, code_version="sbitools 0.1.0").to_dict()
    old = {k: v for k, v in old.items() if k not in ("identity", "origin", "stamps")}
    store = SimulationStore.open(path)
    x = store.read(store.done)
    shutil.rmtree(path)
    fresh = SimulationStore.create(
        path, store.parameters, store.output, store.theta, store.seeds, seed=store.seed,
        task_size=manifest.task_size, simulator=manifest.simulator,
    )  # fmt: skip
    for start, stop in manifest.tasks():
        fresh.add_many(start, x[start:stop])
    old |= {"schema": 1, "design_sha256": fresh.manifest.design_sha256}
    (path / "store.json").write_text(json.dumps(old, indent=1, sort_keys=True))


def test_a_corrected_function_is_refused_for_resume_and_extension(copy):
    for n in (8, 12):
        with pytest.raises(StoreError, match=r"another code of model.*another path"):
            fill(copy, n, k=100)
    assert len(SimulationStore.open(copy)) == 8


def test_failures_of_another_function_are_not_kept_in_silence(tmp_path):
    broken = notebook("def model(theta, s):\n    raise NameError('typo')")
    assert fill(tmp_path / "s", function=broken).counts()["failed"] == 4
    with pytest.raises(StoreError, match="another code of model"):
        fill(tmp_path / "s")


def test_another_value_of_a_global_name_is_told(tmp_path):
    text = "k = {k}\ndef model(theta, s):\n    return theta.float().expand(-1, 3) * k"
    fill(tmp_path / "s", function=notebook(text.format(k=1.0)))
    fill(tmp_path / "s", function=notebook(text.format(k=1.0)))  # no warning
    with pytest.warns(StaleSimulationsWarning, match="reads k, whose value is another"):
        fill(tmp_path / "s", function=notebook(text.format(k=2.0)))


def test_closures_and_options(tmp_path):
    """Another closure or default is refused: to expect the new function's values would be to
    expect that the old simulations are deleted."""

    def ripple(k):
        return lambda theta, s: theta.float() + k * seeds.normal(s, (3,))

    fill(tmp_path / "s", function=ripple(1.0))
    assert len(fill(tmp_path / "s", function=ripple(1.0)).done) == 4
    with pytest.raises(StoreError, match="another closure k"):
        fill(tmp_path / "s", function=ripple(2.0))


def test_a_stated_version_stays_with_a_rewritten_function(tmp_path):
    fill(tmp_path / "s", version="1")
    rewritten = notebook("def model(theta, s):\n    return seeds.normal(s, (3,)) + theta.float()")
    store = fill(tmp_path / "s", 8, function=rewritten, version="1")
    assert len(store.done) == 8
    with pytest.raises(StoreError, match="code_version"):
        fill(tmp_path / "s", 8, version="2")


def test_labels_and_units_may_be_corrected(copy):
    before = SimulationStore.open(copy).digest()
    field = replace(FIELD, unit="uK")
    store = fill(copy, 8, parameters=space(r"\mu", "K"), field=field)
    assert (store.parameters[0].label, store.output.unit) == (r"$\mu$ [K]", "uK")
    assert store.digest() == before, "what is trained on it stays"
    larger = fill(copy, 12, parameters=space(r"\mu_0"), field=field)
    assert torch.equal(larger.read(range(8)), store.read(range(8)))
    assert larger.parameters[0].latex == r"\mu_0"
    larger.verify()
    with pytest.raises(StoreError, match="parameters"):
        fill(copy, 12, parameters=space(sigma=2.0))
    with pytest.raises(StoreError, match="output"):
        fill(copy, 12, field=replace(FIELD, dims=("j",)))


def test_a_store_of_the_last_release_resumes_and_extends(finished, copy):
    as_before(copy)
    store = SimulationStore.open(copy)
    assert store.manifest.identity == {}
    assert store.digest() == finished.digest()
    lost = sorted((copy / "parts").iterdir())[0]
    lost.unlink()
    assert fill(copy, 8).digest() == finished.digest()
    assert lost.exists(), "equal simulations give equal bytes"
    assert len(fill(copy, 12, parameters=space("m")).done) == 12
    with pytest.raises(StoreError, match="simulator"):
        fill(copy, 12, function=lambda theta, s: theta.float().expand(-1, 3))


def test_another_release_changes_nothing(copy, monkeypatch):
    monkeypatch.setattr("sbitools.campaign.campaign.__version__", "9.9.9")
    assert len(fill(copy, 12).done) == 12


def test_a_part_of_another_simulator_with_the_same_seed(copy, tmp_path):
    other = fill(tmp_path / "other", 8, k=1)
    mine, theirs = (sorted((p / "parts").iterdir())[1] for p in (copy, other.path))
    shutil.copy(theirs, mine.parent)
    with pytest.raises(StoreError, match="another simulator"):
        SimulationStore.open(copy)
    mine.unlink()
    with pytest.raises(StoreError, match="another simulator"):
        SimulationStore.open(copy)


def test_a_part_of_another_imported_set(tmp_path):
    theta = SPACE.design(8, 1)
    a, b = (
        SimulationStore.from_arrays(
            tmp_path / name, theta, np.full((8, 3), value, "f4"), SPACE, FIELD, task_size=4
        )
        for name, value in (("a", 1), ("b", 2))
    )  # fmt: skip
    mine, theirs = (sorted((s.path / "parts").iterdir())[1] for s in (a, b))
    mine.unlink()
    shutil.copy(theirs, mine.parent)
    with pytest.raises(StoreError, match="another simulator"):
        SimulationStore.open(a.path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("simulator", "Other"), ("code_version", "2; sbitools 0.1.1"), ("design", "sobol"),
     ("group_size", 2), ("seed", 2), ("task_size", 2), ("identity", {}), ("schema", 1),
     ("origin", ""), ("sha256", None)],
)  # fmt: skip
def test_what_a_store_says_of_its_origin_cannot_be_altered(copy, key, value):
    file = copy / "store.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(StoreError, match="own sha256"):
        SimulationStore.open(copy)


def test_deep_json_is_a_typed_error(copy):
    (copy / "store.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(StoreError, match="not JSON"):
        SimulationStore.open(copy)


def test_a_relative_path_is_that_of_the_moment(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.path.parent)
    store = SimulationStore.open("s")
    monkeypatch.chdir(tmp_path)
    assert torch.equal(store.read(range(8)), finished.read(range(8)))
    store.refresh()
    assert store.counts()["done"] == 8


def test_a_simulator_that_leaves_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    code = "import os\n" + GOOD.format(k=0).replace("return", "os.chdir('/'); return")
    store = fill("s", function=notebook(code))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(store.done) == 4
    store.read(store.done)


def test_versions_are_texts():
    from sbitools.errors import ConfigError

    with pytest.raises(ConfigError, match="version"):
        FunctionSimulator(notebook(GOOD.format(k=0)), SPACE, FIELD, version=2)  # type: ignore[arg-type]
