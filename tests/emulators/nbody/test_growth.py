"""Structure grows as it should at every spacing of the particles, to half their Nyquist frequency.

Of the same modes: a lattice twice as fine, seen at the particles of the coarse one, is the truth
where growth is nonlinear; where it is not, perturbation theory is.
"""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from emulators.methods.displacement.painting import density_contrast
from emulators.nbody import NBodyEmulator, NBodySimulator, lpt, mesh, pm
from emulators.nbody.cosmology import Cosmology, growth_factor
from emulators.nbody.system import NBodySettings
from sbitools.errors import ConfigError
from sbitools.statistics import power_spectrum

N, OMEGA_M = 16, Cosmology().Omega_m
SPACINGS = (1.0, 2.0, 3.125, 4.0, 5.0, mesh.FINE, 6.26, 9.0, 15.0, 31.0, 100.0)


def states(modes, size, growth, **options):
    """Displacements (n_outputs, 3, n, n, n) of the universe with these modes."""
    psi = lpt.zeldovich(modes, size)[0].numpy(), lpt.second_order(modes, size)[0].numpy()
    return pm.evolve(*psi, OMEGA_M, size, growth, **options)[:, :3]


def power(displacement, size):
    """P at k up to half the Nyquist frequency of the particles."""
    field = density_contrast(torch.from_numpy(np.ascontiguousarray(displacement)), size, 2 * N)
    return power_spectrum(field, size).power[:, : N // 4]


def growth_errors(spacing, growth, factor=None, seeds=(0, 1)):
    """P over that of the finer lattice, per output and wavenumber, of all seeds together."""
    size, coarse, fine = N * spacing, 0, 0
    for seed in seeds:
        white = lpt.white_noise([seed], N)
        modes = lpt.linear_modes(white, size, Cosmology().linear_power)
        finer = torch.stack([lpt._resize(box, 2 * N) for box in modes])
        coarse = coarse + power(states(modes, size, growth, mesh_factor=factor), size)
        fine = fine + power(states(finer, size, growth)[..., ::2, ::2, ::2], size)
    return coarse / fine


@pytest.mark.parametrize("spacing", SPACINGS)
def test_structure_grows_as_on_a_finer_lattice(spacing):
    growth = [float(growth_factor(2.0, OMEGA_M))]
    # Measured against four times as fine: 0.98 to 1.04 at redshift 2, and 0.94 to 1.04 today.
    np.testing.assert_allclose(growth_errors(spacing, growth), 1, atol=0.05)


@pytest.mark.parametrize("spacing", [3.125, mesh.FINE, 9.0, 31.0])
def test_structure_of_today_has_grown_as_on_a_finer_lattice(spacing):
    np.testing.assert_allclose(growth_errors(spacing, [1.0], seeds=(0,)), 1, atol=0.07)


@pytest.mark.parametrize("spacing", [9.0, 15.0, 31.0, 100.0, 300.0])
def test_growth_is_linear_in_coarse_boxes(spacing):
    """Against second order perturbation theory of the same universe, at redshift 2."""
    simulator = NBodySimulator(N, N * spacing, quantity="particles", redshifts=[2.0])
    theta, seeds = torch.tensor([[OMEGA_M, 0.834]] * 6), torch.arange(6)
    x = simulator.simulate(theta, seeds)[0][:, 0, :3]
    theory = simulator.perturbation_theory(theta, seeds)[:, 0, :3]
    ratio = power(x, N * spacing).sum(0) / power(theory, N * spacing).sum(0)
    np.testing.assert_allclose(ratio, 1, atol=0.05)  # 1.15 to 1.26 with factor 2 from 15 on


@pytest.mark.parametrize(("spacing", "factor"), [(9.0, 2), (31.0, 2), (31.0, 1), (31.0, 4)])
def test_what_is_refused_does_not_grow_so(spacing, factor):
    growth = [float(growth_factor(2.0, OMEGA_M))]
    assert abs(growth_errors(spacing, growth, factor, seeds=(0,)) - 1).max() > 0.07
    with pytest.raises(ConfigError, match=r"mesh_factor.*expected 3 at.*leave mesh_factor out"):
        NBodySimulator(N, N * spacing, mesh_factor=factor)


def test_the_force_mesh_is_chosen_by_the_spacing_and_named_in_records():
    assert NBodySimulator(N, N * 2.0).mesh_factor == NBodySimulator(N, N * mesh.FINE).mesh_factor
    assert NBodySimulator(N, N * 9.0).mesh_factor == 3
    assert NBodySimulator(N, N * 2.0, mesh_factor=3).mesh_factor == 3
    chosen = [NBodySettings(n=N, box_size=N * s).mesh_factor for s in (3.0, 9.0)]
    assert chosen == [2, 3]
    assert NBodySettings(n=N, box_size=N * 9.0, mesh_factor=2).mesh_factor == 2  # refused later
    with pytest.raises(ValidationError, match="box_size"):
        NBodySettings(n=N, box_size=-1.0)


def test_an_emulator_of_a_coarse_box_that_was_fitted_before_still_opens():
    emulator = NBodyEmulator(NBodySimulator(8, 72.0))
    emulator._build([4, 6], 6.0, "float32", 0)
    old = emulator.config()
    old["simulator"]["mesh_factor"] = 2
    opened = NBodyEmulator.from_config(old)
    assert opened.particle_simulator().mesh_factor == 2
    assert opened.config() == old


@pytest.mark.parametrize("bad", [3, "x", [], [-1.0], [float("nan")], [float("inf")]])
def test_redshifts_of_the_settings_are_a_list_of_redshifts(bad):
    with pytest.raises(ValidationError, match="redshifts"):
        NBodySettings(redshifts=bad)
