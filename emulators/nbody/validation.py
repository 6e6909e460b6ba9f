"""The emulator against held-out particle-mesh simulations of the same initial conditions."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from emulators.methods.displacement.painting import density_contrast
from sbitools.errors import StoreError
from sbitools.gate.plain import whole
from sbitools.statistics import cross_correlation, pdf, power_spectrum

from .simulator import NBodySimulator

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

    from .emulator import NBodyEmulator

__all__ = ["RIVALS", "compare"]

RIVALS = ("ZA", "2LPT", "PM, 3 steps")
"""What the emulator has to beat; the last one costs as much as the emulator does."""

_REFERENCE, _EMULATOR, _FLOOR = "reference", "emulator", "PM, twice the steps"
_PDF_EDGES = np.linspace(-0.1, 1.6, 35)  # in log10(2 + density contrast): voids are at 0 to 0.3


def compare(
    emulator: NBodyEmulator,
    store: SimulationStore,
    *,
    steps: int = 16,
    mesh_factor: int | None = None,
    n_boxes: int | None = None,
) -> dict[str, Any]:
    """Statistics of emulator, Zel'dovich, 2LPT and a coarse PM against the reference.

    All run from the same seeds, so differences are free of sample variance. The noise floor is
    the reference against itself with twice as many time steps.

    Args:
        emulator: fitted.
        store: particles of cosmologies and seeds it was not fitted to, made with seeds (not
            imported), so that the rivals start from the same universe.
        steps: of the simulator that made the store.
        mesh_factor: of that simulator; the emulator's if None.
        n_boxes: use the first so many; None uses all.

    Returns:
        Nested plain values:

        - ``"k"``: wavenumbers in h/Mpc, (n_bins,), and ``"k_label"``.
        - ``"curves"``: ``{"power", "transfer", "correlation"}``, each ``{name: (n_bins,)}``, the
          mean over boxes; names are reference (of the power only), emulator and the rivals.
        - ``"scatter"``: the same for the standard deviation between boxes.
        - ``"noise_floor"``: ``{"power", "transfer", "correlation"}``: (n_bins,), half width of
          the band within which nothing can be told from the reference: relative for the power,
          absolute around 1 for the other two. All are what twice the time steps change.
        - ``"pdf"``: ``{"x": (n_bins,), "x_label", "curves": {name: (n_bins,)}, "noise_floor"}``.
        - ``"errors"``: ``{"displacement", "velocity"}``: ``{name: rms in Mpc/h}``, where the
          velocity is dx/dD.
        - ``"fields"``: one slice each, (n, n): ``{"reference", "emulator", "ZA", "difference"}``,
          log10(2 + density contrast), the difference being emulator minus reference of those;
          with ``"fields_label"``.
        - ``"labels"``: a sentence for every one of the above that is drawn.
        - ``"n"``: number of boxes; ``"k_nyquist"``: of the particles, the smallest scale that is
          resolved.

    Raises:
        StoreError: if the store has no finished simulations, or not the emulator's particles.
    """
    if n_boxes is not None:
        n_boxes = whole(n_boxes, "n_boxes", least=1)
    tally = _Tally(emulator.simulator.box_size)
    rows = store.done[:n_boxes]
    mesh_factor = mesh_factor or emulator.simulator.mesh_factor
    simulators = _simulators(emulator, steps, mesh_factor)
    if not len(rows) or store.output != simulators[_FLOOR].output:
        raise StoreError(
            f"store {store.path}",
            expected=f"finished simulations of {simulators[_FLOOR].output.shape}",
            got=f"{len(rows)} of {store.output.shape}", fix="simulate with training_simulator",
        )  # fmt: skip
    redshift = emulator.redshifts.index(emulator.simulator.redshifts[0])
    for row in rows:
        theta, seeds = store.theta[row : row + 1], store.seeds[row : row + 1]
        reference = store.read([row])[0, redshift]
        tally.add(reference, _versions(emulator, simulators, theta, seeds, redshift))
    return tally.summary() | {"k_nyquist": np.pi * emulator.simulator.n / tally.box_size}


def _simulators(
    emulator: NBodyEmulator, steps: int, mesh_factor: int
) -> dict[str, NBodySimulator]:
    def like(steps: int) -> NBodySimulator:
        return emulator.particle_simulator(steps=steps, mesh_factor=mesh_factor)

    return {_FLOOR: like(2 * steps), RIVALS[2]: like(3)}


def _versions(
    emulator: NBodyEmulator,
    simulators: dict[str, NBodySimulator],
    theta: Tensor,
    seeds: Tensor,
    redshift: int,
) -> dict[str, Tensor]:
    """Displacement and velocity (6, n, n, n) of everything that is compared."""
    with torch.no_grad():
        moved, rate = emulator.displacement(theta, emulator.latent(theta, seeds), velocity=True)
    assert rate is not None  # noqa: S101  (it was asked for)
    versions = {_EMULATOR: torch.cat([moved, rate], dim=1)[0]}
    particles = simulators[_FLOOR]
    for order, name in enumerate(RIVALS[:2], start=1):
        versions[name] = particles.perturbation_theory(theta, seeds, order)[0, redshift]
    for name, simulator in simulators.items():
        versions[name] = simulator.simulate(theta, seeds)[0][0, redshift]
    return versions


class _Tally:
    """Statistics of one box after the other."""

    def __init__(self, box_size: float) -> None:
        self.box_size = box_size
        self.k = np.empty(0)
        self.values: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        self.fields: dict[str, np.ndarray] = {}

    def add(self, reference: Tensor, versions: dict[str, Tensor]) -> None:
        """One universe: the reference and the others, (6, n, n, n) each."""
        truth = self._density(reference)
        power = self._spectra(_REFERENCE, truth)
        for name, particles in versions.items():
            density = self._density(particles)
            own = self._spectra(name, density)
            self.values["transfer"][name].append(np.sqrt(own / power))
            r = cross_correlation(density, truth, self.box_size)[1]
            self.values["correlation"][name].append(r)
            error = (particles - reference).square().flatten(1).mean(1).tolist()
            self.values["displacement"][name].append(sum(error[:3]) / 3)
            self.values["velocity"][name].append(sum(error[3:]) / 3)
            if name in (_EMULATOR, RIVALS[0]):
                self.fields.setdefault(name, _slice(density))
        self.fields.setdefault(_REFERENCE, _slice(truth))

    def _density(self, particles: Tensor) -> np.ndarray:
        return density_contrast(particles[None, :3], self.box_size)[0].numpy()

    def _spectra(self, name: str, density: np.ndarray) -> np.ndarray:
        spectrum = power_spectrum(density, self.box_size)
        self.k = spectrum.k
        self.values["power"][name].append(spectrum.power)
        self.values["pdf"][name].append(pdf(np.log10(2 + density), edges=_PDF_EDGES))
        return spectrum.power

    def summary(self) -> dict[str, Any]:
        """What `compare` returns."""
        mean = {s: {n: np.mean(v, 0) for n, v in c.items()} for s, c in self.values.items()}
        scatter = {s: {n: np.std(v, 0) for n, v in c.items()} for s, c in self.values.items()}
        shown = ("power", "transfer", "correlation")
        floor = mean["transfer"][_FLOOR]
        fields = {k: self.fields[k] for k in (_REFERENCE, _EMULATOR, RIVALS[0])}
        fields["difference"] = fields[_EMULATOR] - fields[_REFERENCE]
        return {
            "k": self.k, "k_label": "k [h/Mpc]",
            "curves": {s: _drop_floor(mean[s]) for s in shown},
            "scatter": {s: _drop_floor(scatter[s]) for s in shown},
            "noise_floor": {
                "power": np.abs(floor**2 - 1),
                "transfer": np.abs(floor - 1),
                "correlation": np.abs(mean["correlation"][_FLOOR] - 1),
            },
            "pdf": {
                "x": (_PDF_EDGES[1:] + _PDF_EDGES[:-1]) / 2, "x_label": "log10(2 + delta)",
                "curves": _drop_floor(mean["pdf"]),
                "noise_floor": np.abs(mean["pdf"][_FLOOR] - mean["pdf"][_REFERENCE]),
            },
            "errors": {
                s: {name: float(np.sqrt(v)) for name, v in mean[s].items()}
                for s in ("displacement", "velocity")
            },
            "fields": fields, "fields_label": "log10(2 + delta), one slice",
            "labels": _LABELS, "n": len(self.values["power"][_REFERENCE]),
        }  # fmt: skip


_LABELS = {
    "power": "Power spectrum P(k) in (Mpc/h)^3. The closer to the reference, the better.",
    "transfer": "Transfer function sqrt(P / P_reference): 1 if structure has the right amplitude.",
    "correlation": "Cross-correlation r(k) with the reference of the same initial conditions: 1 "
    "if structure is in the right place.",
    "pdf": "Distribution of the density in cells.",
    "noise_floor": "The reference against itself with twice as many time steps.",
    "displacement": "rms error of the particles' displacement in Mpc/h.",
    "velocity": "rms error of dx/dD in Mpc/h.",
}


def _drop_floor(curves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in curves.items() if name != _FLOOR}


def _slice(density: np.ndarray) -> np.ndarray:
    """The first two cells of the last axis, averaged; log10(2 + delta) shows voids and knots."""
    return np.log10(2 + density[:, :, :2].mean(-1))
