"""The nearest neighbour against a search cell by cell."""

import itertools

import numpy as np
import pytest
import torch

from sbitools import seeds
from sbitools.errors import ShapeError
from sbitools.statistics import memorisation, nearest_neighbour


def fields(seed, batch, *shape):
    return seeds.normal([1000 * seed + i for i in range(batch)], shape, torch.float64).numpy()


@pytest.mark.parametrize(("shape", "shift"), [((16, 16), (3, 11)), ((8, 8, 8), (1, 7, 4))])
def test_a_shifted_copy_is_found(shape, shift):
    library = fields(1, 20, *shape)
    copies = np.roll(library[[13, 4]], shift, range(1, len(shape) + 1))
    found = nearest_neighbour(3 * copies - 2, library)  # the correlation knows no unit and no mean
    np.testing.assert_allclose(found.correlation, 1, rtol=1e-12)  # double precision
    np.testing.assert_array_equal(found.index, [13, 4])
    np.testing.assert_array_equal(found.shift, [shift, shift])
    np.testing.assert_array_equal(found.aligned(library), copies)
    assert nearest_neighbour(-copies, library).correlation.max() < 0.9


@pytest.mark.parametrize(("n", "dims"), [(6, 2), (5, 2), (4, 3)])
def test_it_is_the_best_of_every_field_and_every_shift(n, dims):
    candidates, library = fields(2, 3, *[n] * dims), fields(3, 4, *[n] * dims)
    found = nearest_neighbour(candidates, library)
    for i, one in enumerate(candidates):
        every = {
            (j, *shift): np.corrcoef(one.ravel(), np.roll(library[j], shift, range(dims)).ravel())[
                0, 1
            ]
            for j in range(4)
            for shift in itertools.product(range(n), repeat=dims)
        }
        best = max(every, key=lambda place: every[place])
        assert (found.index[i], *found.shift[i]) == best
        assert found.correlation[i] == pytest.approx(every[best], rel=1e-12)


@pytest.mark.parametrize("turn", range(8))
def test_the_eight_symmetries_of_a_plane(turn):
    library = fields(4, 6, 12, 12)
    turned = np.rot90(library[2] if turn < 4 else library[2].T, turn % 4)
    candidate = np.roll(turned, (5, 1), (0, 1))[None]
    found = nearest_neighbour(candidate, library, symmetries=True)
    assert found.correlation[0] == pytest.approx(1, rel=1e-12)
    assert found.index[0] == 2
    np.testing.assert_array_equal(found.aligned(library), candidate)
    alone = nearest_neighbour(candidate, library)
    assert (alone.correlation[0] > 0.99) == (turn == 0)


def test_the_symmetries_of_a_cube():
    library = fields(5, 3, 5, 5, 5)
    candidate = np.roll(library[1].transpose(2, 0, 1)[::-1, :, ::-1], (1, 2, 3), (0, 1, 2))[None]
    found = nearest_neighbour(candidate, library, symmetries=True)
    assert found.correlation[0] == pytest.approx(1, rel=1e-12)
    np.testing.assert_array_equal(found.aligned(library), candidate)


def test_a_noisy_copy_stands_out_from_fresh_fields():
    library = fields(6, 30, 24, 24)
    noisy = np.roll(library[7], (9, 9), (0, 1))[None] + fields(7, 1, 24, 24)
    found = nearest_neighbour(noisy, library)
    # r is 1 / sqrt(2) with a scatter of 1 / (2 sqrt(576)) = 0.02: seven of these.
    assert found.correlation[0] == pytest.approx(0.5**0.5, abs=0.15)
    assert found.index[0] == 7
    # Fresh fields: 17 000 shifts, each normal with a scatter of 1 / 24; one beyond 0.33, that is
    # 8 sigma, has a chance of 2e-11.
    assert nearest_neighbour(fields(8, 1, 24, 24), library).correlation[0] < 0.33


def test_constant_fields_are_unlike_every_other():
    flat = np.linspace(0, 10, 50)[:, None, None] * np.ones((7, 7))  # whose means are rounded
    some = fields(9, 2, 7, 7)
    np.testing.assert_array_equal(nearest_neighbour(flat, flat).correlation, 0)
    np.testing.assert_array_equal(nearest_neighbour(flat, some).correlation, 0)
    found = nearest_neighbour(some, np.concatenate([flat, some]))
    np.testing.assert_array_equal(found.index, [50, 51])


def test_parts_do_not_matter_and_torch_is_numpy(monkeypatch):
    candidates, library = fields(10, 5, 8, 8), fields(11, 7, 8, 8)
    expected = nearest_neighbour(candidates, library, symmetries=True)
    tensors = [torch.from_numpy(f) for f in (candidates, library)]
    again = nearest_neighbour(*tensors, symmetries=True)
    whole = memorisation.parts
    monkeypatch.setattr(memorisation, "parts", lambda n, size, memory=0: whole(n, size, memory=1))
    split = nearest_neighbour(candidates, library, symmetries=True)
    for found in (again, split):
        np.testing.assert_allclose(found.correlation, expected.correlation, rtol=1e-12)
        for name in ("index", "shift", "axes", "flips"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_no_candidates_have_no_neighbours():
    found = nearest_neighbour(np.zeros((0, 8, 8)), fields(12, 2, 8, 8))
    assert found.correlation.shape == (0,)
    assert found.shift.shape == (0, 2)


def test_what_cannot_be_compared_is_refused():
    good, bad = fields(13, 2, 6, 6), np.full((2, 6, 6), np.nan)
    oblong = good[:, 1:]
    for pair in [(good[0], good), (good, oblong), (good, good[0]), (oblong, oblong)]:
        with pytest.raises(ShapeError, match="expected"):
            nearest_neighbour(*pair)
    with pytest.raises(ShapeError, match="one field or more"):
        nearest_neighbour(good, good[:0])
    for pair in [(good, bad), (bad, good)]:
        with pytest.raises(ShapeError, match="finite"):
            nearest_neighbour(*pair)
