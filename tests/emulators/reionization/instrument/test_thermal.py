"""The step of an observation: slabs, frequencies, wedge, and what does not fit."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from emulators.reionization.instrument import shipped_table, thermal_noise, write_table
from emulators.reionization.instrument.geometry import LINE
from emulators.reionization.instrument.thermal import slab_edges
from emulators.reionization.reference.distance import cell_redshifts
from sbitools import FieldSpec, Observation
from sbitools.errors import ObservationError
from sbitools.seeds import generator

N, N_LOS, CELL = 32, 100, 4.0
REDSHIFTS = cell_redshifts(np.array([0.3158]), 7.0, CELL, N_LOS)[0]
CONE = FieldSpec("brightness_temperature", ("x", "y", "los"), (N, N, N_LOS), unit="mK")


def test_slabs_are_short_and_take_the_frequency_at_their_centre():
    edges = slab_edges(REDSHIFTS)
    ratios = [(1 + REDSHIFTS[b - 1]) / (1 + REDSHIFTS[a]) for a, b in pairwise(edges)]
    assert (edges[0], edges[-1]) == (0, N_LOS)
    assert max(ratios[:-1]) <= 1.02  # the last one may have taken in a rest of half a slab
    assert ratios[-1] <= 1.031
    assert len(ratios) == round(math.log((1 + REDSHIFTS[-1]) / 8) / math.log(1.02))
    step = thermal_noise("optimistic", REDSHIFTS, CELL, CONE.shape)
    values, table = step.to_dict(), shipped_table("optimistic")
    assert values["edges"] == edges
    for i, (a, b) in enumerate(pairwise(edges)):
        frequency = LINE / math.sqrt((1 + REDSHIFTS[a]) * (1 + REDSHIFTS[b - 1]))
        got = [math.inf if v is None else v for v in values["delta2"][i]]
        np.testing.assert_allclose(got, table.at(frequency), rtol=1e-9)
        assert values["wedge_slope"][i] == pytest.approx(table.wedge_slope(frequency), rel=1e-9)
    # From far to near the same slabs come in the other order, counted from the far end.
    assert slab_edges(REDSHIFTS[::-1])[-1] == N_LOS
    assert slab_edges(REDSHIFTS[:1]) == [0, 1]


def test_a_cone_loses_its_wedge_and_gets_the_noise_of_the_table():
    step = thermal_noise("moderate", REDSHIFTS, CELL, CONE.shape, limit=None)
    observe = Observation([step])
    assert observe.output(CONE) == CONE
    noise = observe(torch.zeros(20, *CONE.shape), torch.arange(20))
    first = slice(step.edges[0], step.edges[1])
    modes = torch.fft.rfftn(noise[..., first].double(), dim=(1, 2, 3)).numpy()
    n = step.edges[1]
    k_axis = 2 * np.pi * np.fft.fftfreq(N, CELL)
    k_perp = np.broadcast_to(np.hypot(k_axis[:, None], k_axis)[..., None], modes.shape[1:])
    k_par = np.broadcast_to(2 * np.pi * np.fft.rfftfreq(n, CELL), modes.shape[1:])
    table = shipped_table("moderate")
    frequency = LINE / math.sqrt((1 + REDSHIFTS[0]) * (1 + REDSHIFTS[n - 1]))
    wedge = k_par < table.wedge_slope(frequency) * k_perp + table.buffer
    power = np.abs(modes) ** 2
    assert power[:, wedge].max() < 1e-9 * power.max()
    seen = ~wedge & (k_perp > 0.06)
    seen[..., -1] = False  # the Nyquist plane holds k and -k
    assert seen.sum() > 80
    # White along the line of sight: P depends on k_perp alone, and is interpolated in the table.
    mode = np.exp(np.interp(np.log(k_perp[seen]), np.log(table.k), np.log(table.at(frequency))))
    want = 2 * np.pi**2 * mode / k_perp[seen] ** 3 * N * N * n / CELL**3
    ratio = power[:, seen] / want
    assert abs(ratio.mean() - 1) < 5 / math.sqrt(ratio.size)  # a mean of exponentials


def test_the_recipe_of_mock_observations_is_lower():
    noise = {
        quantity: thermal_noise("optimistic", 8.0, CELL, (N, N), quantity=quantity, wedge=False)
        for quantity in ("mode", "average")
    }
    x, seeds = torch.zeros(4, N, N), torch.arange(4)
    large, small = (noise[q].apply(x, seeds).std() for q in ("mode", "average"))
    assert small < large / 3
    values = noise["average"].to_dict()
    assert values["wedge_slope"] == [0.0]
    assert (values["k_perp_min"], values["k_perp_max"]) == ([0.0], [None])
    assert values["variable"] == "k"


def test_short_baselines_alone_blur_the_image():
    sharp, blurred = (
        thermal_noise("optimistic", 8.0, 2.0, (64, 64), limit=None, longest_baseline=length)
        for length in (None, 800.0)
    )
    x = torch.randn(2, 64, 64, generator=generator(1))
    k = 2 * np.pi * np.fft.fftfreq(64, 2.0)
    k = np.hypot(k[:, None], 2 * np.pi * np.fft.rfftfreq(64, 2.0))
    cut = float(shipped_table("optimistic").background.k_perp(800.0, LINE / 9))
    for step, limit in ((sharp, math.inf), (blurred, cut)):
        kept = torch.fft.rfft2(step.remove(x)).abs().numpy().mean(0) > 1e-3
        assert np.array_equal(kept, (k <= limit) & (k > 0))
    assert 0.1 < cut < 1.0


def test_files_and_tables_serve_like_names(tmp_path):
    table = shipped_table("moderate")
    write_table(tmp_path / "own.csv", table)
    own = {"a": "moderate", "b": table, "c": tmp_path / "own.csv", "d": str(tmp_path / "own.csv")}
    steps = [thermal_noise(t, 8.0, CELL, (N, N), depth=12).to_dict() for t in own.values()]
    assert all(step == steps[0] for step in steps)
    assert Observation.from_dict(steps[:1]).to_dict() == steps[:1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pessimistic.csv", 8.0, CELL, (N, N)), "can be read"),
        (("moderate", 40.0, CELL, (N, N)), "39.05 to 236.73 MHz; got 34.64 MHz"),
        (("moderate", math.nan, CELL, (N, N)), "finite numbers above -1"),
        (("moderate", -2.0, CELL, (N, N)), "finite numbers above -1"),
        (("moderate", 8.0, CELL, (N,)), "line of sight"),
        (("moderate", 8.0, -1.0, (N, N)), "positive finite cell"),
        (("moderate", REDSHIFTS, CELL, (N, N)), "one number, or a monotonic one"),
        (("moderate", REDSHIFTS[:-1], CELL, CONE.shape), "one number, or a monotonic one"),
        (("moderate", REDSHIFTS[[0, 2, 1]], CELL, (N, N, 3)), "one number, or a monotonic one"),
    ],
)
def test_arguments_that_do_not_fit_raise_typed_errors(arguments, message):
    with pytest.raises(ObservationError, match=rf"expected .*{message}"):
        thermal_noise(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantity": "median"}, "'median'"),
        ({"slab_step": 1.0}, "more than 1"),
        ({"longest_baseline": 10.0}, "more than 45 m"),
        ({"limit": 0.0}, "positive limit"),
    ],
)
def test_options_that_do_not_fit_raise_typed_errors(options, message):
    with pytest.raises(ObservationError, match=message):
        thermal_noise("moderate", REDSHIFTS, CELL, CONE.shape, **options)
