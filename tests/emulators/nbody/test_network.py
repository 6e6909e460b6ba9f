"""The styled V-Net: symmetries, exact velocity, style, initial weights."""

from __future__ import annotations

import pytest
import torch

from emulators.nbody.network import DisplacementNetwork
from sbitools.errors import ShapeError
from sbitools.seeds import normal

# torch's own forward-mode tables still use torch.jit.script.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

OMEGA_M, GROWTH = torch.tensor([0.25], dtype=torch.float64), torch.tensor([0.7]).double()


@pytest.fixture(scope="module")
def network():
    return DisplacementNetwork((4, 6, 8), seed=3).double()


def _psi(n=8, batch=1, seed=0):
    return 5 * normal(range(seed, seed + batch), (3, n, n, n), torch.float64)


def test_velocity_is_the_derivative_with_respect_to_growth(network):
    psi = _psi()

    def displacement(growth):
        return network(psi, OMEGA_M, growth)[0]

    _, velocity = network(psi, OMEGA_M, GROWTH, velocity=True)
    _, tangent = torch.func.jvp(displacement, (GROWTH,), (torch.ones_like(GROWTH),))
    assert torch.allclose(velocity, tangent, rtol=1e-10, atol=1e-10)
    step = 1e-5  # the error of central differences is about step^2 = 1e-10
    difference = (displacement(GROWTH + step) - displacement(GROWTH - step)) / (2 * step)
    assert torch.allclose(velocity, difference, rtol=1e-6, atol=1e-6)


def test_velocity_does_not_change_the_displacement(network):
    moved, none = network(_psi(), OMEGA_M, GROWTH)
    assert none is None
    assert torch.allclose(network(_psi(), OMEGA_M, GROWTH, velocity=True)[0], moved, atol=1e-12)


def test_velocity_can_be_trained_through(network):
    moved, velocity = network(_psi(), OMEGA_M, GROWTH, velocity=True)
    grads = torch.autograd.grad((moved**2).sum() + (velocity**2).sum(), network.parameters())
    assert all(torch.isfinite(g).all() and (g != 0).any() for g in grads)


def test_translation_by_the_coarsest_cell(network):
    psi, shift = _psi(), (4, 0, -4)  # three levels: the coarsest cell is 4 fine ones
    moved, _ = network(psi, OMEGA_M, GROWTH)
    shifted, _ = network(psi.roll(shift, (2, 3, 4)), OMEGA_M, GROWTH)
    assert torch.allclose(shifted, moved.roll(shift, (2, 3, 4)), atol=1e-10)


def test_larger_periodic_box_repeats(network):
    psi = _psi()
    moved, _ = network(psi, OMEGA_M, GROWTH)
    tiled, _ = network(psi.repeat(1, 1, 2, 2, 2), OMEGA_M, GROWTH)
    assert torch.allclose(tiled, moved.repeat(1, 1, 2, 2, 2), atol=1e-10)


def test_each_box_has_its_own_style(network):
    psi = _psi(batch=2)
    omega_m, growth = torch.tensor([0.2, 0.4]).double(), torch.tensor([1.0, 0.5]).double()
    both, _ = network(psi, omega_m, growth)
    for i in range(2):
        part = slice(i, i + 1)
        assert torch.equal(network(psi[part], omega_m[part], growth[part])[0], both[part])
    assert not torch.allclose(network(psi, omega_m.flip(0), growth)[0], both)


def test_starts_near_zeldovich():
    network = DisplacementNetwork((4, 6), seed=0).double()
    psi = _psi()
    moved, velocity = network(psi, OMEGA_M, GROWTH, velocity=True)
    # The residual begins a tenth as large as the filters would make it.
    assert (moved - 0.7 * psi).std() < 0.3 * psi.std()
    assert (velocity - psi).std() < 0.3 * psi.std()


def test_bfloat16_activations_stay_close():
    exact = DisplacementNetwork((4, 6), seed=1)
    half = DisplacementNetwork((4, 6), seed=1, compute_dtype=torch.bfloat16)
    psi, omega_m, growth = _psi().float(), OMEGA_M.float(), GROWTH.float()
    a, b = exact(psi, omega_m, growth)[0], half(psi, omega_m, growth)[0]
    assert b.dtype == torch.float32
    # Only the residual is rounded: 2^-8 per layer, some ten layers, added in quadrature.
    assert (a - b).std() < 0.03 * (a - 0.7 * psi).std()


def test_weights_are_a_function_of_the_seed():
    first, same, other = (DisplacementNetwork((4, 6), seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(v, same[k]) for k, v in first.items())
    assert not torch.equal(first["vnet.exit.skip.weight"], other["vnet.exit.skip.weight"])


@pytest.mark.parametrize("shape", [(1, 3, 6, 8, 8), (1, 2, 8, 8, 8), (3, 8, 8, 8)])
def test_bad_shape(network, shape):
    with pytest.raises(ShapeError, match="multiple of 4"):
        network(torch.zeros(shape).double(), OMEGA_M, GROWTH)
