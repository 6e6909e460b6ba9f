"""Law: whatever is passed, it works as the Python value does and can be written, or is refused.

A table of public callables and their arguments, times hostile values. What is accepted is written
as JSON, so that nothing of numpy's stays inside; what is not raises an error of sbitools.
"""

import json
import warnings

import numpy as np
import pytest
import torch

import sbitools
from sbitools import (
    FieldSpec,
    FunctionSimulator,
    Observation,
    Parameter,
    ParameterSpace,
    Posterior,
    SimulationStore,
    calibration,
    priors,
)
from sbitools.arviz import draws_to_arviz
from sbitools.calibration import CalibrationDraws
from sbitools.calibration.calibrate import calibrate_draws
from sbitools.calibration.checks.misspecification import describe
from sbitools.calibration.sampling import draw
from sbitools.campaign import plan
from sbitools.config import CalibrateSection, ReferenceSection, RunConfig, validate_model
from sbitools.errors import SbitoolsError
from sbitools.inference.methods import find_method
from sbitools.inference.options import parse_options
from sbitools.inference.search import search
from sbitools.observation import Coarsen, Mask, Noise, Scale, Smooth, SpectralNoise
from sbitools.training import StreamingLoader, split

from .conftest import QUICK, SPACE, SPEC, line

HOSTILE = [
    np.int64(3), np.float32(0.5), True, 2.5, float("nan"), float("inf"), "3", None, -5, 0, [3],
    object(), 10**400, b"x", np.array(3), torch.tensor(2), {}, (1, 2), np.array([True]), 1e3,
    "a\0b", "\ud800", np.str_("q"), SPACE, int, lambda: 3,
]  # fmt: skip
U = priors.Uniform


def dumped(value):
    return json.dumps(value, allow_nan=False)


def specification(**given):
    return dumped(FieldSpec(**({"name": "x", "dims": ("i",), "shape": (3,)} | given)).to_dict())


def parameter(**given):
    p = Parameter(**({"name": "x", "prior": U(0, 1)} | given))
    return dumped([p.to_dict(), p.label, repr(p)])


def prior(kind, arguments):
    made = kind(*arguments)
    dumped(made.to_dict())
    draws = made.icdf(torch.tensor([0.01, 0.5, 0.99], dtype=torch.float64))
    assert torch.isfinite(draws).all()
    assert torch.isfinite(made.log_prob(draws)).all()


def prior_table():
    arguments = {
        U: [0.1, 4.0], priors.LogUniform: [0.1, 4.0], priors.Normal: [0.1, 4.0],
        priors.LogNormal: [0.1, 4.0], priors.TruncatedNormal: [0.0, 1.0, -1.0, 2.0],
        priors.Categorical: [(0.5, 0.5)],
    }  # fmt: skip
    return {
        f"{kind.__name__} {i}": lambda v, kind=kind, given=given, i=i: prior(
            kind, [*given[:i], v, *given[i + 1 :]]
        )
        for kind, given in arguments.items()
        for i in range(len(given))
    }


def step(kind, **given):
    observe = Observation([kind(**given)])
    dumped(observe.to_dict())
    observe.output(SPEC)
    observe(torch.zeros(2, 3), torch.tensor([1, 2]))


def step_table():
    table = {
        Smooth: {"radius": 1.0, "axes": None, "mirrored": None},
        Coarsen: {"factor": 1, "axes": None}, Noise: {"sigma": 0.1},
        Scale: {"factor": 1.0, "offset": 0.0, "unit": None},
    }  # fmt: skip
    cases = {
        f"{kind.__name__}.{name}": lambda v, kind=kind, name=name, base=base: step(
            kind, **base | {name: v}
        )
        for kind, base in table.items()
        for name in base
    }
    base = {"k": [1.0, 2.0], "delta2": [1.0, 2.0], "cell_size": 1.0}
    others = ("edges", "variable", "limit", "wedge_slope", "wedge_buffer", "k_perp_min",
              "k_perp_max", "depth", "unit", "length")  # fmt: skip
    cases |= {
        f"SpectralNoise.{name}": lambda v, name=name: dumped(
            SpectralNoise(**base | {name: v}).to_dict()
        )
        for name in (*base, *others)
    }
    return cases | {
        "Mask.mask": lambda v: dumped(Observation([Mask(v)]).to_dict()),
        "Mask.fill": lambda v: dumped(Observation([Mask([1, 0, 1], v)]).to_dict()),
        "Observation": Observation, "Observation.of": Observation.of,
        "Observation.from_dict": Observation.from_dict,
        "observe x": lambda v: Observation([Noise(0.1)])(v, torch.tensor([1])),
        "observe seeds": lambda v: Observation([Noise(0.1)])(torch.zeros(1, 3), v),
    }  # fmt: skip


def option_table():
    npe = find_method("npe")
    table = {
        f"option {name}": lambda v, name=name: dumped(
            parse_options(npe, {name: v}).model_dump(mode="json")
        )
        for name in npe.options.model_fields
    }
    for model in (CalibrateSection, ReferenceSection):
        table |= {
            f"{model.__name__}.{name}": lambda v, name=name, model=model: dumped(
                validate_model(model, {name: v}).model_dump(mode="json")
            )
            for name in model.model_fields
        }
    return table | {
        f"run {name}": lambda v, name=name: validate_model(
            RunConfig, {"system": "nbody", "run_dir": "r", "seed": 1} | {name: v}
        ).model_dump_json()
        for name in ("seed", "workers")
    }


PURE = {
    **{f"FieldSpec.{k}": lambda v, k=k: specification(**{k: v})
       for k in ("name", "dims", "shape", "dtype", "unit", "axes")},
    **{f"Parameter.{k}": lambda v, k=k: parameter(**{k: v})
       for k in ("name", "prior", "unit", "latex", "inferred", "categories")},
    "ParameterSpace": ParameterSpace, "TorchPrior": priors.TorchPrior,
    "design n": lambda v: SPACE.design(v, 1), "design seed": lambda v: SPACE.design(3, v),
    "design kind": lambda v: SPACE.design(3, 1, v), "check": SPACE.check,
    **prior_table(), **step_table(), **option_table(),
    **{f"FunctionSimulator.{k}": lambda v, k=k: FunctionSimulator(
        **{"function": print, "parameters": SPACE, "output": SPEC} | {k: v})
       for k in ("function", "parameters", "output", "group_size", "source")},
}  # fmt: skip


def law(call, values=HOSTILE):
    """Values that broke it: neither accepted nor refused by an error of sbitools."""
    broken = {}
    for value in values:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call(value)
        except SbitoolsError as error:
            if not error.fix:
                broken[repr(value)[:40]] = f"no fix: {error}"
        except Exception as error:
            broken[repr(value)[:40]] = f"{type(error).__name__}: {error}"
    return broken


@pytest.mark.parametrize("name", PURE)
def test_law_of_what_is_constructed(name):
    assert law(PURE[name]) == {}


@pytest.fixture(scope="module")
def calls(store, tests_store, posterior, folder):
    """The same for what needs a store or a posterior; whatever is made goes to a new place."""
    theta, x = line(3, 6)
    here, saved = folder / "places", posterior.save(folder / "saved")
    here.mkdir()
    places = (here / f"{i}" for i in range(10**6))
    draws = draw(posterior, tests_store, 6)
    simulator = FunctionSimulator(lambda t, s: t.float() @ torch.ones(2, 3), SPACE, SPEC)

    def arrays(**given):
        base = {"path": next(places), "theta": theta, "x": x, "parameters": SPACE, "output": SPEC}
        SimulationStore.from_arrays(**base | given).digest()

    def planned(**given):
        made = plan(**{"simulator": simulator, "n": 4, "path": next(places), "seed": 1} | given)
        dumped([made.manifest.n, made.manifest.task_size, made.seed])

    def calibrated(**given):
        base = {"posterior": posterior, "test_store": tests_store, "n_draws": 2}
        result = sbitools.calibrate(**base | {"checks": ["recovery"], "progress": False} | given)
        dumped(result.to_dict())
        assert result.counts["emulated"]["draws"] >= 2

    def from_draws(**given):
        base = {"emulated": draws, "checks": ["recovery"], "with_power": False}
        dumped(calibrate_draws(**base | given).to_dict())

    def loaded(**given):
        base = {"store": store, "indices": np.arange(5), "batch_size": 2, "seed": 1}
        return list(StreamingLoader(**base | given).batches(0))

    def drawn(**given):
        return draw(**{"posterior": posterior, "store": tests_store, "n_draws": 2} | given)

    def described(**given):
        return describe(**{"posterior": posterior, "store": tests_store} | given)

    def held(**given):
        base = {"theta": theta[:5], "draws": np.random.default_rng(0).random((5, 6, 2))}
        return repr(CalibrationDraws(**base | given))

    def arviz(**given):
        return draws_to_arviz(**{"draws": theta, "parameters": SPACE, "prior": 3} | given)

    def parted(**given):
        return split(**{"store": store, "fraction": 0.1, "seed": 1} | given)

    def sampled(**given):
        return posterior.sample(**{"x": x[:1], "n": 2} | given)

    tables = {
        arrays: ("path", "theta", "x", "parameters", "output", "seeds", "group_size", "groups",
                 "unit", "source", "source_x", "nonfinite", "task_size", "design", "simulator"),
        planned: ("simulator", "n", "path", "seed", "design", "task_size"),
        calibrated: ("posterior", "test_store", "reference", "n_draws", "seed", "checks",
                     "false_alarm", "batch_size", "time_limit", "quantities", "required_power",
                     "progress"),
        from_draws: ("emulated", "reference", "checks", "false_alarm"),
        loaded: ("indices", "batch_size", "seed"),
        drawn: ("posterior", "store", "n_draws", "seed", "indices", "batch_size", "time_limit",
                "quantities"),
        described: ("posterior", "store", "indices", "n", "seed"),
        held: ("theta", "draws", "group", "names", "labels", "prior", "seed", "log_prob_true"),
        arviz: ("draws", "parameters", "log_prob", "x", "output", "prior", "seed"),
        parted: ("store", "fraction", "seed", "indices"),
        sampled: ("x", "n", "seed", "time_limit"),
    }  # fmt: skip
    made = {
        f"{call.__name__} {name}": lambda v, call=call, name=name: call(**{name: v})
        for call, names in tables.items()
        for name in names
    }
    made |= {
        f"{name} {k}": lambda v, name=name, k=k: getattr(calibration, name)(draws, **{k: v})
        for name in ("sbc", "tarp", "coverage", "contraction", "latent")
        for k in ("false_alarm", "seed")
    }
    return made | {
        "read": store.read, "read what": lambda v: store.read([0], v),
        "batches": lambda v: list(store.batches(v, 2)),
        "batches size": lambda v: list(store.batches([0, 1], v)),
        "open": SimulationStore, "open verify": lambda v: SimulationStore(store.path, v),
        "add index": lambda v: store.add(v, store.read([3])[0]),
        "add x": lambda v: store.add(0, v), "fail": lambda v: tests_store.fail(v, "m"),
        "export": store.export_design, "log_prob theta": lambda v: posterior.log_prob(v, x[:1]),
        "log_prob x": lambda v: posterior.log_prob(theta[:1], v), "features": posterior.features,
        "latent": lambda v: posterior.latent(theta[:1], x[:1], v),
        "observe": lambda v: posterior.observe(v, torch.tensor([1])),
        "observe seeds": lambda v: posterior.observe(x[:1], v),
        "load device": lambda v: Posterior.load(saved, v),
    }  # fmt: skip


def test_law_of_what_stores_and_posteriors_are_asked(calls, monkeypatch, folder):
    monkeypatch.chdir(folder)  # a name is a path
    broken = {name: found for name, call in calls.items() if (found := law(call))}
    assert broken == {}


# Where work would begin if the value was accepted: the same law, for values that must not be.
NEVER = [v for v in HOSTILE if not isinstance(v, int | float | np.generic | torch.Tensor)
         and not (isinstance(v, np.ndarray) and v.ndim == 0) and v is not None] + [
    True, 2.5, float("nan"), -5, 10**400]  # fmt: skip


@pytest.mark.parametrize("name", ["n", "workers", "task_size", "time_limit", "seed", "resume"])
def test_a_campaign_does_not_begin_with_what_is_no_number(name, tmp_path):
    simulator = FunctionSimulator(lambda t, s: t.float() @ torch.ones(2, 3), SPACE, SPEC)
    for value in NEVER:
        if (name, value) in (("time_limit", 2.5), ("resume", True)):
            continue
        arguments = {"n": 4, "seed": 1, "workers": 1, "progress": False} | {name: value}
        with pytest.raises(SbitoolsError):
            sbitools.simulate(simulator, path=tmp_path / "s", **arguments)
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["store", "method", "observe", "run_dir", "resume", "start"])
def test_training_does_not_begin_with_something_else(name, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fine = {"resume": (True,), "run_dir": ("3", np.str_("q"))}.get(name, ())
    for value in HOSTILE:
        none = value is None and name in ("observe", "start")
        if none or any(value is f or (isinstance(f, str) and value == f) for f in fine):
            continue
        if name == "observe" and isinstance(value, dict):
            continue
        with pytest.raises(SbitoolsError):
            sbitools.train(**{"store": store, "run_dir": tmp_path / "r"} | QUICK | {name: value})


@pytest.mark.parametrize("name", ["trials", "space", "store", "run_dir", "seed"])
def test_a_search_does_not_begin_with_something_else(name, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (True, 2.5, [3], object(), b"x", -5, "a\0b"):
        arguments = {"store": store, "trials": 1, "run_dir": tmp_path, "seed": 1} | {name: value}
        with pytest.raises(SbitoolsError):
            search(**arguments, **QUICK)


ROUNDS = ("simulator", "x_observed", "n_per_round", "rounds", "epsilon", "workers", "observe")


@pytest.mark.parametrize("name", ROUNDS)
def test_rounds_do_not_begin_with_something_else(name, tmp_path):
    simulator = FunctionSimulator(lambda t, s: t.float() @ torch.ones(2, 3), SPACE, SPEC)
    base = {"simulator": simulator, "x_observed": np.zeros(3, "f4"), "n_per_round": 30, "seed": 1}
    for value in (True, 2.5, "3", [3], object(), b"x", -5, float("nan")):
        with pytest.raises(SbitoolsError):
            sbitools.train_rounds(**base | {"run_dir": tmp_path / "r"} | {name: value})


@pytest.mark.parametrize("n", [0, -5, 2.5, True, float("nan"), "3"])
def test_no_draws_give_no_verdict(n, posterior, tests_store):
    with pytest.raises(SbitoolsError, match="n_draws"):
        sbitools.calibrate(posterior, tests_store, n_draws=n, progress=False)
    with pytest.raises(SbitoolsError, match="n_draws"):
        draw(posterior, tests_store, n)
