"""The particle-mesh reference: against a published fit, against finer steps, and its cost.

Three tables: the power spectrum over halofit (Takahashi et al. 2012), with the sample variance of
the phases taken out; the error of a number of time steps against many; CPU seconds per box.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Table, options

from emulators.methods.displacement.painting import density_contrast
from emulators.nbody import NBodySimulator, lpt
from emulators.nbody.cosmology import Cosmology, growth_factor
from emulators.nbody.halofit import halofit
from sbitools.statistics import cross_correlation, power_spectrum, transfer_function

COSMOLOGY = Cosmology()
THETA = (COSMOLOGY.Omega_m, COSMOLOGY.sigma_8)
REDSHIFTS = (0.0, 1.0)


def main() -> None:
    """Run and write the tables."""
    torch.set_num_threads(1)
    chosen = options(__doc__ or "")
    for make in (power_table, steps_table, cost_table):
        make(chosen.quick).write(Path(chosen.out))


def simulate(n: int, box_size: float, seeds: range, **settings: Any) -> torch.Tensor:
    """Particles of the fiducial cosmology, (len(seeds), 2, 6, n, n, n)."""
    simulator = NBodySimulator(
        n, box_size, quantity="particles", redshifts=REDSHIFTS, **settings
    )  # fmt: skip
    theta = torch.tensor([THETA] * len(seeds), dtype=torch.float64)
    return simulator.simulate(theta, torch.tensor(list(seeds)))[0]


def linear_power(n: int, box_size: float, seeds: range) -> np.ndarray:
    """Mean power at D = 1 of the linear fields that these seeds have."""
    white = lpt.white_noise(list(seeds), n)
    modes = lpt.linear_modes(white, box_size, COSMOLOGY.linear_power)
    fields = torch.fft.irfftn(modes, s=(n, n, n), dim=(1, 2, 3))
    return power_spectrum(fields, box_size).power.mean(0)


def power_table(quick: bool) -> Table:
    """P over halofit for three particle spacings."""
    table = Table(
        "nbody_reference_power", "Particle-mesh power spectrum over a published nonlinear fit",
        ["particles", "Mpc/h", "z", "k in h/Mpc", "P / P_linear", "P / P_halofit"], quick=quick,
    )  # fmt: skip
    sizes = [(16, 64.0, 2)] if quick else [(32, 128.0, 8), (64, 128.0, 4), (128, 204.8, 2)]
    for n, box_size, n_seeds in sizes:
        seeds = range(n_seeds)
        own = linear_power(n, box_size, seeds)
        particles = simulate(n, box_size, seeds)
        for i, z in enumerate(REDSHIFTS):
            density = density_contrast(particles[:, i, :3], box_size, 2 * n)
            spectrum = power_spectrum(density, box_size, deconvolve_cic=True)
            for j in np.unique(np.geomspace(1, n // 2 - 2, 6).round().astype(int)):
                k, power = spectrum.k[j], spectrum.power[:, j].mean()
                linear = own[j] * growth_factor(z, COSMOLOGY.Omega_m) ** 2
                luck = linear / COSMOLOGY.linear_power(k, z)
                fit = halofit(k, COSMOLOGY, z) * luck
                table.add(f"{n}^3", box_size, z, float(k), power / linear, float(power / fit))
    table.notes.append(
        "P_linear is that of the same phases, and halofit is scaled by their excess over the mean "
        "linear spectrum; halofit states 5 % for k < 1 h/Mpc."
    )
    return table


def steps_table(quick: bool) -> Table:
    """Error of a number of steps against many."""
    n, box_size, seeds, many = 32, 64.0, range(1 if quick else 4), 32 if quick else 256
    table = Table(
        "nbody_reference_steps", f"Particle mesh at z = 0: time steps against {many} steps",
        ["steps", "displacement rms error, Mpc/h", "order", "T(k=0.7)", "r(k=0.7)", "T(k=1.5)",
         "r(k=1.5)", "CPU s"], quick=quick,
    )  # fmt: skip
    fine = simulate(n, box_size, seeds, steps=many)[:, 0, :3]
    reference, before = density_contrast(fine, box_size), None
    for steps in (4, 8, 16) if quick else (4, 8, 16, 32, 64):
        particles, seconds = cpu(lambda s=steps: simulate(n, box_size, seeds, steps=s))
        ends = particles[:, 0, :3]
        error = float((ends - fine).square().sum(1).mean().sqrt())
        order = float(np.log2(before / error)) if before else float("nan")
        density, before = density_contrast(ends, box_size), error
        k, transfer = transfer_function(density, reference, box_size)
        _, r = cross_correlation(density, reference, box_size)
        at = [int(np.abs(k - q).argmin()) for q in (0.7, 1.5)]
        pairs = [float(v.mean(0)[j]) for j in at for v in (transfer, r)]
        table.add(steps, error, order, *pairs, seconds / len(seeds))
    table.notes.append(
        f"{n}^3 particles in {box_size:.0f} Mpc/h, 2LPT start at D = 0.05; the order is that of "
        "the error between a row and the one above, 2 once steps are short against D = 0.05."
    )
    return table


def cost_table(quick: bool) -> Table:
    """CPU seconds per box, and how much of it is Fourier transforms."""
    table = Table(
        "nbody_reference_cost", "Particle mesh: CPU seconds per box to z = 0, 16 steps",
        ["particles", "mesh", "CPU s", "of which FFT", "s per step"], quick=quick,
    )  # fmt: skip
    for n, factor in [(16, 2)] if quick else [(32, 1), (32, 2), (32, 3), (64, 1), (64, 2)]:
        simulator = NBodySimulator(n, 2.0 * n)
        simulator.mesh_factor = factor  # the cost of 1, too, with which structure does not grow
        theta = torch.tensor([THETA], dtype=torch.float64)

        def box(simulator: NBodySimulator = simulator, theta: torch.Tensor = theta) -> Any:
            return simulator.simulate(theta, torch.tensor([1]))

        box()  # compiles, and fills the tables of wave numbers
        seconds = min(cpu(box)[1] for _ in range(3))
        transforms = 16 * min(cpu(lambda m=n * factor: _transforms(m))[1] for _ in range(5))
        table.add(f"{n}^3", f"{n * factor}^3", seconds, transforms / seconds, seconds / 16)
    return table


def _transforms(mesh: int) -> None:
    """The four transforms of one force evaluation."""
    modes = torch.fft.rfftn(torch.zeros((mesh,) * 3))
    for _ in range(3):
        torch.fft.irfftn(modes, s=(mesh,) * 3)


def cpu(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns and the CPU seconds it took."""
    begun = time.process_time()
    result = work()
    return result, time.process_time() - begun


if __name__ == "__main__":
    main()
