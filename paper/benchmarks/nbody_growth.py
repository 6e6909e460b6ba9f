"""Does structure grow as it should? The particle mesh at several spacings and force meshes.

P at a quarter and at half the Nyquist frequency of the particles, over that of the same modes on
a lattice four times as fine (seen at the particles of the coarse one), and over second order
perturbation theory, which is the truth where particles are far apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from _table import Table, options

from emulators.methods.displacement.painting import density_contrast
from emulators.nbody import lpt, pm
from emulators.nbody.cosmology import Cosmology, growth_factor, second_order_growth
from emulators.nbody.mesh import mesh_factors
from sbitools.statistics import power_spectrum

REDSHIFTS = (2.0, 0.0)
COSMOLOGY = Cosmology()
GROWTH = [float(growth_factor(z, COSMOLOGY.Omega_m)) for z in REDSHIFTS]


def main() -> None:
    """Run and write the table."""
    torch.set_num_threads(1)
    chosen = options(__doc__ or "")
    quick = chosen.quick
    table = Table(
        "nbody_growth", "Growth of structure in the particle mesh",
        ["spacing, Mpc/h", "mesh factor", "allowed", "z", "P / fine, k_Ny/4", "P / fine, k_Ny/2",
         "P / 2LPT, k_Ny/2"], quick=quick,
    )  # fmt: skip
    for spacing in (3.125, 31.0) if quick else (1.0, 3.125, 6.25, 9.0, 15.0, 31.0, 100.0):
        compare(table, spacing, n=8 if quick else 16, seeds=range(1 if quick else 6))
    table.notes.append("16^3 particles, the fiducial cosmology, six universes together, 16 steps.")
    table.write(Path(chosen.out))


def compare(table: Table, spacing: float, n: int, seeds: range) -> None:
    """Rows of one spacing."""
    size, factors = n * spacing, (1, 2, 3, 4)
    sums = {name: np.zeros((2, n // 2)) for name in ("fine", "2LPT", *factors)}
    for seed in seeds:
        white = lpt.white_noise([seed], n)
        modes = lpt.linear_modes(white, size, COSMOLOGY.linear_power)
        finer = torch.stack([lpt._resize(box, 4 * n) for box in modes])
        sums["fine"] += power(move(finer, size, None)[..., ::4, ::4, ::4], size)
        sums["2LPT"] += power(theory(modes, size), size)
        for factor in factors:
            sums[factor] += power(move(modes, size, factor), size)
    quarter, half = n // 8 - 1, n // 4 - 1  # bins of width 1, the first at the fundamental
    for factor in factors:
        fine, second = sums[factor] / sums["fine"], sums[factor] / sums["2LPT"]
        allowed = "yes" if factor in mesh_factors(spacing) else "no"
        for i, z in enumerate(REDSHIFTS):
            values = fine[i, quarter], fine[i, half], second[i, half]
            table.add(spacing, factor, allowed, z, *map(float, values))


def displacements(modes: torch.Tensor, size: float) -> tuple[np.ndarray, np.ndarray]:
    """psi1 and psi2."""
    return lpt.zeldovich(modes, size)[0].numpy(), lpt.second_order(modes, size)[0].numpy()


def move(modes: torch.Tensor, size: float, factor: int | None) -> np.ndarray:
    """The particle mesh's displacements, (2, 3, n, n, n)."""
    psi1, psi2 = displacements(modes, size)
    return pm.evolve(psi1, psi2, COSMOLOGY.Omega_m, size, GROWTH, mesh_factor=factor)[:, :3]


def theory(modes: torch.Tensor, size: float) -> np.ndarray:
    """Those of second order perturbation theory."""
    psi1, psi2 = displacements(modes, size)
    second = [second_order_growth(d, COSMOLOGY.Omega_m)[0] for d in GROWTH]
    states = [d * psi1 + e * psi2 for d, e in zip(GROWTH, second, strict=True)]
    return np.stack(states).astype(np.float32)


def power(displacement: np.ndarray, size: float) -> np.ndarray:
    """P below the Nyquist frequency of the particles, (2, n / 2)."""
    n = displacement.shape[-1]
    field = density_contrast(torch.from_numpy(np.ascontiguousarray(displacement)), size, 2 * n)
    return power_spectrum(field, size).power[:, : n // 2]


if __name__ == "__main__":
    main()
