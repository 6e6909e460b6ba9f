"""Particle-mesh N-body in growth time: the reference that the emulator learns.

The time variable is D, the velocity v = dx/dD, and one step is drift - kick - drift. The kick,

    v <- alpha v + (1 - alpha) A / D,    A = -grad laplace^-1 delta,

has alpha such that the velocity stays exact to second order in Lagrangian perturbation theory
whatever the step (the position too, in an Einstein-de Sitter universe; to 1e-4 otherwise). Beyond
it the scheme converges with the square of the step.

References:
    | BullFrog: Multi-step perturbation theory as a time integrator for cosmological simulations
    | (Rampf, List & Hahn, 2025, JCAP 02, 020),
    | arXiv:2409.19049
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from emulators.methods.displacement.painting import cic_deposit, cic_gather
from sbitools.errors import ParameterError

from .cosmology import second_order_growth
from .lpt import one_thread, wavenumbers
from .mesh import mesh_factors

__all__ = ["D_START", "Step", "acceleration", "evolve", "plan_steps"]

D_START = 0.05
"""Growth factor at which 2LPT hands over: redshift 25 or so, long before shells cross."""


@dataclass(frozen=True)
class Step:
    """One drift - kick - drift step.

    Attributes:
        length: in D.
        middle: D of the kick.
        alpha: what the kick keeps of the velocity.
    """

    length: float
    middle: float
    alpha: float


def plan_steps(edges: np.ndarray, omega_m: float) -> list[Step]:
    """Steps between successive growth factors.

    With x = q + D psi1 + E psi2, the force at second order is A = D psi1 + (E - D^2) psi2. After
    half a drift E has become E0 + E0' dD / 2, so A / D = psi1 + gamma psi2; psi1 is kept by any
    alpha, and the new velocity psi1 + E1' psi2 asks for E1' = alpha E0' + (1 - alpha) gamma.

    Args:
        edges: ascending growth factors, shape (n_steps + 1,).
        omega_m: matter density.
    """
    e, de = second_order_growth(edges, omega_m)
    steps = []
    for i, length in enumerate(np.diff(edges)):
        middle = edges[i] + length / 2
        gamma = (e[i] + de[i] * length / 2) / middle - middle
        alpha = (de[i + 1] - gamma) / (de[i] - gamma)
        steps.append(Step(float(length), float(middle), float(alpha)))
    return steps


@lru_cache(maxsize=4)
def _force_kernels(mesh: int, box_size: float, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """i g(k) / k^2 per component, with g the four-point difference instead of k.

    Particles on a lattice carry images of every mode at multiples of the lattice frequency. The
    exact gradient passes the images on to the force: linear growth came out 5 % too fast on large
    scales with it, and with this one within 1 % (2 Mpc/h between particles, D = 0.05).

    References:
        | FastPM (Feng, Chu, Seljak & McDonald, 2016), arXiv:1603.00476, section 2.3
    """
    k = wavenumbers(mesh, box_size, torch.empty((), dtype=dtype))
    k2 = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    k2[0, 0, 0] = 1
    cell = box_size / mesh
    gradient = [(8 * torch.sin(ki * cell) - torch.sin(2 * ki * cell)) / (6 * cell) for ki in k]
    return tuple(1j * g / k2 for g in gradient)


def acceleration(displacement: np.ndarray, box_size: float, mesh: int) -> np.ndarray:
    """A = -grad laplace^-1 delta at the particles in Mpc/h, shape of `displacement`.

    Args:
        displacement: of the lattice particles in Mpc/h, shape (3, n, n, n).
        box_size: side in Mpc/h.
        mesh: cells per side of the force mesh, even.
    """
    density = torch.from_numpy(cic_deposit(displacement, box_size, mesh))
    modes = torch.fft.rfftn(density)
    fields = torch.empty((3, mesh, mesh, mesh), dtype=density.dtype)
    for field, kernel in zip(fields, _force_kernels(mesh, box_size, density.dtype), strict=True):
        torch.fft.irfftn(modes * kernel, s=(mesh, mesh, mesh), out=field)
    return cic_gather(fields.numpy(), displacement, box_size)


def evolve(
    psi1: np.ndarray,
    psi2: np.ndarray,
    omega_m: float,
    box_size: float,
    outputs: Sequence[float] = (1.0,),
    *,
    steps: int = 16,
    mesh_factor: int | None = None,
    start: float = D_START,
) -> np.ndarray:
    """Displacements and velocities of the lattice particles at the growth factors `outputs`.

    The trajectory has `steps` equal steps from `start` to D = 1. An output between two of them is
    a shorter step off the trajectory, which itself goes on unchanged: what is asked for does not
    change what happens. Outputs before `start` are 2LPT.

    Args:
        psi1: Zel'dovich displacement at D = 1 in Mpc/h, shape (3, n, n, n); sets the dtype.
        psi2: second order displacement, so that x = q + D psi1 + E psi2, same shape.
        omega_m: matter density.
        box_size: side in Mpc/h.
        outputs: growth factors in (0, 1], any order.
        steps: number of steps to D = 1.
        mesh_factor: cells of the force mesh per particle and axis, any; None is the first of
            `mesh.mesh_factors`.
        start: growth factor of the 2LPT start, in (0, 1).

    Returns:
        Shape (len(outputs), 6, n, n, n): displacement and dx/dD, both in Mpc/h.

    Raises:
        ParameterError: for outputs outside (0, 1].
    """
    if mesh_factor is None:
        mesh_factor = mesh_factors(box_size / psi1.shape[-1])[0]
    with one_thread():
        return _trajectory(psi1, psi2, omega_m, box_size, outputs, steps, mesh_factor, start)


def _trajectory(
    psi1: np.ndarray, psi2: np.ndarray, omega_m: float, box_size: float,
    outputs: Sequence[float], steps: int, mesh_factor: int, start: float,
) -> np.ndarray:  # fmt: skip
    mesh = mesh_factor * psi1.shape[-1]
    edges = np.linspace(start, 1.0, steps + 1)
    wanted = _snapped(np.asarray(outputs, dtype=float), edges)
    out = np.empty((len(wanted), 6, *psi1.shape[1:]), dtype=psi1.dtype)
    for row in np.flatnonzero(wanted <= start):
        out[row] = np.concatenate(_second_order_state(psi1, psi2, float(wanted[row]), omega_m))
    state = _second_order_state(psi1, psi2, start, omega_m)
    for step, low, high in zip(plan_steps(edges, omega_m), edges[:-1], edges[1:], strict=True):
        for row in np.flatnonzero((wanted > low) & (wanted < high)):
            (aside,) = plan_steps(np.array([low, wanted[row]]), omega_m)
            out[row] = np.concatenate(_advance(*state, aside, box_size, mesh))
        if not (wanted > low).any():
            break
        state = _advance(*state, step, box_size, mesh)
        out[wanted == high] = np.concatenate(state)
    return out


def _snapped(wanted: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Growth factors in (0, 1]; one that rounding put a hair away from an edge is that edge."""
    nearest = edges[np.abs(wanted[:, None] - edges).argmin(1)]
    wanted = np.where(np.abs(wanted - nearest) < 1e-9, nearest, wanted)
    if not ((wanted > 0) & (wanted <= 1)).all():
        raise ParameterError(
            "outputs", expected="growth factors in (0, 1]", got=f"{wanted.tolist()}",
            fix="the trajectory ends at redshift 0, where D = 1",
        )  # fmt: skip
    return wanted


def _second_order_state(
    psi1: np.ndarray, psi2: np.ndarray, growth: float, omega_m: float
) -> tuple[np.ndarray, np.ndarray]:
    e, de = (psi1.dtype.type(value) for value in second_order_growth(growth, omega_m))
    return psi1.dtype.type(growth) * psi1 + e * psi2, psi1 + de * psi2


def _advance(
    displacement: np.ndarray, velocity: np.ndarray, step: Step, box_size: float, mesh: int
) -> tuple[np.ndarray, np.ndarray]:
    real = displacement.dtype.type
    half, alpha = real(step.length / 2), real(step.alpha)
    displacement = displacement + half * velocity
    force = acceleration(displacement, box_size, mesh)
    velocity = alpha * velocity + real((1 - step.alpha) / step.middle) * force
    return displacement + half * velocity, velocity
