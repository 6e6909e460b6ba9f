"""Figures are drawn, without matplotlib's global state, and written."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from emulators.survey.maps import figures as draw
from emulators.survey.maps.statistics import measure, split_sets
from sbitools.statistics import sample_covariance
from tests.emulators.survey.striped import stripes


@pytest.fixture(scope="module")
def figures():
    maps = {"input": stripes(3, 1), "emulation": stripes(12, 2)}
    sets = {
        name: [measure(part) for part in split_sets(stripes(12, seed), 6)]
        for seed, name in enumerate(("reference", "emulator", "start"))
    }
    deviations = {"emulator": {"EE": np.linspace(-2, 2, 10), "BB": np.zeros(10)}}
    matrices = {name: sample_covariance(m) for name, m in maps.items()}
    return {
        "maps": draw.map_figure(maps, "uK"),
        "close_ups": draw.close_ups(maps, 1),
        "spectra": draw.spectra_figure(deviations, 10),
        "covariance": draw.correlation_figure(matrices, 4),
        "eigenvalues": draw.eigenvalue_figure({"reference": np.arange(9, 0, -1.0)}),
        "chi2": draw.chi2_figure({"exact": np.linspace(0.1, 2, 30)}),
        "pdf": draw.pdf_figure(sets),
        "minkowski": draw.minkowski_figure(sets, "reference"),
        "scattering": draw.scattering_figure(sets, "reference"),
    }


def test_what_is_drawn(figures):
    images = [ax.images for ax in figures["maps"].axes[:12]]
    assert all(len(found) == 1 for found in images)
    assert len(figures["close_ups"].axes) == 2 * len(draw.PLACES)
    band = figures["spectra"].axes[0].patches[1]
    assert band.get_height() == pytest.approx(2 / 10**0.5)  # sigma / sqrt(N) on both sides
    line = figures["spectra"].axes[0].lines[0]
    assert line.get_xdata()[0] == 2
    assert line.get_ydata()[0] == pytest.approx(-2 / 10**0.5)
    assert len(figures["minkowski"].axes) == 6
    flat = figures["minkowski"].axes[0].lines[0].get_ydata()  # the reference minus itself
    assert np.all(flat == 0)


def test_they_are_written(figures, tmp_path):
    small = {name: figures[name] for name in ("spectra", "pdf")}
    paths = draw.save_figures(tmp_path / "new", small)
    assert [p.name for p in paths] == ["spectra.png", "pdf.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in paths)


def test_no_global_state_is_used(figures):
    assert figures
    assert not getattr(sys.modules.get("matplotlib.pyplot"), "get_fignums", list)()
