"""Initial conditions and Lagrangian perturbation theory against exact solutions."""

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import torch

from emulators.nbody import lpt
from emulators.nbody.cosmology import Cosmology
from sbitools.statistics import power_spectrum

N, L = 16, 100.0
POWER = Cosmology().linear_power
AXIS = torch.arange(N, dtype=torch.float64) * (2 * math.pi / N)
X, Y, Z = torch.meshgrid(AXIS, AXIS, AXIS, indexing="ij")
K0 = 2 * math.pi / L


def modes_of(density):
    return torch.fft.rfftn(density)[None]


def test_a_plane_wave_is_the_exact_zeldovich_solution():
    density = 0.3 * torch.cos(2 * X + 0.5)
    psi = lpt.zeldovich(modes_of(density), L)[0]
    # delta = -div psi, so psi_x = -0.3 sin(2x + 0.5) / (2 K0), and nothing along y and z.
    expected = -0.3 * torch.sin(2 * X + 0.5) / (2 * K0)
    torch.testing.assert_close(psi[0], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(psi[1:], torch.zeros_like(psi[1:]), atol=1e-12, rtol=0)
    # In one dimension Zel'dovich is exact: there is no second order.
    assert lpt.second_order(modes_of(density), L).abs().max() < 1e-12


def test_crossed_waves_have_the_analytic_second_order_displacement():
    """delta = a cos x + b cos y: the source is phi_xx phi_yy = a b cos x cos y."""
    a, b = 0.3, 0.7
    psi = lpt.second_order(modes_of(a * torch.cos(X) + b * torch.cos(Y)), L)[0]
    # laplace^-1 (cos x cos y) = -cos x cos y / (2 K0^2); psi2 is its gradient times a b.
    factor = a * b / (2 * K0)
    expected = factor * torch.stack(
        [torch.sin(X) * torch.cos(Y), torch.cos(X) * torch.sin(Y), 0 * X]
    )
    torch.testing.assert_close(psi, expected, atol=1e-12, rtol=0)


def test_second_order_is_free_of_aliasing():
    """Two waves above 2/3 of Nyquist: their product falls outside the grid, and is dropped."""
    k = N // 2 - 1
    density = torch.cos(k * X) + torch.cos(k * X + k * Y)
    source_k = [(2 * k, k), (0, k)]  # sum and difference; only the second fits
    psi = lpt.second_order(modes_of(density), L)[0]
    spectrum = torch.fft.rfftn(psi[1]).abs()
    present = {tuple(int(v) for v in i) for i in (spectrum > 1e-8 * spectrum.max()).nonzero()}
    assert present == {(0, source_k[1][1], 0), (0, N - source_k[1][1], 0)}


def test_second_order_is_quadratic_and_parity_odd():
    modes = lpt.linear_modes(lpt.white_noise([1], N).double(), L, POWER)
    psi = lpt.second_order(modes, L)
    torch.testing.assert_close(lpt.second_order(-2 * modes, L), 4 * psi)
    mirrored = torch.fft.irfftn(modes[0], s=(N,) * 3).flip(0, 1, 2).roll((1, 1, 1), (0, 1, 2))
    other = lpt.second_order(modes_of(mirrored), L)[0]
    expected = -psi[0].flip(1, 2, 3).roll((1, 1, 1), (1, 2, 3))
    torch.testing.assert_close(other, expected)


def test_the_density_has_the_linear_spectrum_and_no_nyquist_modes():
    n, seeds = 32, range(20)
    modes = lpt.linear_modes(lpt.white_noise(list(seeds), n), L, POWER)
    assert modes[:, n // 2].abs().max() == modes[:, :, n // 2].abs().max() == 0
    assert modes[..., n // 2].abs().max() == modes[:, 0, 0, 0].abs().max() == 0
    density = torch.stack([torch.fft.irfftn(m, s=(n,) * 3) for m in modes])
    spectrum = power_spectrum(density, L)
    integers = np.fft.fftfreq(n, 1 / n)
    k = np.sqrt(sum(q**2 for q in np.meshgrid(integers, integers, integers)))
    inside = slice(0, n // 2 - 1)  # shells without Nyquist modes
    expected = [POWER(K0 * k[(k >= i + 0.5) & (k < i + 1.5)]).mean() for i in range(n // 2 - 1)]
    error = np.array(expected) / np.sqrt(spectrum.n_modes[inside] / 2 * len(seeds))
    # 6 sigma over 15 shells: false alarms below 1e-7.
    assert (np.abs(spectrum.power.mean(0)[inside] - expected) < 6 * error).all()


def test_displacement_is_curl_free_and_its_divergence_is_minus_the_density():
    modes = lpt.linear_modes(lpt.white_noise([2], N).double(), L, POWER)
    psi = lpt.zeldovich(modes, L)[0]
    k = lpt.wavenumbers(N, L, psi)
    p = [torch.fft.rfftn(c) for c in psi]
    divergence = sum(1j * ki * pi for ki, pi in zip(k, p, strict=True))
    torch.testing.assert_close(divergence, -modes[0])
    assert (k[0] * p[1] - k[1] * p[0]).abs().max() < 1e-9 * modes.abs().max()


def test_phases_do_not_depend_on_the_cosmology():
    white = lpt.white_noise([3], N).double()
    a = lpt.linear_modes(white, L, POWER)
    b = lpt.linear_modes(white, L, Cosmology(0.2, 1.0, 0.04, 0.8, 1.1).linear_power)
    keep = a.abs() > 0
    torch.testing.assert_close(torch.angle(a[keep]), torch.angle(b[keep]))


def test_bits_do_not_depend_on_batch_or_threads():
    def psi(seeds):
        with lpt.one_thread():
            modes = lpt.linear_modes(lpt.white_noise(seeds, 24), L, POWER)
            return torch.cat([lpt.zeldovich(modes, L), lpt.second_order(modes, L)], 1)

    whole, before = psi([4, 5, 6]), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(psi([5]), whole[1:2])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_one_thread_is_for_all_threads():
    """A user who leaves does not give threads to those who stay; the last one restores them."""

    def threads():
        """What a thread that has not yet used torch gets."""
        with ThreadPoolExecutor(1) as fresh:
            return fresh.submit(torch.get_num_threads).result()

    def use(enter, leave):
        with lpt.one_thread():
            entered[enter].set()
            entered[leave].wait(10)
            return torch.get_num_threads(), threads()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(2) as pool:
            for _ in range(3):  # again: a worker that left first must not spoil the next round
                entered = {name: Event() for name in ("first", "second", "first out")}
                first = pool.submit(use, "first", "second")
                entered["first"].wait(10)
                second = pool.submit(use, "second", "first out")
                assert first.result() == (1, 1)
                assert threads() == 1
                entered["first out"].set()
                assert second.result() == (1, 1)
                assert threads() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_displacements_are_differentiable_in_the_white_noise():
    white = lpt.white_noise([7], 4).double().requires_grad_()

    def displacement(w):
        modes = lpt.linear_modes(w, L, POWER)
        return lpt.zeldovich(modes, L), lpt.second_order(modes, L)

    assert torch.autograd.gradcheck(displacement, (white,), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("n", [4, 6, 16])
def test_resizing_there_and_back_keeps_what_fits(n):
    modes = lpt.linear_modes(lpt.white_noise([8], n).double(), L, POWER)[0]
    torch.testing.assert_close(lpt._resize(lpt._resize(modes, 3 * n // 2), n), modes)
