"""Modes of periodic grids against direct counts."""

import numpy as np
import pytest
import torch

from sbitools.errors import ShapeError
from sbitools.statistics.fourier import as_fields, ascending, fft_modes, parts, shells


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize("dims", [2, 3])
def test_modes_are_those_of_the_real_fft(n, dims):
    squares, weight = fft_modes(n, dims)
    assert squares.shape == np.fft.rfftn(np.zeros((n,) * dims)).shape
    assert np.broadcast_to(weight, squares.shape).sum() == n**dims
    integers = np.round(np.fft.fftfreq(n, 1 / n)).astype(int)
    full = sum(k**2 for k in np.meshgrid(*[integers] * dims, indexing="ij"))
    values, counts = np.unique(full, return_counts=True)
    found = np.bincount(squares.ravel(), np.broadcast_to(weight, squares.shape).ravel())
    np.testing.assert_array_equal(found[values], counts)
    assert found.sum() == n**dims


def test_shells_of_planes_count_every_mode_once():
    edges = (-0.1, 1.5, 2.5, 100.0)
    bins = shells(8, 2 * np.pi, edges, 2)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(8, 1 / 8), np.fft.fftfreq(8, 1 / 8)))
    for i in range(3):
        inside = (k >= edges[i]) & (k < edges[i + 1])
        assert bins.n_modes[i] == inside.sum()
        assert bins.k[i] == pytest.approx(k[inside].mean())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_tensors_of_any_precision_become_arrays(dtype):
    field = torch.arange(4).reshape(1, 2, 2).to(dtype).requires_grad_(dtype.is_floating_point)
    np.testing.assert_array_equal(as_fields(field, "field", 2), [[[0, 1], [2, 3]]])
    assert as_fields(field, "field", 2).dtype.itemsize >= 4


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 4), (1, 2, 3, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match=r"\(B, n, n\)"):
        as_fields(np.zeros(shape), "field", 2)


@pytest.mark.parametrize("edges", [[1.0], [1.0, 1.0], [2.0, 1.0], [[1.0, 2.0]], [0.0, np.nan]])
def test_edges_that_do_not_ascend_are_refused(edges):
    with pytest.raises(ShapeError, match="ascending"):
        ascending(np.array(edges), "edges")


@pytest.mark.parametrize(("n", "memory"), [(0, 10), (1, 1), (7, 30), (7, 1), (7, 1e9)])
def test_parts_cover_the_batch_within_the_memory(n, memory):
    slices = list(parts(n, 10, memory))
    assert [i for s in slices for i in range(n)[s]] == list(range(n))
    assert all(s.stop - s.start <= max(1, memory / 10) for s in slices)
