"""Distances of type Ia supernovae in 31 bins of redshift: matter density and Hubble constant.

The compressed JLA likelihood (Betoule et al. 2014, arXiv:1401.4064, appendix E, tables F.1 and
F.2): distance moduli with a covariance, normal. Flat LambdaCDM,

    mu(z) = 25 + 5 log10[(1 + z) c / (100 h) int_0^z dz' / sqrt(Omega_m (1 + z')^3 + 1 - Omega_m)]

with distances in Mpc. The absolute magnitude is that of the release, so h takes the place of its
offset M. The two files are data of others and are not in the repository.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _peers_exact import JUDGED, REQUIRED, Problem, compared
from _table import Table

from sbitools import FieldSpec, Parameter, ParameterSpace, priors

__all__ = ["distance_moduli", "missing", "problem", "read", "supernova"]

SIMULATIONS = 2000
PUBLISHED = "0.295 ± 0.034"
_MODULI, _MATRIX = "jla_mub.txt", "jla_mub_covmatrix"
_LIGHT = 299_792.458  # km/s
_BOX = np.array([[0.0, 1.0], [0.5, 0.9]])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)  # of integrands this smooth: 1e-9


def distance_moduli(theta: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(n, D) for Omega_m and h in theta (n, 2) and redshifts z (D,)."""
    matter, h = theta[:, 0, None, None], theta[:, 1, None]
    at = 1 + z[:, None] * (1 + _NODES) / 2  # (D, nodes)
    integrand = (matter * at**3 + 1 - matter) ** -0.5  # (n, D, nodes)
    integral = integrand @ _WEIGHTS * z / 2
    return 25 + 5 * np.log10((1 + z) * _LIGHT / (100 * h) * integral)


def missing(folder: Path | None) -> str:
    """Why the set cannot run; empty if it can."""
    if folder is None:
        return f"no folder of {_MODULI} and {_MATRIX}.dat: give --data or JLA_DATA"
    if not (folder / _MODULI).is_file() or not list(folder.glob(_MATRIX + "*")):
        return f"{folder} has no {_MODULI} and {_MATRIX}.dat, of the release jla_likelihood_v6"
    return ""


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Redshifts (D,), distance moduli (D,) and their covariance (D, D).

    The matrix may be in `jla_mub_covmatrix.dat`, which begins with its size, or `.txt`, without.
    """
    z, mu = np.loadtxt(folder / _MODULI).T
    numbers = np.loadtxt(next(folder.glob(_MATRIX + "*"))).ravel()
    return z, mu, numbers[-(len(z) ** 2) :].reshape(len(z), len(z))


def problem(folder: Path) -> Problem:
    """Uniform priors: Omega_m on 0 to 1, h on 0.5 to 0.9."""
    z, mu, covariance = read(folder)
    factor = np.linalg.cholesky(covariance)
    names = ("Omega_m", "h")
    laws = [priors.Uniform(*map(float, ends)) for ends in _BOX]

    def log_likelihood(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        left = np.linalg.solve(factor, (distance_moduli(theta, z) - x).T)
        return -0.5 * (left**2).sum(0)

    def simulate(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal((len(theta), len(z))) @ factor.T
        return distance_moduli(theta, z) + noise

    return Problem(
        ParameterSpace([Parameter(n, law) for n, law in zip(names, laws, strict=True)]),
        FieldSpec("mu", ("z",), (len(z),)), _BOX, lambda theta: np.zeros(len(theta)),
        log_likelihood, simulate, mu,
    )  # fmt: skip


def supernova(quick: bool, folder: Path) -> Table:
    """The table of this set."""
    table = Table(
        "peers_supernova", "Distances of supernovae (JLA): cosmology from 31 redshift bins",
        ("what", "Omega_m", "h", *JUDGED), REQUIRED, quick,
    )  # fmt: skip
    n, options = (300, {"time_limit": 5.0}) if quick else (SIMULATIONS, {})
    compared(table, problem(folder), n, options)
    table.add("Betoule et al. 2014, all supernovae", PUBLISHED, *["-"] * (len(JUDGED) + 1))
    return table
