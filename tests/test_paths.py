"""Paths as users write them: a leading ~ is the home folder, wherever a path is given."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sbitools
from sbitools import (
    FieldSpec,
    FunctionSimulator,
    Parameter,
    ParameterSpace,
    Posterior,
    SimulationStore,
    priors,
)
from sbitools.calibration import CalibrationResult
from sbitools.campaign import plan
from sbitools.config import load_config, parse_config
from sbitools.errors import SbitoolsError
from sbitools.observation import Mask, Observation
from sbitools.observation.observed import read_field
from sbitools.store.imports import add_results, import_files, open_array, read_theta
from sbitools.training import read_metrics

SPACE = ParameterSpace([Parameter("a", priors.Uniform(0, 1))])
FIELD = FieldSpec("x", ("i",), (3,))


def function(theta, seeds):
    return np.repeat(theta.numpy(), 3, 1).astype("f4")


SIMULATOR = FunctionSimulator(function, SPACE, FIELD)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and a working directory in which no folder called ~ may appear."""
    folder, here = tmp_path / "home", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(here)
    yield folder
    assert list(here.iterdir()) == []


def test_stores(home):
    path = Path("~/runs/s")
    (home / "runs").mkdir()
    theta = SPACE.design(4, 1)
    x = function(theta, None)
    sbitools.simulate(SIMULATOR, 4, path, seed=1, workers=1, progress=False)
    plan(SIMULATOR, 4, f"{path}-plan", seed=1)
    SimulationStore.create(f"{path}-new", SPACE, FIELD, theta, range(4))
    SimulationStore.from_arrays(f"{path}-arrays", theta, x, SPACE, FIELD)
    for name in ("", "-plan", "-new", "-arrays"):
        assert SimulationStore(f"{path}{name}").path == home / f"runs/s{name}"
        assert len(SimulationStore.open(f"{path}{name}")) == 4


def test_files_of_arrays(home):
    theta = SPACE.design(4, 1).numpy()
    np.save(home / "x.npy", function(SPACE.design(4, 1), None))
    np.save(home / "theta.npy", theta)
    np.save(home / "seeds.npy", np.arange(4))
    store = import_files("~/s", "~/x.npy", "~/theta.npy", SPACE, FIELD, seeds="~/seeds.npy")
    assert store.export_design("~/design.csv") == home / "design.csv"
    assert np.array_equal(read_theta("~/design.csv", SPACE), theta)
    assert len(read_field(Path("~/x.npy"))[0]) == 4
    with open_array("~/x.npy") as array:
        assert len(array) == 4
    (home / "results").mkdir()
    np.save(home / "results" / "r0.npy", np.zeros(3, "f4"))
    new = SimulationStore.create("~/new", SPACE, FIELD, theta, range(4))
    assert add_results(new, "~/results") == 1
    np.save(home / "mask.npy", np.array([1, 0, 1]))
    model = Observation.from_dict([{"kind": "mask", "file": "~/mask.npy"}])
    assert isinstance(model.steps[0], Mask)


def test_posteriors_and_reports(home):
    def store(path, seed):
        theta = SPACE.design(200, seed)
        x = function(theta, None) + np.random.default_rng(seed).normal(size=(200, 3)) / 10
        seeds = np.arange(200) + 1000 * seed
        return SimulationStore.from_arrays(
            path, theta, x.astype("f4"), SPACE, FIELD, design="random", seeds=seeds
        )

    posterior = sbitools.train(
        store("~/train", 1),
        run_dir="~/run",
        flow="zuko_nsf",
        epochs=1,
        flow_hidden=8,
        features=4,
    )
    assert len(read_metrics("~/run")) == 1
    assert posterior.save("~/posterior") == home / "posterior"
    assert Posterior.load("~/posterior").parameters == SPACE
    result = sbitools.calibrate(posterior, store("~/test", 2), n_draws=50)
    result.to_html("~/report.html")
    result.to_json("~/result.json")
    assert CalibrationResult.from_json("~/result.json").passed == result.passed
    assert {"run", "posterior", "report.html", "result.json"} <= {f.name for f in home.iterdir()}


def test_configurations(home):
    (home / "run.toml").write_text('system = "nbody"\nrun_dir = "~/r"\nseed = 1\n')
    assert load_config("~/run.toml").run_dir == home / "r"
    assert load_config("~/run.toml", ["run_dir=~/other"]).run_dir == home / "other"
    assert parse_config({"system": "s", "run_dir": "r", "seed": 1}).run_dir == Path("r")


def test_unknown_homes_and_what_is_no_path(home):
    for path in ("~nobody-of-that-name/s", "", 3, None):
        with pytest.raises(SbitoolsError, match="expected a path"):
            SimulationStore(path)


def test_no_path_is_taken_as_it_comes():
    """Every public argument that is typed as a path goes through `as_path`, or to one that does.

    The functions listed here hand their path on.
    """
    passing = {
        ("store/contents.py", "open"), ("store/store.py", "export_design"),
        ("store/imports.py", "import_files"), ("inference/posterior.py", "save"),
        ("inference/posterior.py", "load"), ("calibration/result.py", "to_html"),
        *(("inference/repaired/posterior.py", n) for n in ("save", "load", "_save_with_base")),
        ("inference/repaired/saved.py", "load_repaired"), ("inference/saved.py", "_load"),
        ("embeddings/pretrain.py", "pretrain"), ("checkpoint.py", "rebuild"),
        ("formats/reading.py", "reading"), ("formats/reading.py", "foreign"),
        ("inference/saved.py", "save"), ("inference/saved.py", "load"),
        ("training/loop.py", "run_training"), ("inference/models.py", "train_models"),
        ("bridge/posterior.py", "save"), ("inference/together.py", "save"),  # they only refuse
        *(("disk/files.py", name) for name in ("read_file", "_open_regular", "_check_mode")),
    }  # fmt: skip
    root, missing = Path(sbitools.__file__).parent, set()
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            types = [ast.unparse(a.annotation) for a in [*node.args.args, *node.args.kwonlyargs]
                     if a.annotation is not None]  # fmt: skip
            given = any(t.startswith("str | Path") for t in types)
            if given and "as_path(" not in ast.unparse(node):
                missing.add((str(file.relative_to(root)), node.name))
    assert missing <= passing


def test_a_script_beside_its_module(tmp_path):
    """Timestamps in folder names have the character that divides PYTHONPATH."""
    folder = tmp_path / "my run \u00e9 12:30"
    folder.mkdir()
    (folder / "mysim.py").write_text(
        "import os, numpy as np\ndef f(t, s):\n"
        "    assert not {'SBITOOLS_IMPORT_PATH', 'SBITOOLS_PYTHONPATH'} & set(os.environ)\n"
        "    return np.repeat(t, 3, 1).numpy().astype('f4')\n"
    )
    (folder / "go.py").write_text(
        "import sbitools, mysim\nfrom sbitools import *\nfrom sbitools import priors\n"
        "S = ParameterSpace([Parameter('a', priors.Uniform(0, 1))])\n"
        "s = FunctionSimulator(mysim.f, S, FieldSpec('x', ('i',), (3,)))\n"
        "print(simulate(s, 4, 'store', seed=1, workers=1, progress=False).counts()['done'])\n"
    )
    run = subprocess.run(
        [sys.executable, "go.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "4", run.stderr
