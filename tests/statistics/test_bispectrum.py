"""The bispectrum against direct sums over triangles, planted triangles and perturbation theory."""

import itertools
import math

import numpy as np
import pytest
import torch

from sbitools import seeds
from sbitools.errors import ShapeError
from sbitools.statistics import bispectrum

L = 30.0


def white(seed, n, batch):
    return seeds.normal([1000 * seed + i for i in range(batch)], (n, n, n), torch.float64).numpy()


def edges(*fundamentals):
    return np.array(fundamentals) * 2 * math.pi / L


def waves(n, *terms):
    """Sum of amplitude cos(2 pi k x + phase) over terms (amplitude, k, phase)."""
    x = np.meshgrid(*[np.arange(n) / n] * 3, indexing="ij")
    return sum(
        a * np.cos(2 * np.pi * sum(q * y for q, y in zip(k, x, strict=True)) + p)
        for a, k, p in terms
    )


@pytest.mark.parametrize("n", [8, 9])
def test_it_is_the_mean_over_all_closed_triangles(n):
    field = white(1, n, 1)[0] ** 2
    limits = [0.9, 1.6, 2.3]
    d = np.fft.fftn(field) * (L / n) ** 3
    integers = np.arange(-2, 3)
    modes = {k: d[k] for k in itertools.product(integers, repeat=3)}
    shells = [[k for k in modes if low <= math.hypot(*k) < high]
              for low, high in itertools.pairwise(limits)]  # fmt: skip
    triangles = [(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 0, 0), (1, 1, 1)]
    found = bispectrum(field, L, edges=edges(*limits), triangles=triangles)
    for i, (a, b, c) in enumerate(triangles):
        third = set(shells[c])
        closed = [(p, q, r) for p in shells[a] for q in shells[b]
                  if (r := tuple(-int(x) for x in np.add(p, q))) in third]  # fmt: skip
        expected = np.mean([modes[p] * modes[q] * modes[r] for p, q, r in closed]) / L**3
        assert found.n_triangles[i] == len(closed)
        assert found.bispectrum[i] == pytest.approx(expected.real, rel=1e-10)
        means = [np.mean([math.hypot(*k) for k in shells[s]]) for s in (a, b, c)]
        np.testing.assert_allclose(found.k[i], np.array(means) * 2 * math.pi / L)


@pytest.mark.parametrize("phases", [(0.0, 0.0, 0.0), (0.4, 1.1, -0.2), (3.0, 0.0, 0.1)])
def test_three_planted_waves_that_close_a_triangle(phases):
    """Twelve ordered triangles, k and -k, each of N^3 a b c cos(sum of phases) / 8."""
    n, sides = 16, [(2, -2, 0), (0, 2, -2), (-2, 0, 2)]
    amplitudes = (0.5, 1.5, 2.0)
    field = waves(n, *zip(amplitudes, sides, phases, strict=True))
    found = bispectrum(field, L, edges=edges(0.5, 1.5, 2.5, 3.5, 5))
    expected = 1.5 * L**6 * math.prod(amplitudes) * math.cos(sum(phases)) / found.n_triangles
    np.testing.assert_allclose(found.bispectrum[2], expected[2], rtol=1e-10)
    # Rounding of FFTs, beside the one bin with a signal.
    np.testing.assert_allclose(np.delete(found.bispectrum, 2), 0, atol=1e-12 * abs(expected[2]))
    opened = waves(n, (0.5, (2, -2, 0), 0), (1.5, (0, 2, -2), 0), (2.0, (2, 0, 2), 0))
    none = bispectrum(opened, L, edges=edges(2.5, 3.5)).bispectrum
    np.testing.assert_allclose(none, 0, atol=1e-12 * abs(expected[2]))


def test_local_non_gaussianity_has_its_tree_level():
    """phi + f phi^2 has B = 2 f (P1 P2 + P2 P3 + P3 P1) to first order in f.

    Half the difference of +f and -f holds no even order, and with them not the scatter of Gaussian
    fields; the third order is f^2 <phi^2> = 1e-4 of the first, or less.
    """
    n, f, batch = 12, 0.01, 256
    k = np.sqrt(sum(q**2 for q in np.meshgrid(*[np.fft.fftfreq(n, 1 / n)] * 3, indexing="ij")))
    power = np.array([0, 1, 0.5, 0.25, 0.1])[np.digitize(k, [0.5, 1.5, 2.5, 3.5])]
    modes = np.fft.fftn(white(2, n, batch), axes=(1, 2, 3)) * np.sqrt(power)
    phi = np.fft.ifftn(modes, axes=(1, 2, 3)).real
    triangles = [(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1), (0, 1, 2), (1, 2, 2), (2, 2, 2)]
    limits = edges(0.5, 1.5, 2.5, 3.5)  # the spectrum is the same all over a shell
    up, down = (
        bispectrum(phi + sign * f * phi**2, L, edges=limits, triangles=triangles).bispectrum
        for sign in (1, -1)
    )
    measured = (up - down) / (2 * f)
    a, b, c = (np.array([1, 0.5, 0.25]) * (L / n) ** 3)[np.array(triangles)].T
    tree = 2 * (a * b + b * c + c * a)
    error = measured.std(0, ddof=1) / math.sqrt(batch)
    # Student's t with 255 degrees of freedom beyond 6: 1e-8, for seven triangles.
    assert (np.abs(measured.mean(0) - tree) < 6 * error).all()
    assert (error < 0.07 * tree).all()  # so that half of it, or twice, would not pass


def test_gaussian_fields_have_none_and_the_scatter_of_the_docstring():
    n, batch = 16, 300
    fields = white(3, n, batch)
    triangles = [(0, 0, 0), (1, 1, 1), (2, 2, 2), (1, 1, 2), (0, 1, 2)]
    symmetry = np.array([6, 6, 6, 2, 1])
    found = bispectrum(fields, L, edges=edges(0.9, 2.1, 3.1, 4.1), triangles=triangles)
    power = (L / n) ** 3
    scatter = np.sqrt(symmetry * L**3 * power**3 / found.n_triangles)
    mean = found.bispectrum.mean(0)
    # Means of 300, nearly normal: beyond 6 sigma 1e-8 for five triangles.
    assert (np.abs(mean) < 6 * scatter / math.sqrt(batch)).all()
    # Standard deviations of 300 are known to 4 %, to 10 % for the heavy tails of few modes.
    np.testing.assert_allclose(found.bispectrum.std(0), scatter, rtol=0.3)


def test_it_is_odd_and_translations_leave_it():
    field = white(4, 12, 1)[0] ** 2
    limits = edges(0.5, 1.5, 2.5, 4.0)
    expected = bispectrum(field, L, edges=limits).bispectrum
    np.testing.assert_allclose(
        bispectrum(-field, L, edges=limits).bispectrum, -expected, rtol=1e-10
    )
    moved = np.roll(field, (1, 5, 2), (0, 1, 2)).transpose(1, 2, 0) + 7
    np.testing.assert_allclose(bispectrum(moved, L, edges=limits).bispectrum, expected, rtol=1e-10)


def test_a_batch_is_its_cubes_and_torch_is_numpy():
    fields = white(5, 9, 3).astype(np.float32)
    limits = edges(0.5, 1.5, 3.0)
    batch = bispectrum(torch.from_numpy(fields), L, edges=limits)
    assert batch.bispectrum.shape == (3, 2)
    one = bispectrum(fields[2], L, edges=limits)
    np.testing.assert_array_equal(batch.bispectrum[2], one.bispectrum)
    assert one.bispectrum.dtype == np.float64


def test_open_triangles_are_nan():
    found = bispectrum(white(6, 12, 1), L, edges=edges(0.9, 1.1, 3.5, 4.0), triangles=[(0, 0, 2)])
    assert found.n_triangles[0] == 0
    assert np.isnan(found.bispectrum).all()


def test_triangles_that_the_mesh_cannot_close_are_refused():
    field = np.zeros((12, 12, 12))
    assert bispectrum(field, L, edges=edges(1, 4)).bispectrum[0] == 0
    with pytest.raises(ShapeError, match="12 fundamentals"):
        bispectrum(field, L, edges=edges(1, 4.1))
    assert bispectrum(field, L, edges=edges(1, 3, 6), triangles=[(0, 0, 1)]).n_triangles[0] > 0
    for wrong in ([(0, 1)], [(0, 0, 2)], [(-1, 0, 0)], [(0.5, 0, 0)]):
        with pytest.raises(ShapeError, match="triangles"):
            bispectrum(field, L, edges=edges(1, 2, 3), triangles=wrong)
    with pytest.raises(ShapeError, match="ascending"):
        bispectrum(field, L, edges=edges(2, 1))
