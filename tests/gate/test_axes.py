"""Only axes of space are smoothed, coarsened and turned; old files keep their meaning."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sbitools
from sbitools import FieldSpec, Observation, Posterior, SimulationStore
from sbitools.embeddings import EmbeddingOptions
from sbitools.errors import ConfigError, ObservationError, ShapeError
from sbitools.inference.methods import find_method
from sbitools.inference.options import check_options, parse_options
from sbitools.inference.symmetry import random_symmetry, turned_axes
from sbitools.observation import Coarsen, Noise, Scale, Smooth
from sbitools.seeds import generator, normal

from .conftest import QUICK, SPACE, line

STEPS = [Smooth(1.3), Coarsen(2), Smooth(0.7)]
CHANNELS = ("channel", "map", "slice", "stokes", "band", "frequency")


def field(dims, shape, **options):
    return FieldSpec("t", dims, shape, **options)


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(("space", "channel")), min_size=2, max_size=4).filter(
        lambda k: "space" in k and k.count("channel") < 3
    ),
    names=st.permutations(CHANNELS),
    told=st.booleans(),
)
def test_every_channel_is_observed_as_if_it_were_alone(kinds, names, told):
    channels = [i for i, kind in enumerate(kinds) if kind == "channel"]
    shape = tuple(2 if i in channels else 4 for i in range(len(kinds)))
    dims = tuple(names[i] if i in channels else f"d{i}" for i in range(len(kinds)))
    if told:  # the specification says it, whatever the names
        axes = tuple("channel" if i in channels else "periodic" for i in range(len(kinds)))
        spec = field(tuple(f"d{i}" for i in range(len(kinds))), shape, axes=axes)
    else:
        spec = field(dims, shape)
    observe = Observation(STEPS).bind(spec)
    x, seeds = normal([1, 2, 3], shape), torch.tensor([1, 2, 3])
    whole = observe(x, seeds)
    assert tuple(whole.shape[1:]) == observe.output(spec).shape == Observation(STEPS).output(
        spec).shape  # fmt: skip
    alone = Observation(STEPS)
    for index in np.ndindex(*(2 for _ in channels)):
        one, got = x, whole
        for axis, i in reversed(list(zip(channels, index, strict=True))):
            one, got = one.select(axis + 1, i), got.select(axis + 1, i)
        torch.testing.assert_close(got, alone(one, seeds), rtol=0, atol=1e-6)


@pytest.mark.parametrize("step", [Smooth(1.0), Coarsen(2)])
@pytest.mark.parametrize(
    "spec",
    [
        field(("pixel",), (48,)), field(("map", "pixel_nested"), (2, 48)),
        field(("p",), (48,), axes=("healpix",)), field(("channel",), (4,)),
        field(("item", "column"), (6, 2)), field(("a", "b"), (4, 4), axes=("channel", "channel")),
    ],
)  # fmt: skip
def test_pixel_and_channel_numbers_are_no_neighbours(step, spec):
    observe = Observation([step])
    for ask in (observe.output, observe.bind):
        with pytest.raises(ObservationError, match=r"axes of space.*fix: "):
            ask(spec)


def test_the_axis_of_a_data_vector_counts_as_space():
    for name in ("i", "k", "l", "frequency"):
        assert Observation([Smooth(1.0), Coarsen(2)]).output(field((name,), (8,))).shape == (4,)


def test_smoothing_does_not_wrap_around_the_ends_of_a_line_of_sight():
    x = torch.zeros(1, 4, 16)
    x[..., 0] = 1.0
    cone = Observation([Smooth(1.0)]).bind(field(("x", "los"), (4, 16)))(x, torch.tensor([1]))
    box = Observation([Smooth(1.0)]).bind(field(("x", "y"), (4, 16)))(x, torch.tensor([1]))
    assert abs(float(cone[0, 0, -1])) < 1e-6
    assert float(box[0, 0, -1]) > 0.2
    assert float(cone.sum()) == pytest.approx(float(x.sum()), rel=1e-5)  # nothing is lost there


@pytest.mark.parametrize("kind", ["cube", "sky"])
def test_symmetries_never_exchange_channels(kind):
    dims = ("channel", "x", "y", *(["los"] if kind == "sky" else []))
    spec = field(dims, (4,) * len(dims))
    x = normal([1], spec.shape)
    axes = turned_axes(spec, kind)
    assert axes == (1, 2)
    drawn = [random_symmetry(x, generator(s), axes=axes) for s in range(60)]
    assert len({tuple(d.flatten().tolist()) for d in drawn}) == 8
    for d in drawn:
        torch.testing.assert_close(d.sum((2, 3)), x.sum((2, 3)))  # of each channel (and depth)


@pytest.mark.parametrize(
    "spec",
    [
        field(("map", "pixel"), (2, 48)), field(("channel", "i"), (4, 4)),
        field(("channel", "x", "y"), (4, 4, 8)), field(("a", "b"), (4, 4), axes=["healpix"] * 2),
    ],
)  # fmt: skip
def test_a_symmetry_needs_two_axes_of_space_of_equal_length(spec):
    options = parse_options(find_method("npe"), {"symmetry": "cube", "flow": "zuko_nsf"})
    with pytest.raises(ConfigError, match="axes of space of equal length"):
        check_options(options, spec)


def test_kinds_come_from_names_or_are_told():
    assert field(("channel", "x", "los"), (2, 4, 4)).kinds == ("channel", "periodic", "evolving")
    told = field(("u", "v"), (4, 4), axes=("open", "channel"))
    assert told.kinds == ("open", "channel")
    assert told.space == (0,)
    assert FieldSpec.from_dict(told.to_dict()) == told != field(("u", "v"), (4, 4))
    for axes in (("open",), ("open", "round"), "open", 3, ("open", 3)):
        with pytest.raises(ShapeError, match="axes of FieldSpec"):
            field(("u", "v"), (4, 4), axes=axes)


def test_a_told_channel_axis_reaches_the_embedding():
    spec = field(("z", "x", "y"), (2, 8, 8), axes=("channel", "periodic", "periodic"))
    network = EmbeddingOptions(channels=2, features=4).build(spec, 1)
    named = EmbeddingOptions(channels=2, features=4).build(field(("map", "x", "y"), (2, 8, 8)), 1)
    assert str(network) == str(named)
    told = field(("z", "p"), (2, 48), axes=("channel", "healpix"))
    assert type(EmbeddingOptions(channels=2, features=4).build(told, 1)).__name__ == "HealpixCNN"


def test_specifications_and_observations_keep_the_digests_of_the_version_before():
    spec = FieldSpec("delta", ("x", "y"), (4, 6), "float64", "mK")
    maps = FieldSpec("maps", ("map", "pixel_nested"), (2, 48))
    assert spec.digest().startswith("f297e3c26274117cfd63e82c89963b28")
    assert maps.digest().startswith("d9881c81f7a457b64cf5ceba84fae335")
    steps = [Smooth(1.5), Coarsen(2), Scale(2, 1, "K"), Noise(1)]
    bound = Observation(steps).bind(field(("x", "y"), (4, 6)))
    for observation in (Observation(steps), bound):
        assert observation.digest().startswith("ab7ad4932dc2b0cf3d8d46e2fa3d1a99")


def test_an_observation_that_was_trained_over_all_axes_keeps_doing_so():
    spec, seeds = field(("channel", "x", "y"), (2, 4, 4)), torch.tensor([1])
    old = Observation.from_checkpoint([{"kind": "smooth", "radius": 1.0}], spec)
    x = normal([1], spec.shape)
    assert torch.equal(old(x, seeds), Smooth(1.0).apply(x, seeds))  # as it was: along channels
    assert torch.equal(Observation.from_dict(old.to_dict()).bind(spec)(x, seeds), old(x, seeds))
    maps = field(("map", "pixel"), (2, 48))
    assert Observation.from_checkpoint([{"kind": "smooth", "radius": 1.0}], maps).output(maps)


def test_a_posterior_smooths_space_alone_and_remembers_it(tmp_path):
    theta, _ = line(1)
    x = normal(range(len(theta)), (2, 4, 4)) + torch.from_numpy(theta[:, :1, None, None]).float()
    spec = field(("channel", "x", "y"), (2, 4, 4))
    store = SimulationStore.from_arrays(tmp_path / "s", theta, x, SPACE, spec)
    posterior = sbitools.train(store, observe=[Smooth(1.0)], run_dir=tmp_path / "r", **QUICK)
    seeds = torch.arange(3)
    each = [Smooth(1.0).apply(x[:3, c], seeds) for c in range(2)]
    torch.testing.assert_close(posterior.observe(x[:3], seeds), torch.stack(each, 1))
    again = Posterior.load(posterior.save(tmp_path / "p"))
    assert torch.equal(again.observe(x[:3], seeds), posterior.observe(x[:3], seeds))
    with pytest.raises(ConfigError, match="symmetry"):
        sbitools.train(
            SimulationStore.from_arrays(
                tmp_path / "t", theta, x.reshape(-1, 2, 16)[:, :, :12].contiguous(), SPACE,
                field(("map", "pixel"), (2, 12)),
            ),
            symmetry="cube", run_dir=tmp_path / "q", **QUICK,
        )  # fmt: skip
