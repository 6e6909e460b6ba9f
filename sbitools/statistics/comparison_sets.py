"""All statistics of a comparison at equal theta, and which of them can be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .by_axes import BLANK, AxesPlan, ByAxes
from .equal_theta import EqualTheta
from .theta_fit import ThetaFit

if TYPE_CHECKING:
    from sbitools.simulator import FieldSpec

__all__ = ["Measured"]


@dataclass
class Measured:
    """Statistics of the reference and two emulated sets, and how they are compared.

    Args:
        spec: of the fields.
        plan: how they are cut.
        measure: what was measured.
        sets: by ``"reference"``, ``"emulator"``, ``"again"`` and statistic, (n, ...).
        fit: in theta.
        clusters: of simulations that share their randomness.
        seed: of random halves.
    """

    spec: FieldSpec
    plan: AxesPlan
    measure: ByAxes
    sets: dict[str, dict[str, np.ndarray]]
    fit: ThetaFit
    clusters: np.ndarray
    seed: int
    live: np.ndarray = field(init=False)
    compared: dict[str, EqualTheta] = field(init=False)
    constant: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.constant, blank = {}, np.zeros((len(self.clusters), 1), dtype=bool)
        if self.plan.kind != "vector":
            limit = math.log(BLANK)
            found = {s: self.sets[s]["variance"] <= limit for s in ("emulator", "reference")}
            blank = found["reference"]
            if any(b.any() for b in found.values()):
                self.constant = {name: float(b.mean()) for name, b in found.items()}
        # Where the reference has no structure there is no spectrum to compare.
        self.live = np.flatnonzero(blank.mean(0) < 0.5)
        self.compared = {}
        structured = ~np.asarray(blank[:, self.live].any(axis=1))
        for name in self.sets["reference"]:
            one = self._one(name, structured)
            if one is not None:
                self.compared[name] = one

    def _one(self, name: str, structured: np.ndarray) -> EqualTheta | None:
        x, y, z = (self.sets[s][name] for s in ("reference", "emulator", "again"))
        fit, clusters = self.fit, self.clusters
        if name in ("power", "variance", "scattering", "cross") and len(structured):
            if not structured.all() and structured.sum() >= 8:
                x, y, z, clusters = (v[structured] for v in (x, y, z, clusters))
                fit = fit.of(structured)
            if structured.sum() < 8 or not len(self.live):
                return None
            x, y, z = (v[:, self.kept(name)] for v in (x, y, z))
            if not x.shape[1]:
                return None
        return EqualTheta(x, y, z, fit, clusters, self.seed, in_scatter=name == "entries")

    def kept(self, name: str) -> np.ndarray:
        """Channels, or pairs, with structure."""
        if name == "cross":
            both = [set(p) <= set(self.live.tolist()) for p in self.plan.pairs]
            return np.flatnonzero(both)
        return self.live[self.live < self.sets["reference"][name].shape[1]]

    @property
    def channel_names(self) -> list[str]:
        """What the measured channels are called; "" for a single one."""
        axes = [i for i in range(len(self.spec.dims)) if i not in self.plan.space]
        axes = [i for i in axes if self.spec.shape[i] > 1]
        shape = tuple(self.spec.shape[i] for i in axes)
        parts = ("real", "imaginary") if self.spec.dtype == "complex64" else ("",)
        names = []
        for number in self.plan.channels:
            part, rest = divmod(int(number), math.prod(shape))
            place = np.unravel_index(rest, shape) if shape else ()
            words = [f"{self.spec.dims[i]} {at}" for i, at in zip(axes, place, strict=True)]
            names.append(", ".join([*words, *([parts[part]] if parts[part] else [])]))
        return names
