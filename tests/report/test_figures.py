"""Figures of the report: what a system gives is drawn, and pictures keep to the prior."""

from __future__ import annotations

import numpy as np
import pytest

from sbitools import Parameter, ParameterSpace, priors
from sbitools.display.corner import _marginal, axis_bounds, contour_heights
from sbitools.report.artifacts import load_statistics, save_statistics
from sbitools.report.emulator_figures import emulator_blocks


def test_emulator_figures_of_everything_a_system_may_give():
    k = np.geomspace(0.1, 1, 6)
    curves = {name: np.ones(6) for name in ("reference", "emulator", "ZA", "2LPT")}
    image = np.arange(16.0).reshape(4, 4)
    statistics = {
        "k": k, "k_label": "k [h/Mpc]", "k_nyquist": 1.0, "n": 3,
        "curves": {key: dict(curves) for key in ("power", "transfer", "correlation")},
        "noise_floor": {key: np.full(6, 0.1) for key in ("power", "transfer", "correlation")},
        "pdf": {"x": k, "x_label": "delta", "curves": curves, "noise_floor": np.full(6, 0.1)},
        "errors": {"displacement": {"emulator": 0.1, "ZA": 0.4}},
        "fields": {"reference": image, "emulator": image, "difference": 0 * image},
        "labels": {"power": "Power.", "displacement": "rms in Mpc/h."},
    }  # fmt: skip
    blocks = emulator_blocks(statistics)
    assert [block.block for block in blocks] == ["figure", "figure", "figure", "table"]
    assert "emulator − reference" in blocks[0].alt
    assert "Nyquist" in blocks[1].caption
    bare = {key: value for key, value in statistics.items() if key != "k_nyquist"}
    assert "Nyquist" not in emulator_blocks(bare)[1].caption
    assert emulator_blocks({}) == []


def test_figures_of_a_comparison_at_equal_theta():
    k, image = np.geomspace(0.1, 1, 6), np.arange(64.0).reshape(16, 4)
    lines = {"reference": np.ones(6), "emulator": np.ones(6)}
    curves = {"a": "log", "b": "ratio", "c": "plain", "d": "difference"}
    statistics = {
        "equal_theta": True, "k": k, "k_scale": "linear", "curves": dict.fromkeys(curves, lines),
        "curve_kinds": curves, "noise_floor": dict.fromkeys(curves, np.full(6, 0.1)),
        "pdfs": {name: {"x": k, "curves": lines} for name in ("T", "E")},
        "matrices": {"reference": np.eye(3), "difference": np.zeros((3, 3))},
        "errors": {f"quantity {i}": {"emulator": i, "floor": 1.0} for i in range(6)},
        "responses": {"Omega": {"seen in": "mean", "reference": 1.0}},
        "response_curves": {"Omega": {**lines, "floor": np.full(6, 0.1)}},
        "fields": {"reference": image, "emulator": image}, "fields_range": np.array([0.0, 9.0]),
        "fields_caption": "Other seeds.", "labels": {"errors": "At equal theta."},
    }  # fmt: skip
    blocks = emulator_blocks(statistics)
    assert [block.block for block in blocks] == [
        "figure", "figure", "figure", "figure", "table", "figure", "table"
    ]  # fmt: skip
    assert blocks[4].headings == ("against the reference", "emulator", "floor")
    assert blocks[4].rows[3] == ("quantity 3", "3", "1")
    assert blocks[6].rows == [("Omega", "mean", "1")]
    assert "Nyquist" not in blocks[1].caption
    series = {"fields": {"reference": k, "emulator": -k}, "fields_caption": "Other seeds."}
    assert [block.block for block in emulator_blocks(series)] == ["figure"]


def test_statistics_round_trip(tmp_path):
    statistics = {"k": np.arange(3.0), "n": 4, "labels": {"a": "text"}, "none": None,
                  "curves": {"power": {"PM, 3 steps": np.ones(2)}},
                  "errors": {"P / reference": {"a~1/b~": 1.0}}}  # fmt: skip
    back = load_statistics(save_statistics(tmp_path, statistics))
    assert back["n"] == 4
    assert back["labels"] == {"a": "text"}
    assert np.array_equal(back["curves"]["power"]["PM, 3 steps"], np.ones(2))
    assert "none" not in back
    assert back["errors"] == statistics["errors"]  # names may have a slash


def test_contours_hold_their_share():
    x = np.linspace(-5, 5, 201)
    density = np.exp(-0.5 * (x[:, None] ** 2 + x[None] ** 2))
    heights = contour_heights(density, (0.95, 0.68))
    # exp(-r^2/2) holds 1 - height of a two-dimensional normal; the grid is fine to 1 %.
    assert heights == pytest.approx([0.05, 0.32], rel=0.02)


def test_axes_of_corner_plots_stay_inside_the_prior():
    space = ParameterSpace([Parameter("a", priors.Uniform(0, 1)),
                            Parameter("b", priors.Normal(0, 1))])  # fmt: skip
    points = np.random.default_rng(0).random((2, 500, 2))
    (low, high), (below, above) = axis_bounds(points, space, points[:, 0])
    assert (low, high) == (0, 1)
    assert below < 0
    assert above > 1


def test_marginals_of_a_prior_stay_flat_up_to_its_bounds():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    _marginal(ax, np.linspace(0, 1, 48 * 100), np.array([0.0, 1.0]))
    x, density = ax.get_lines()[0].get_xydata().T
    assert (x[0], x[-1]) == (0, 1)
    assert density == pytest.approx(density.mean(), rel=0.03)  # 100 draws per bin, +-1


# --- in a browser -------------------------------------------------------------------------------
