"""The reference simulator: theta and a seed in, the 21cm signal of hydrogen out.

21cmFAST (Mesinger et al. 2011, arXiv:1003.3878; Murray et al. 2020, arXiv:2010.15121) with the six
parameters of 21cmPIE-INN (arXiv:2401.04174).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ConfigError
from sbitools.parameters import Parameter, ParameterSpace
from sbitools.priors import Prior, Uniform, from_dict
from sbitools.seeds import check_seeds, mix
from sbitools.simulator import FieldSpec

from .reference.distance import cell_redshifts
from .reference.fast21cm import VERSIONS, Box, Limits, backend, coeval, lightcone

__all__ = ["FIDUCIAL", "PRIORS", "Quantity", "ReionizationSimulator", "planes"]

Quantity = Literal["slice", "slices", "cube", "lightcone"]

FIDUCIAL = {
    "m_wdm": math.inf, "Omega_m": 0.3158, "E0": 500.0, "log10_LX": 40.0, "log10_Tvir": 4.69897,
    "zeta": 30.0, "redshift": 9.0,
}  # fmt: skip
"""Of 21cmPIE-INN, but for the dark matter: cold, unless a mass is given (theirs is 3.5 keV)."""

PRIORS: dict[str, Prior] = {
    "m_wdm": Uniform(0.3, 10.0),
    "Omega_m": Uniform(0.2, 0.4),
    "E0": Uniform(100.0, 1500.0),
    "log10_LX": Uniform(38.0, 42.0),
    "log10_Tvir": Uniform(4.0, 5.3),
    "zeta": Uniform(10.0, 250.0),
    "redshift": Uniform(7.0, 12.0),
}
"""Of 21cmPIE-INN, and of the redshift of a cube."""

_LABELS = {
    "m_wdm": ("keV", r"m_\mathrm{WDM}"),
    "Omega_m": ("", r"\Omega_m"),
    "E0": ("eV", r"E_0"),
    "log10_LX": ("", r"\log_{10} L_X"),
    "log10_Tvir": ("", r"\log_{10} T_\mathrm{vir}"),
    "zeta": ("", r"\zeta"),
    "redshift": ("", "z"),
}
_HEATING = ("E0", "log10_LX")
_CODE = 1
"""To be raised whenever the same arguments, theta and seed give other fields."""
_SALT = 77  # keeps seeds of 21cmFAST apart from others that are made of the same 63 bits
_STRIDE = 8  # cells between planes that are taken from one cube


class ReionizationSimulator:
    """21cm brightness temperature in mK, real space, one thread.

    Args:
        quantity: ``"slice"``: one plane (n, n) of a cube. ``"slices"``: n / 8 planes across each
            axis of it, (3 n / 8, n, n), neighbours 8 cells apart. ``"cube"``: (n, n, n).
            ``"lightcone"``: (n, n, n_los).
        n: cells per side.
        box_size: in Mpc.
        parameters: those of `PRIORS` that vary; ``"redshift"`` is not one of a light cone.
        priors: replaces entries of `PRIORS`.
        fixed: replaces entries of `FIDUCIAL` for parameters that do not vary; the redshift is
            that of the cube, or of the nearest cells of the light cone.
        n_los: cells along the line of sight of a light cone, as long as the others: cell k is k
            cells farther than the first, in the cosmology of each simulation.
        spin_temperature: follow it; without it E0 and log10_LX have no effect and are refused.
        recombinations: inhomogeneous ones.
        refinement: cells of the initial conditions per cell and axis.
        limits: light cones that contradict them are rejected, and the prior is what is left.

    Raises:
        ConfigError: for an argument that cannot be used.
    """

    group_size = 1
    source: FieldSpec | None = None

    def __init__(
        self,
        quantity: Quantity = "slice",
        n: int = 64,
        box_size: float = 128.0,
        parameters: Sequence[str] = ("zeta", "log10_Tvir"),
        *,
        priors: Mapping[str, Prior] | None = None,
        fixed: Mapping[str, float] | None = None,
        n_los: int | None = None,
        spin_temperature: bool = False,
        recombinations: bool = False,
        refinement: int = 2,
        limits: Limits | None = None,
    ) -> None:
        self.quantity, self.n, self.box_size = quantity, int(n), float(box_size)
        self.n_los, self.limits = n_los, limits
        self.fixed = {**FIDUCIAL, **(fixed or {})}
        priors = {**PRIORS, **(priors or {})}
        self.box = Box(
            self.n, self.box_size, refinement, spin_temperature, recombinations,
            r_max=min(30.0, self.box_size / 3),
        )  # fmt: skip
        self._check_settings(list(parameters), list(priors))
        self.parameters = ParameterSpace(
            [Parameter(p, priors[p], _LABELS[p][0], _LABELS[p][1]) for p in parameters]
        )
        self.output = FieldSpec("brightness_temperature", *self._axes(), "float32", "mK")

    def _axes(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        n = self.n
        if self.quantity == "slice":
            return ("x", "y"), (n, n)
        if self.quantity == "slices":
            return ("slice", "x", "y"), (3 * n // _STRIDE, n, n)
        if self.quantity == "cube":
            return ("x", "y", "z"), (n, n, n)
        return ("x", "y", "los"), (n, n, self.n_los or 0)

    def _check_settings(self, parameters: list[str], priors: list[str]) -> None:
        cone, known = self.quantity == "lightcone", set(FIDUCIAL)
        idle = [p for p in parameters if p in _HEATING and not self.box.spin_temperature]
        rules = {
            "quantity": (self.quantity in ("slice", "slices", "cube", "lightcone"), self.quantity,
                         "'slice', 'slices', 'cube' or 'lightcone'"),
            "n": (self.n >= 8 and self.n % _STRIDE == 0, self.n, f"a multiple of {_STRIDE}"),
            "box_size": (0 < self.box_size < math.inf, self.box_size, "positive, in Mpc"),
            "parameters": (set(parameters) <= known and len(set(parameters)) == len(parameters),
                           parameters, f"distinct names of {sorted(known)}"),
            "parameters without a spin temperature": (
                not idle, idle, "only those that have an effect; E0 and log10_LX need "
                "spin_temperature=True"),
            "parameters of a light cone": (not (cone and "redshift" in parameters), parameters,
                                           "no redshift: it has all of them"),
            "n_los": ((self.n_los is not None and self.n_los >= 8) == cone, self.n_los,
                      "8 or more cells for a light cone, None for the others"),
            "limits": (cone or self.limits is None, self.limits,
                       "None: only a light cone has a history that can be rejected"),
            "priors": (set(priors) <= known, priors, f"names of {sorted(known)}"),
            "fixed": (set(self.fixed) <= known, sorted(self.fixed), f"names of {sorted(known)}"),
            "refinement": (self.box.refinement >= 1, self.box.refinement, "1 or more"),
        }  # fmt: skip
        for name, (ok, got, expected) in rules.items():
            if not ok:
                raise ConfigError(
                    f"ReionizationSimulator {name}", expected=expected, got=repr(got),
                    fix=f"correct {name.split()[0]}",
                )  # fmt: skip

    @property
    def version(self) -> str:
        """Digest of all arguments, of the code and of 21cmFAST's version."""
        varied = [(p["name"], p["prior"]) for p in self.parameters.to_dict()]
        fixed = {k: str(v) for k, v in self.fixed.items() if k not in self.parameters.names}
        limits = None if self.limits is None else asdict(self.limits)
        settings = [
            _CODE,
            VERSIONS[0],
            self.quantity,
            self.n_los,
            asdict(self.box),
            fixed,
            limits,
            varied,
        ]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def config(self) -> dict[str, Any]:
        """JSON values from which `from_config` makes the same simulator."""
        fixed = {k: v for k, v in self.fixed.items() if math.isfinite(v)}
        return {
            "quantity": self.quantity, "n": self.n, "box_size": self.box_size,
            "priors": {p["name"]: p["prior"] for p in self.parameters.to_dict()},
            "fixed": fixed, "n_los": self.n_los, "refinement": self.box.refinement,
            "spin_temperature": self.box.spin_temperature,
            "recombinations": self.box.recombinations,
            "limits": None if self.limits is None else asdict(self.limits),
        }  # fmt: skip

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `config`."""
        priors = {name: from_dict(p) for name, p in values["priors"].items()}
        limits = values["limits"] and Limits(**values["limits"])
        given = {**values, "priors": priors, "limits": limits}
        return cls(parameters=list(priors), **given)

    def like(self, quantity: Quantity) -> Self:
        """The same universes as another quantity."""
        return type(self).from_config(self.config() | {"quantity": quantity})

    def training_simulator(self) -> Self:
        """What an emulator is fitted to: all planes of a cube for a plane, else the same."""
        return self.like("slices") if self.quantity == "slice" else self

    def redshifts(self, theta: Tensor) -> Tensor:
        """Redshift of every cell along the line of sight of light cones, float64, (B, n_los)."""
        assert self.n_los is not None  # noqa: S101  (checked with the settings)
        rows = np.asarray(theta, dtype=np.float64)
        omega_m = np.full(len(rows), self.fixed["Omega_m"])
        if "Omega_m" in self.parameters.names:
            omega_m = rows[:, self.parameters.names.index("Omega_m")]
        cell = self.box_size / self.n
        first = self.fixed["redshift"]
        return torch.from_numpy(cell_redshifts(omega_m, first, cell, self.n_los))

    def position(self, theta: Tensor) -> Tensor:
        """ln(1 + z) of the same cells, -1 at the first and 1 at the last of the fiducial cone."""
        fiducial = cell_redshifts(
            np.array([FIDUCIAL["Omega_m"]]), self.fixed["redshift"], self.box_size / self.n,
            self.n_los or 0,
        )[0]  # fmt: skip
        low, high = np.log1p(fiducial[[0, -1]])
        return (2 * (torch.log1p(self.redshifts(theta)) - low) / (high - low) - 1).float()

    def simulate(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Run one universe per row.

        Args:
            theta: float64, (B, P).
            seeds: int64, (B,).

        Returns:
            Brightness temperature in mK, float32, (B, *output.shape): bit-equal whatever the
            batch. A slice is the first plane of the cube of the same seed.

        Raises:
            ConfigError: if 21cmFAST is missing or of another version.
            ParameterError: for theta outside the priors.
            ShapeError: if there is not one seed per row.
            RejectedSimulation: for a light cone that contradicts the limits.
        """
        rows = self.parameters.check(theta).tolist()
        seeds = check_seeds(seeds, len(rows))
        backend()
        names = self.parameters.names
        out = torch.empty((len(rows), *self.output.shape), dtype=torch.float32)
        for i, (row, seed) in enumerate(zip(rows, _short(seeds), strict=True)):
            values = {**self.fixed, **dict(zip(names, row, strict=True))}
            out[i] = torch.from_numpy(self._run(values, seed))
        return out

    def _run(self, values: Mapping[str, float], seed: int) -> np.ndarray:
        z = values["redshift"]
        if self.quantity == "lightcone":
            assert self.n_los is not None  # noqa: S101  (checked with the settings)
            return lightcone(self.box, values, z, self.n_los, seed, self.limits)
        cube = coeval(self.box, values, z, seed)
        if self.quantity == "slice":
            return cube[0]
        return cube if self.quantity == "cube" else planes(cube)


def planes(cube: np.ndarray) -> np.ndarray:
    """Planes across every axis of a cube (n, n, n), 8 cells apart: (3 n / 8, n, n)."""
    return np.concatenate([np.moveaxis(cube, axis, 0)[::_STRIDE] for axis in range(3)])


def _short(seeds: Tensor) -> list[int]:
    """21cmFAST's seeds: 31 bits, never 0."""
    return [1 + int(s) % (2**31 - 2) for s in mix(seeds, _SALT)]
