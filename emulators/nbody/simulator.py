"""The reference simulator: theta and a seed in, a periodic box of matter out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from emulators.methods.displacement.painting import density_contrast
from sbitools.errors import ConfigError, ParameterError
from sbitools.gate.plain import real, text, whole
from sbitools.parameters import Parameter, ParameterSpace
from sbitools.priors import Prior, Uniform
from sbitools.seeds import check_seeds
from sbitools.simulator import FieldSpec

from . import lpt, pm
from .cosmology import Cosmology, growth_factor, second_order_growth
from .mesh import mesh_factors

__all__ = ["FIDUCIAL", "PRIORS", "NBodySimulator", "Quantity"]

Quantity = Literal["density", "particles"]

FIDUCIAL = {"Omega_m": 0.3175, "sigma_8": 0.834, "Omega_b": 0.049, "h": 0.6711, "n_s": 0.9624}
"""Fiducial cosmology of the Quijote simulations (arXiv:1909.05273)."""

PRIORS: dict[str, Prior] = {
    "Omega_m": Uniform(0.1, 0.5),
    "sigma_8": Uniform(0.6, 1.0),
    "Omega_b": Uniform(0.03, 0.07),
    "h": Uniform(0.5, 0.9),
    "n_s": Uniform(0.8, 1.2),
}
"""Ranges of the Quijote Latin hypercube."""

_CODE = 1
"""To be raised whenever the same arguments, theta and seed give other fields."""

_LATEX = {
    "Omega_m": r"\Omega_m", "sigma_8": r"\sigma_8", "Omega_b": r"\Omega_b", "h": "h", "n_s": "n_s",
}  # fmt: skip


def _listed(value: Any, name: str, whose: str = "NBodySimulator") -> tuple[Any, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ConfigError(
            f"{whose} {name}", expected="a list", got=repr(value),
            fix=f"pass {name}=[{value!r}]",
        )  # fmt: skip
    return tuple(value)


def known_redshifts(values: Any, whose: str) -> tuple[float, ...]:
    """Redshifts as floats; ConfigError in the name of `whose` for what are none."""
    return tuple(
        real(z, f"{whose} redshifts", least=0) for z in _listed(values, "redshifts", whose)
    )


def _named(value: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(
            f"NBodySimulator {name}", expected="a mapping from names", got=repr(value),
            fix=f"pass {name}={{'h': ...}}",
        )  # fmt: skip
    return dict(value or {})


class NBodySimulator:
    """Particle-mesh simulations of dark matter in a flat LCDM universe.

    Args:
        n: particles per side, even; also cells per side of the density.
        box_size: side of the periodic cube in Mpc/h.
        parameters: those of Omega_m, sigma_8, Omega_b, h and n_s that vary.
        priors: replaces entries of `PRIORS`.
        fixed: replaces entries of `FIDUCIAL` for parameters that do not vary.
        redshifts: of the output; 0 for a density, and 0, 0.5, 1, 2 for particles, if None. A
            density has one.
        steps: time steps to redshift 0.
        mesh_factor: cells of the force mesh per particle and axis. None is 2 up to 6.25 Mpc/h
            between particles and 3 above; others than 2 and 3, and 2 above, are refused, since
            structure would not grow as it should (`mesh.mesh_factors`).
        quantity: ``"density"``: the output is the density contrast (n, n, n).
            ``"particles"``: it is displacement and dx/dD, both in Mpc/h, of the particles on their
            lattice, (n_redshifts, 6, n, n, n), and the Zel'dovich displacement at D = 1,
            (3, n, n, n), is stored beside it as source.

    Raises:
        ConfigError: for an argument that cannot be used.

    Example:
        >>> import torch
        >>> simulator = NBodySimulator(n=8, box_size=100.0)
        >>> x = simulator.simulate(torch.tensor([[0.3, 0.8]]), torch.tensor([7]))
        >>> tuple(x.shape)
        (1, 8, 8, 8)
    """

    group_size = 1

    def __init__(
        self,
        n: int = 32,
        box_size: float = 64.0,
        parameters: Sequence[str] = ("Omega_m", "sigma_8"),
        *,
        priors: Mapping[str, Prior] | None = None,
        fixed: Mapping[str, float] | None = None,
        redshifts: Sequence[float] | None = None,
        steps: int = 16,
        mesh_factor: int | None = None,
        quantity: Quantity = "density",
    ) -> None:
        particles = quantity == "particles"
        if redshifts is None:
            redshifts = (0.0, 0.5, 1.0, 2.0) if particles else (0.0,)
        self.n, self.quantity = whole(n, "NBodySimulator n", least=4), quantity
        self.box_size = real(box_size, "NBodySimulator box_size", above=0)
        self.redshifts = known_redshifts(redshifts, "NBodySimulator")
        self.steps = whole(steps, "NBodySimulator steps", least=1)
        self.mesh_factor = self._mesh_factor(mesh_factor)
        self.fixed = FIDUCIAL | {
            k: real(v, f"NBodySimulator fixed {k}") for k, v in _named(fixed, "fixed").items()
        }
        parameters = [
            text(p, "NBodySimulator parameters") for p in _listed(parameters, "parameters")
        ]
        priors = _named(priors, "priors")
        self._check_settings(parameters, priors)
        self.parameters = ParameterSpace(
            [Parameter(p, (PRIORS | priors)[p], latex=_LATEX[p]) for p in parameters]
        )
        cube, axes = (self.n,) * 3, ("x", "y", "z")
        self.source: FieldSpec | None = None
        self.output = FieldSpec("density_contrast", axes, cube, "float32", "")
        if particles:
            self.output = FieldSpec(
                "particles", ("redshift", "component", *axes), (len(self.redshifts), 6, *cube),
                "float32", "Mpc/h",
            )  # fmt: skip
            self.source = FieldSpec(
                "za_displacement", ("component", *axes), (3, *cube), "float32", "Mpc/h"
            )

    def _check_settings(self, parameters: Sequence[str], priors: Mapping[str, Prior]) -> None:
        known = set(FIDUCIAL)
        named = set(parameters) <= known and len(set(parameters)) == len(parameters)
        rules = {
            "n": (self.n % 2 == 0, "an even number, 4 or more"),
            "quantity": (self.quantity in ("density", "particles"), "'density' or 'particles'"),
            "redshifts": (
                len(self.redshifts) > 0
                and (self.quantity == "particles" or len(self.redshifts) == 1),
                "one or more, and only one of them for a density",
            ),
        }
        values = {name: getattr(self, name) for name in rules}
        rules["parameters"] = (named, f"distinct names of {sorted(known)}")
        rules["priors"] = (set(priors) <= set(parameters), f"names of {list(parameters)}")
        rules["fixed"] = (set(self.fixed) <= known, f"names of {sorted(known)}")
        values |= {"parameters": list(parameters), "priors": list(priors), "fixed": self.fixed}
        for name, (ok, expected) in rules.items():
            if not ok:
                raise ConfigError(
                    f"NBodySimulator {name}", expected=expected, got=repr(values[name]),
                    fix=f"correct {name}",
                )  # fmt: skip

    def _mesh_factor(self, asked: int | None) -> int:
        """The force mesh: as asked, if structure grows as it should with it."""
        spacing = self.box_size / self.n
        allowed = mesh_factors(spacing)
        factor = whole(asked, "NBodySimulator mesh_factor") if asked is not None else allowed[0]
        if factor not in allowed:
            raise ConfigError(
                "NBodySimulator mesh_factor",
                expected=f"{' or '.join(map(str, allowed))} at {spacing:.4g} Mpc/h between "
                "particles, where other force meshes do not follow the growth of structure",
                got=f"{factor}", fix=f"leave mesh_factor out, or pass mesh_factor={allowed[0]}",
            )  # fmt: skip
        return factor

    @property
    def version(self) -> str:
        """Digest of all arguments and the code: to a store, other ones are another simulator."""
        varied = self.parameters.to_dict()
        fixed = {k: float(v) for k, v in self.fixed.items() if k not in self.parameters.names}
        settings = [
            _CODE, self.quantity, self.n, self.box_size, self.redshifts, self.steps,
            self.mesh_factor, fixed, [(p["name"], p["prior"]) for p in varied],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def cosmologies(self, theta: Tensor | np.ndarray) -> list[Cosmology]:
        """One cosmology per row of theta (B, P).

        Raises:
            ParameterError: for theta outside the priors, or unphysical together with the fixed
                parameters.
        """
        rows = self.parameters.check(theta).tolist()
        names = self.parameters.names
        return [Cosmology(**{**self.fixed, **dict(zip(names, r, strict=True))}) for r in rows]

    def growth_factors(self, omega_m: float) -> np.ndarray:
        """D at the redshifts of the output, shape (n_redshifts,)."""
        return growth_factor(np.array(self.redshifts), omega_m)

    def initial_displacement(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Zel'dovich displacement at D = 1 in Mpc/h, float32, shape (B, 3, n, n, n)."""
        with lpt.one_thread():
            return torch.stack(
                [lpt.zeldovich(m, self.box_size)[0] for m in self._modes(theta, seeds)]
            )

    def perturbation_theory(self, theta: Tensor, seeds: Tensor, order: int = 2) -> Tensor:
        """What Lagrangian perturbation theory says of the same universes as `simulate`.

        Args:
            theta: shape (B, P).
            seeds: shape (B,).
            order: 1 (Zel'dovich) or 2.

        Returns:
            Displacement and dx/dD in Mpc/h, shape (B, n_redshifts, 6, n, n, n).
        """
        out = []
        with lpt.one_thread():
            for cosmology, modes in zip(
                self.cosmologies(theta), self._modes(theta, seeds), strict=True
            ):
                psi1 = lpt.zeldovich(modes, self.box_size)[0]
                psi2 = lpt.second_order(modes, self.box_size)[0] if order == 2 else 0 * psi1
                d = self.growth_factors(cosmology.Omega_m)
                states = []
                for growth in d:
                    e, de = second_order_growth(growth, cosmology.Omega_m)
                    states.append(torch.cat([growth * psi1 + e * psi2, psi1 + de * psi2]))
                out.append(torch.stack(states))
        return torch.stack(out).float()

    def simulate(self, theta: Tensor, seeds: Tensor) -> Any:
        """Run one box per row.

        Args:
            theta: float64, shape (B, P).
            seeds: int64, shape (B,).

        Returns:
            The density contrast (B, n, n, n) float32; or, for particles, the pair (particles,
            Zel'dovich displacement). A seed gives the same universe in both, bit-equal whatever
            the batch.

        Raises:
            ParameterError: for theta outside the priors, or another number of seeds.
        """
        pairs = [
            self._run(c, m)
            for c, m in zip(self.cosmologies(theta), self._modes(theta, seeds), strict=True)
        ]
        if not pairs:
            empty = torch.empty((0, *self.output.shape), dtype=torch.float32)
            return (empty, empty.new_empty((0, *self.source.shape))) if self.source else empty
        particles = torch.stack([p for p, _ in pairs])
        if self.quantity == "particles":
            return particles, torch.stack([s for _, s in pairs])
        return density_contrast(particles[:, 0, :3], self.box_size)

    def _modes(self, theta: Tensor, seeds: Tensor) -> list[Tensor]:
        """Linear modes at D = 1 per box, each (1, n, n, n // 2 + 1)."""
        cosmologies = self.cosmologies(theta)
        seeds = check_seeds(seeds, len(cosmologies), ParameterError)
        with lpt.one_thread():
            return [
                lpt.linear_modes(lpt.white_noise([int(s)], self.n), self.box_size, c.linear_power)
                for c, s in zip(cosmologies, seeds, strict=True)
            ]

    def _run(self, cosmology: Cosmology, modes: Tensor) -> tuple[Tensor, Tensor]:
        with lpt.one_thread():
            psi1 = lpt.zeldovich(modes, self.box_size)[0]
            psi2 = lpt.second_order(modes, self.box_size)[0]
        particles = pm.evolve(
            psi1.numpy(), psi2.numpy(), cosmology.Omega_m, self.box_size,
            self.growth_factors(cosmology.Omega_m).tolist(),
            steps=self.steps, mesh_factor=self.mesh_factor,
        )  # fmt: skip
        return torch.from_numpy(particles), psi1
