"""The observation model."""

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, Observation
from sbitools.errors import ObservationError
from sbitools.observation import Coarsen, Mask, Noise, Scale, Smooth
from sbitools.seeds import generator, normal

SPEC = FieldSpec("delta", ("x", "y", "z"), (8, 8, 8))
SEEDS = torch.tensor([3, 5])


def test_smoothing_damps_a_plane_wave_by_its_window():
    n, radius, mode = 16, 1.5, 3
    wave = torch.cos(2 * torch.pi * mode * torch.arange(n) / n).expand(n, n, n)[None]
    got = Smooth(radius).apply(wave, SEEDS[:1])
    factor = np.exp(-0.5 * (2 * np.pi * mode / n * radius) ** 2)
    torch.testing.assert_close(got, factor * wave, rtol=0, atol=1e-6)  # float32 FFT


def test_coarsening_keeps_the_mean_and_takes_block_means():
    x = torch.randn(2, 8, 8, 8, generator=generator(0))
    got = Coarsen(2).apply(x, SEEDS)
    assert tuple(got.shape[1:]) == Coarsen(2).output(SPEC).shape == (4, 4, 4)
    torch.testing.assert_close(got[0, 1, 0, 2], x[0, 2:4, 0:2, 4:6].mean())


def test_noise_is_one_draw_per_seed_whatever_the_batch():
    observe = Observation([Noise(0.5)])
    x = torch.zeros(2, 8, 8, 8)
    both = observe(x, SEEDS)
    assert torch.equal(both[1:], observe(x[1:], SEEDS[1:]))
    assert not torch.equal(both[0], both[1])
    # 512 cells each: the standard deviation is known to 3 %; 5 sigma is a false alarm of 6e-7.
    assert abs(float(both.std()) / 0.5 - 1) < 5 * 0.5 / 512**0.5


def test_units_masks_and_round_trip(tmp_path):
    mask = np.zeros((8, 8, 8))
    mask[:4] = 1
    np.save(tmp_path / "mask.npy", mask)
    observe = Observation(
        [Scale(2.0, 1.0, "mK"), Smooth(1.0), Noise(0.1), Mask(mask, -9.0), Coarsen(2)]
    )
    assert observe.output(SPEC).unit == "mK"
    again = Observation.from_dict(observe.to_dict())
    x = torch.ones(2, 8, 8, 8)
    assert torch.equal(observe(x, SEEDS), again(x, SEEDS))
    assert observe.digest() == again.digest()
    file = Observation.from_dict([{"kind": "mask", "file": str(tmp_path / "mask.npy"), "fill": 1}])
    assert float(file(2 * x, SEEDS)[0, 7, 0, 0]) == 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Smooth(0.0),
        lambda: Noise(-1.0),
        lambda: Noise(float("nan")),
        lambda: Coarsen(3).output(SPEC),
        lambda: Scale(0.0),
        lambda: Mask(np.zeros((8, 8, 8))),
        lambda: Mask(np.ones((4, 4))).output(SPEC),
        lambda: Observation.from_dict([{"kind": "blur", "radius": 1}]),
        lambda: Observation.from_dict([{"kind": "smooth", "sigma": 1}]),
        lambda: Observation.from_dict([{"kind": "mask", "file": "absent.npy"}]),
    ],
)
def test_bad_steps_raise_typed_errors(make):
    with pytest.raises(ObservationError, match=r"expected .*; got .*; fix: "):
        make()


def test_noises_are_independent_of_each_other_and_of_the_simulation():
    x = torch.zeros(4, 8, 8, 8)
    seeds = torch.arange(4)
    twice = Observation([Noise(1.0), Noise(1.0)])
    # 2,048 cells: the standard deviation is known to 1.6 %; equal draws would give 2.
    assert abs(float(twice(x, seeds).std()) / 2**0.5 - 1) < 0.08
    assert not torch.equal(Observation([Noise(1.0)])(x, seeds), normal(seeds, (8, 8, 8)))
    whole = Observation([Smooth(1.0), Noise(1.0), Noise(1.0)])
    first, second = whole.split()
    assert torch.equal(second(first(x, seeds), seeds), whole(x, seeds))
    with pytest.raises(ObservationError, match="one for each of 4"):
        twice(x, seeds[:1])


@pytest.mark.parametrize("step", [Smooth(1.0), Noise(1.0), Scale(2.0), Coarsen(2)])
def test_whole_numbers_are_not_rounded_behind_the_back(step):
    with pytest.raises(ObservationError, match="float32"):
        step.output(FieldSpec("counts", ("x",), (8,), "int32"))


def test_files_may_write_whole_factors_as_floats_but_no_empty_fill():
    step = Observation.from_dict([{"kind": "coarsen", "factor": 2.0}])
    assert step(torch.zeros(1, 8), torch.tensor([1])).shape == (1, 4)
    with pytest.raises(ObservationError, match="finite fill"):
        Mask(np.ones(3), float("nan"))
