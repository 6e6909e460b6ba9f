"""Tables with the right numbers, and figures that leave nothing behind."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from sbitools.arviz import draws_to_arviz
from sbitools.errors import PosteriorError

from .conftest import MODEL, Bounded, Exact

HERE = torch.tensor([0.4, 0.1], dtype=torch.float64)


def test_a_summary_has_the_moments_and_units():
    table = Bounded().summary(HERE, n=4000, seed=1)
    law = Bounded()._cut(0.4)
    assert table.index.tolist() == ["a", "b"]
    assert table["unit"].tolist() == ["km / s", ""]
    # Five standard errors of 4,000 draws; of a density of 1 / width at the ends, about.
    assert table.loc["a", "mean"] == pytest.approx(law.mean(), abs=5 * law.std() / np.sqrt(4000))
    assert table.loc["a", "sd"] == pytest.approx(law.std(), rel=5 / np.sqrt(2 * 4000))
    assert table.loc["b", "16%"] == pytest.approx(np.exp(0.1 - 0.2 * 0.9945), rel=0.03)
    assert "ess_bulk" not in table
    assert table.equals(Bounded().summary(HERE, n=4000, seed=1))


def test_intervals_are_those_of_arviz():
    own = Bounded().summary(HERE, n=4001, hdi=0.9)
    data = draws_to_arviz(Bounded().sample(HERE[None], 4001, 0), Bounded.parameters)
    import arviz

    theirs = arviz.summary(data, hdi_prob=0.9, kind="stats", round_to="none")
    for name in ("a", "b"):
        ends = own.loc[name, ["hdi 90% low", "hdi 90% high"]].tolist()
        assert ends == pytest.approx(theirs.loc[name, ["hdi_5%", "hdi_95%"]].tolist())
        assert own.loc[name, "mean"] == pytest.approx(theirs.loc[name, "mean"])


def test_several_observations_have_an_index_of_two_levels(x):
    table = Exact().summary(x, n=100, quantiles=(0.5,))
    assert table.index.names == ["observation", "parameter"]
    assert table.shape == (9, 6)
    assert table.loc[(2, "theta_1"), "mean"] == pytest.approx(
        MODEL.mean(x.numpy())[2, 1], abs=5 * np.sqrt(MODEL.covariance[1, 1] / 100)
    )


def test_bad_requests_for_a_table_are_refused(x):
    for bad in ({"n": 0}, {"hdi": 1.5}, {"quantiles": (2.0,)}):
        with pytest.raises(PosteriorError):
            Exact().summary(x, **bad)


def test_a_corner_plot_has_labels_units_and_truth():
    figure = Bounded().plot(HERE, {"b": 1.1, "a": 0.5}, n=500, title="one")
    axes = figure.axes
    assert len(axes) == 4
    labels = [ax.get_xlabel() for ax in axes] + [ax.get_ylabel() for ax in axes]
    assert {r"$\alpha$ [km / s]", "b"} <= set(labels)
    lines = [line.get_xdata() for line in axes[0].lines if len(line.get_xdata()) == 2]
    assert list(lines[-1]) == [0.5, 0.5]
    low, high = axes[0].get_xlim()
    assert low >= 0
    assert high <= 1


def test_a_figure_leaves_no_state_behind(tmp_path):
    """In a process of its own: pyplot is not imported, and no setting of matplotlib changes."""
    script = """
import sys, matplotlib, torch
before = dict(matplotlib.rcParams)
from tests.results.conftest import Bounded
figure = Bounded().plot(torch.tensor([0.4, 0.1], dtype=torch.float64), n=300)
figure.savefig(sys.argv[1])
assert dict(matplotlib.rcParams) == before
print("matplotlib.pyplot" in sys.modules and sys.modules["matplotlib.pyplot"].get_fignums())
"""
    path = tmp_path / "corner.png"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    assert done.stdout.strip() in ("False", "[]"), done.stderr
    assert path.stat().st_size > 5000


def test_bad_figures_are_refused(x):
    with pytest.raises(PosteriorError, match="one observation"):
        Exact().plot(x)
    with pytest.raises(PosteriorError, match="truth"):
        Exact().plot(x[0], [1.0])
    with pytest.raises(PosteriorError, match="truth"):
        Exact().plot(x[0], {"a": 1.0})
