"""Plots draw what the checks found, for one set of tests and for two on the same axes."""

import matplotlib
import pytest

from sbitools.calibration import calibrate_draws
from sbitools.errors import ConfigError
from tests.oracles.gaussian import calibration_draws

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def result():
    return calibrate_draws(calibration_draws(80, 40, seed=1), calibration_draws(60, 30, seed=2))


@pytest.mark.parametrize("name", ["sbc", "coverage", "tarp", "contraction", "recovery"])
def test_pairs_share_axes(result, name):
    ax = result.plot(name)
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert any("emulated" in t for t in texts)
    assert any("reference" in t for t in texts)
    assert ax.get_xlabel()
    ax.figure.canvas.draw()


def test_every_check_draws_alone(result, tmp_path):
    for checks in result.sets().values():
        for i, check in enumerate(checks):
            ax = check.plot(label="demo", color="#0072B2")
            ax.figure.savefig(tmp_path / f"{i}.png")
            assert ax.get_title() == check.name


def test_curves_are_those_of_the_check(result):
    check = result.check("sbc")
    line = check.plot().get_lines()[0]
    assert line.get_ydata()[1:-1] == pytest.approx(check.details["ecdf"][0] - check.details["z"])


def test_unknown_kinds_are_refused(result):
    import dataclasses

    with pytest.raises(ConfigError, match="kind"):
        dataclasses.replace(result.check("sbc"), kind="pie").plot()


def test_pyplot_keeps_no_figure(result):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    result.plot("sbc")
    assert plt.get_fignums() == before
