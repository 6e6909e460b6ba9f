"""What a notebook is shown: short representations, bars of text, labels that can be set."""

import sys
import types

import numpy as np
import pytest

import sbitools
from sbitools import FunctionSimulator, Observation, Parameter, ParameterSpace, priors
from sbitools.arviz import draws_to_arviz, draws_to_getdist, from_arviz
from sbitools.calibration import CalibrationDraws
from sbitools.calibration.sampling import draw
from sbitools.commands.demo import folder_override
from sbitools.config import apply_overrides
from sbitools.display.bars import counting
from sbitools.display.typeset import settable
from sbitools.errors import ConfigError
from sbitools.inference import MCMCPosterior
from sbitools.inference.repaired import RecalibratedPosterior
from sbitools.inference.repaired.shape import ScoreShape
from sbitools.observation import Noise
from sbitools.repairs import augmentation_factor, learning_curve
from sbitools.report.figures import canvas, embed
from sbitools.seeds import normal
from sbitools.simulator import FieldSpec
from sbitools.training import TrainingHistory

from .conftest import SPACE, SPEC

U = priors.Uniform(0.0, 1.0)


def many(n):
    return ParameterSpace([Parameter(f"parameter_{i}", U) for i in range(n)])


def test_representations_are_short_and_say_what_it_is(posterior, tests_store):
    result = sbitools.calibrate(posterior, tests_store, n_draws=30, progress=False)
    draws = draw(posterior, tests_store, 30)
    history = TrainingHistory([{"epoch": i, "train_loss": 0.1} for i in range(500)], 3, 1.0, "x")
    categories = tuple(f"category {i}" for i in range(400))
    shown = {
        "passed": repr(result), "sbc": repr(result.check("sbc")), "60x30": repr(draws),
        "Posterior": repr(posterior), "done": repr(tests_store), "parameter_0": repr(many(300)),
        "noise": repr(Observation([Noise(0.1)] * 200)), "500": repr(history),
        "400 of str": repr(Parameter("c", None, categories=categories)),
        "familiar": repr(posterior.familiarity) + "familiar",
        "<table>": result._repr_html_()[:999],
        "p =": repr(result.checks["summary"].iloc[0]) + "p =",
    }  # fmt: skip
    for expected, text in shown.items():
        assert expected in text
        assert len(text) < 1000
    assert "<script" not in result._repr_html_()


def test_results_of_every_kind_are_shown_in_a_few_lines(posterior, tests_store):
    repaired = RecalibratedPosterior(posterior, ScoreShape(np.zeros((2, 4))))
    levels = list(np.random.default_rng(0).random(500))
    repaired.info |= {"repair": {"tried": {k: {"levels": levels} for k in "abc"}}}
    unnormalised = MCMCPosterior(
        posterior.estimator, posterior.options, posterior.parameters, posterior.output,
        posterior.observation,
    )  # fmt: skip
    scores = np.random.default_rng(1).normal(size=(3, 200)) + np.arange(3)[:, None]
    sizes = [100, 300, 1000]
    curve = learning_curve(sizes, scores, seed=1)
    factor = augmentation_factor(sizes, scores, scores[1], 100, seed=1)
    with_tables = [posterior, unnormalised, repaired, tests_store, SPACE, many(300), curve]
    for value in (*with_tables, factor, repaired.info, posterior.info):
        html = value._repr_html_() if hasattr(value, "_repr_html_") else ""
        assert len(repr(value)) <= 900
        assert len(html) < 4000
        assert html.count("<tr>") + repr(value).count("\n") <= 20
    assert all("<table>" in value._repr_html_() for value in with_tables)
    assert "&lt;b&gt;" in ParameterSpace([Parameter("a", U, unit="<b>")])._repr_html_()
    assert "repair" in repr(repaired.info)


def test_a_notebook_without_widgets_gets_a_bar_of_text(monkeypatch, capsys):
    shell = type("ZMQInteractiveShell", (), {})()
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    with counting("posterior draws", 40) as bar:  # warnings are errors
        for _ in range(4):
            bar.add(10)
    written = capsys.readouterr()
    assert written.err.rstrip().endswith("] 40/40")
    assert written.err.endswith("\n")
    assert written.out == ""


def test_elsewhere_a_bar_is_silent(capsys):
    with counting("posterior draws", 40) as bar:
        bar.add(40)
    assert capsys.readouterr() == ("", "")


def test_a_finished_campaign_says_what_there_is_to_do(tmp_path, capsys):
    def sometimes(theta, seeds):
        if float(theta[0, 0]) > 0.7:
            raise RuntimeError("no")
        return normal(seeds, (3,))

    simulator = FunctionSimulator(sometimes, SPACE, SPEC)
    arguments = {"seed": 1, "workers": 1, "task_size": 1}
    store = sbitools.simulate(simulator, 8, tmp_path / "s", progress=False, **arguments)
    counts = store.counts()
    assert counts["failed"]
    capsys.readouterr()
    sbitools.simulate(simulator, 8, tmp_path / "s", **arguments)
    assert capsys.readouterr().err == (
        f"simulations: nothing to do: {counts['done']} done, {counts['failed']} failed; "
        "retry_failed=True runs them again\n"
    )
    sbitools.simulate(simulator, 8, tmp_path / "s", progress=False, **arguments)
    assert capsys.readouterr().err == ""


LABELS = {
    r"\Omega_m": r"$\Omega_m$", r"$\Omega_m$": r"$\Omega_m$", r" $h$ ": "$h$", None: "f_nl_x",
    r"\bm{x}": "f_nl_x", r"\Omega_{m": "f_nl_x", "$": "f_nl_x", "": "f_nl_x", "a$b": "f_nl_x",
    "\\": "f_nl_x", r"\frac": "f_nl_x", "x^": "f_nl_x", "_": "f_nl_x",
}  # fmt: skip


UNITS = ("", "%", "Mpc$", "$h^{-1}$ Mpc", r"$\bm{K}$", "{", "#", "\\")


@pytest.mark.parametrize("latex", LABELS)
def test_every_label_can_be_set(latex):
    labels = [Parameter("f_nl_x", U, latex=latex, unit=unit).label for unit in UNITS]
    assert all(label.startswith(LABELS[latex]) and settable(label) for label in labels)
    figure, axes = canvas()
    raw = [rf"raw ${latex}$ {unit}" for unit in UNITS]
    for label in (*labels, *(f"emulated: {label}" for label in labels), *raw):
        axes[0, 0].text(0, 0, label)
    assert embed(figure).startswith("data:image/svg+xml")


def test_labels_of_draws_are_tried_too():
    draws = CalibrationDraws(
        np.random.default_rng(0).random((5, 1)), np.random.default_rng(1).random((5, 6, 1)),
        names=("a",), labels=(r"$\bm{a}$",),
    )  # fmt: skip
    assert settable(draws.labels[0])


@pytest.mark.parametrize(
    ("name", "unit"),
    [("Omega_m", ""), ("log_M_min", ""), ("a_", "km / s"), ("f", "%"), ("g", "1e10 Msun_h^-1"),
     ("h", "#{"), ("_", "\\")],
)  # fmt: skip
def test_getdist_can_set_every_label(name, unit):
    space = ParameterSpace([Parameter(name, U, unit=unit), Parameter("z", U)])
    samples = draws_to_getdist(np.random.default_rng(0).random((200, 2)), space)
    for label in samples.getParamNames().labels():
        assert settable(f"${label}$")
        assert label


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("name", "dims"),
    [("x", ("x", "y")), ("x", ("x", "x_axis")), ("observation", ("draw", "observation")),
     ("chain", ("chain", "draw")), ("T/mK", ("a/b", "y")), ("lp", ("observation", "lp"))],
)  # fmt: skip
def test_no_name_of_a_field_or_an_axis_costs_the_observed_data(name, dims, batch):
    x = np.random.default_rng(0).random((batch, 2, 3)).astype("f4")
    draws = np.random.default_rng(1).random((batch, 50, 2))
    for container in ("InferenceData", "DataTree"):
        data = draws_to_arviz(
            draws, SPACE, x=x, output=FieldSpec(name, dims, (2, 3)), container=container
        )
        kept = data["observed_data"][name.replace("/", "_")]
        assert np.array_equal(kept.values, x[0] if batch == 1 else x)


@pytest.mark.parametrize("container", ["InferenceData", "DataTree"])
def test_no_name_of_a_parameter_costs_its_draws(container):
    names = ("draw", "chain", "observation", "draw_parameter", "lp")
    space = ParameterSpace([Parameter(name, U) for name in names])
    draws = np.random.default_rng(1).random((2, 50, len(names)))
    assert np.array_equal(from_arviz(draws_to_arviz(draws, space, container=container), space),
                          draws)  # fmt: skip


@pytest.mark.parametrize("folder", [r"C:\new\table", "it's", 'say "x"', "a=b", "é\x7f", "~/x y"])
def test_results_go_to_the_folder_that_was_named(folder):
    assert apply_overrides({}, [folder_override(folder)]) == {"run_dir": folder}


def test_a_folder_whose_name_is_no_text_is_refused():
    with pytest.raises(ConfigError, match="--out"):
        folder_override("\udcff")
