"""Cloud-in-cell painting: conservation, exact values, gradients."""

import numpy as np
import pytest
import torch

from emulators.methods.displacement.painting import (
    _deposit_torch,
    cic_deposit,
    cic_gather,
    density_contrast,
)
from sbitools import seeds
from sbitools.errors import ShapeError

L = 20.0


def displacements(n=6, batch=2, scale=5.0, dtype=torch.float64):
    return scale * seeds.normal(range(batch), (3, n, n, n), dtype)


@pytest.mark.parametrize("mesh", [4, 6, 12, 15])
def test_mass_is_conserved(mesh):
    density = density_contrast(displacements(), L, mesh)
    assert density.shape == (2, mesh, mesh, mesh)
    assert density.mean((1, 2, 3)).abs().max() < 1e-13
    assert density.min() >= -1


def test_no_displacement_is_a_uniform_density():
    assert torch.equal(density_contrast(torch.zeros(1, 3, 4, 4, 4), L), torch.zeros(1, 4, 4, 4))


def test_one_particle_is_shared_between_eight_cells():
    displacement = np.zeros((3, 1, 1, 1))
    displacement[:, 0, 0, 0] = -0.25, 3.5, 7.75  # cells of 1 Mpc/h; x wraps around
    mesh = cic_deposit(displacement, 8.0, 8) / 8**3
    x, y, z = np.zeros(8), np.zeros(8), np.zeros(8)
    x[[7, 0]], y[[3, 4]], z[[7, 0]] = (0.25, 0.75), (0.5, 0.5), (0.25, 0.75)
    np.testing.assert_allclose(mesh, x[:, None, None] * y[None, :, None] * z, atol=1e-15)


def test_gather_is_the_transpose_of_deposit():
    displacement = displacements(batch=1)[0].numpy()
    field = seeds.normal([9], (10, 10, 10), torch.float64)[0].numpy()
    mass = cic_deposit(displacement, L, 10) * (6 / 10) ** 3
    at_particles = cic_gather(field[None], displacement, L)
    assert at_particles.sum() == pytest.approx((mass * field).sum(), rel=1e-12)


def test_gather_is_exact_for_a_linear_field():
    line = np.arange(8.0)
    field = np.broadcast_to(line[:, None, None] * 2 + line[:, None], (8, 8, 8))
    displacement = np.zeros((3, 4, 4, 4))
    displacement[0], displacement[1] = 0.3, -0.0
    values = cic_gather(np.ascontiguousarray(field)[None], displacement, 8.0)[0]
    q = 2 * np.arange(4)
    expected = 2 * (q[:, None, None] + 0.3) + q[:, None]
    np.testing.assert_allclose(values[:3], np.broadcast_to(expected, (4, 4, 4))[:3])


@pytest.mark.parametrize("mesh", [6, 12])
def test_compiled_and_torch_agree_in_value_and_gradient(mesh):
    s = displacements().requires_grad_()
    weight = seeds.normal([5, 6], (mesh, mesh, mesh), torch.float64)
    compiled, plain = density_contrast(s, L, mesh), _deposit_torch(s, L, mesh)
    torch.testing.assert_close(compiled, plain, atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad((d * weight).sum(), s)[0] for d in (compiled, plain)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


def test_gradient_is_that_of_finite_differences():
    s = displacements(4, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: density_contrast(x, L, 6), s, eps=1e-6)


def test_translation_by_a_cell_rolls_the_density():
    s = displacements()
    moved = s.clone()
    moved[:, 1] += L / 6 * 2
    expected = density_contrast(s, L).roll(2, dims=2)
    torch.testing.assert_close(density_contrast(moved, L), expected, atol=1e-12, rtol=0)


def test_bits_do_not_depend_on_the_batch():
    s = displacements(8, 3, dtype=torch.float32)
    whole = density_contrast(s, L)
    assert whole.dtype == torch.float32
    assert all(torch.equal(density_contrast(s[i : i + 1], L)[0], whole[i]) for i in range(3))
    assert density_contrast(s[:0], L).shape == (0, 8, 8, 8)


@pytest.mark.parametrize("shape", [(3, 4, 4, 4), (1, 2, 4, 4, 4), (1, 3, 4, 4, 5)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match="lattice particle"):
        density_contrast(torch.zeros(shape), L)
