"""Samplers against the exact denoiser of a Gaussian field, whose samples are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.methods.diffusion import SAMPLERS, Schedule, n_calls, sample
from sbitools.seeds import generator, normal
from tests.oracles.denoiser import unit_gaussian_denoiser

N, SKY = 16, (2, 3)


def spectrum():
    k = torch.fft.fftfreq(N)
    k2 = k[:, None] ** 2 + k[None, :] ** 2
    power = torch.exp(-k2 / (2 * 0.1**2)) + 0.01
    return power / power.mean()


def gains(sampler, steps, kind):
    """What a sampler makes of unit noise, mode by mode: the equation is linear here."""
    power = spectrum().double()
    noise = normal(torch.tensor([1]), (1, N, N), torch.float64)
    out = sample(
        sampler, unit_gaussian_denoiser(power), noise, Schedule(kind).levels(steps), SKY
    )  # fmt: skip
    ratio = torch.fft.fftn(out, dim=(2, 3)) / torch.fft.fftn(noise, dim=(2, 3))
    return ratio[0, 0].real, power.sqrt()


def errors(sampler, steps, kind):
    found, exact = gains(sampler, steps, kind)
    return float((found / exact - 1).abs().max())


@pytest.mark.parametrize("kind", ["edm", "flow"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_many_steps_give_the_exact_spectrum(sampler, kind):
    # The start at 80 sigma instead of infinity costs 1 / (2 80^2 P) at most; the end at 0.02
    # costs 0.02^2 / (2 P): 1e-2 at the smallest power of this spectrum. Steps cost the rest.
    assert errors(sampler, 400, kind) < 0.02


@pytest.mark.parametrize(
    ("sampler", "steps", "most"), [("dpm3", 18, 0.01), ("dpm2", 18, 0.03), ("heun", 18, 0.04)]
)
def test_few_steps(sampler, steps, most):
    # What the text of the module says.
    assert errors(sampler, steps, "edm") < most


@pytest.mark.parametrize(("sampler", "gain"), [("dpm3", 4), ("dpm2", 4), ("heun", 4)])
def test_every_sampler_is_of_second_order(sampler, gain):
    power = torch.ones(N, N, dtype=torch.float64) * 1.7
    noise = normal(torch.tensor([2]), (1, N, N), torch.float64)
    # Down to 0.3 alone: the last step, to 0, is of first order. The multistep methods begin with
    # shorter memory, where the noise hides it.
    exact = ((1.7 + 0.3**2) / (1.7 + 300.0**2)) ** 0.5 * 300 * noise
    found = []
    for steps in (60, 120):
        levels = Schedule(low=0.3, high=300.0).levels(steps + 1)[:-1]
        x = sample(sampler, unit_gaussian_denoiser(power), noise, levels, SKY)
        found.append(float((x - exact).abs().max()))
    # Half the step divides the error by four: "dpm3" has smaller errors, not a higher order.
    assert 0.75 * gain < found[0] / found[1] < 1.3 * gain


def test_looking_back_twice_has_smaller_errors():
    assert errors("dpm3", 18, "edm") < 0.5 * errors("dpm2", 18, "edm")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_mean_that_scatters_comes_out_right(sampler):
    # The mean of the planes of one theta is -1.2, and scatters by 0.6: a Fourier mode with a
    # variance of (16 x 0.6)^2 in units of white noise. Begun at a mean of zero, a share of
    # 16 x 0.6 / 80 = 0.12 of the mean would be lost.
    power = torch.ones(N, N, dtype=torch.float64)
    power[0, 0] = (N * 0.6) ** 2
    wiener = unit_gaussian_denoiser(power)

    def denoise(x, sigma):
        return wiener(x + 1.2, sigma) - 1.2

    noise = normal(torch.arange(2), (1, N, N), torch.float64)
    noise[1] = -noise[0]  # the mean of a pair has no scatter
    out = sample(sampler, denoise, noise, Schedule().levels(60), SKY)
    # What is left: (0.12)^2 of the mean, since the network is asked where it does not know yet.
    assert float(out.mean()) == pytest.approx(-1.2, rel=0.01)


def test_number_of_calls():
    for sampler in SAMPLERS:
        count = 0
        denoise = unit_gaussian_denoiser(spectrum())

        def counted(x, sigma, denoise=denoise):
            nonlocal count
            count += 1
            return denoise(x, sigma)

        sample(sampler, counted, torch.zeros(1, 1, N, N), Schedule().levels(7), SKY)
        assert count == n_calls(sampler, 7)


@pytest.mark.parametrize("kind", ["edm", "flow"])
def test_levels_fall_from_high_to_low_and_end_at_zero(kind):
    levels = Schedule(kind).levels(12)
    assert len(levels) == 13
    assert levels[0] == pytest.approx(80)
    assert levels[-2] == pytest.approx(0.02)
    assert levels[-1] == 0
    assert (levels.diff() < 0).all()


def test_training_levels_have_their_distribution():
    sigma = Schedule(center=-0.5, width=1.3).draw(4096, generator(0)).log().numpy()
    # Stratified: far closer to the distribution than independent draws would be.
    assert sigma.mean() == pytest.approx(-0.5, abs=0.01)
    assert sigma.std() == pytest.approx(1.3, abs=0.02)
    t = Schedule("flow").draw(4096, generator(0))
    t = np.sort((t / (1 + t)).numpy())
    assert np.abs(t - np.linspace(0.02 / 1.02, 80 / 81, 4096)).max() < 2e-3


def test_weights():
    sigma = torch.tensor([0.1, 1.0, 10.0])
    assert torch.allclose(Schedule("edm").weight(sigma), (1 + sigma**2) / sigma**2)
    assert torch.allclose(Schedule("flow").weight(sigma), (1 + 1 / sigma) ** 2)
