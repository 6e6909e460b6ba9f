"""Batches from a store: every simulation once, the order a function of the seed, groups whole."""

from itertools import chain

import numpy as np
import pytest
import torch

from sbitools import FieldSpec, Parameter, ParameterSpace, SimulationStore, priors
from sbitools.seeds import mix
from sbitools.training import StreamingLoader, split

N = 203


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    space = ParameterSpace([Parameter("i", priors.Uniform(-1.0, 1000.0))])
    theta = torch.arange(N, dtype=torch.float64)[:, None]
    x = theta.float().expand(N, 16)
    spec = FieldSpec("x", ("i",), (16,))
    path = tmp_path_factory.mktemp("store") / "s"
    return SimulationStore.from_arrays(path, theta, x, space, spec, group_size=4)


def rows(loader, epoch, start=0):
    batches = list(loader.batches(epoch, start))
    for theta, x, _ in batches:  # theta and x stay together
        assert torch.equal(x[:, 0].double(), theta[:, 0])
    return [theta[:, 0].long().tolist() for theta, _, _ in batches]


@pytest.mark.parametrize("chunk_bytes", [1, 50 * 64, 1 << 30])
def test_every_simulation_comes_once_in_an_order_of_the_seed(store, chunk_bytes):
    loader = StreamingLoader(store, store.done, 16, seed=3, chunk_bytes=chunk_bytes)
    first = rows(loader, 0)
    assert sorted(chain(*first)) == list(range(N))
    assert [len(b) for b in first] == [16] * 12 + [11]
    assert len(first) == loader.steps
    assert first == rows(loader, 0)
    assert first != rows(loader, 1)
    other = StreamingLoader(store, store.done, 16, seed=4, chunk_bytes=chunk_bytes)
    assert first != rows(other, 0)
    for start in (1, 5, 12):
        assert rows(loader, 0, start) == first[start:]


def test_shuffling_mixes_the_whole_store_even_in_small_chunks(store):
    loader = StreamingLoader(store, store.done, 16, seed=3, chunk_bytes=50 * 64)
    order = np.array([list(chain(*rows(loader, e))) for e in range(40)])
    place = np.argsort(order, axis=1)
    # Mean place of each simulation over 40 epochs: 101 +- 9.3; 6 sigma has p < 1e-6 for all.
    assert np.abs(place.mean(0) - 101).max() < 6 * 9.3


def test_noise_seeds_change_with_the_epoch_and_not_with_the_batch(store):
    loader = StreamingLoader(store, store.done, 16, seed=3)
    wide = StreamingLoader(store, store.done, 50, seed=3)

    def table(source, epoch):
        pairs = [(theta[:, 0], seeds) for theta, _, seeds in source.batches(epoch)]
        return {int(t): int(s) for ts, ss in pairs for t, s in zip(ts, ss, strict=True)}

    assert table(loader, 0) == table(wide, 0)
    assert not set(table(loader, 0).values()) & set(table(loader, 1).values())
    assert min(table(loader, 0).values()) >= 0
    many = mix(torch.arange(100_000), 7)
    assert len(set(many.tolist())) == 100_000


def test_validation_keeps_order_and_noise(store):
    loader = StreamingLoader(store, store.done[:40], 16, seed=3, shuffle=False)
    assert list(chain(*rows(loader, 0))) == list(range(40))
    one, two = (torch.cat([s for _, _, s in loader.batches(e)]) for e in (0, 1))
    assert torch.equal(one, two)


def test_groups_are_never_on_both_sides(store):
    train, held_out = split(store, 0.2, seed=1)
    assert sorted([*train, *held_out]) == list(range(N))
    assert not set(train // 4) & set(held_out // 4)
    assert 30 < len(held_out) < 50
    assert not np.array_equal(split(store, 0.2, seed=2)[1], held_out)
