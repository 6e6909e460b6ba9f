"""The emulator against held-out reference simulations, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import StoreError
from sbitools.seeds import mix
from sbitools.statistics import cylindrical_power, wasserstein

from .statistics import Statistics, distances, measure

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

    from .emulator import ReionizationEmulator

__all__ = ["compare", "cylindrical", "cylindrical_distance"]

_STRETCH = 32  # cells along the line of sight that are taken for one epoch
_PDF_EDGES = np.linspace(0.5, 60.5, 31)  # mK, above the spike of ionised cells


def compare(
    emulator: ReionizationEmulator, store: SimulationStore, *, n_fields: int | None = 64
) -> dict[str, Any]:
    """Emulated fields at the parameters of held-out simulations.

    Each has other parameters: spectra are compared at equal ones, by the mean of the logarithm of
    their ratio. Of light cones, planes across the line of sight are compared, eight cells apart,
    and cylindrical spectra. The noise floor is the reference against itself: planes across another
    axis of the same cubes, planes of a cone four cells farther. That leaves out the variance from
    cube to cube, and is therefore too strict. For cubes there is none.

    Args:
        emulator: fitted.
        store: simulations of `training_simulator` that it was not fitted to.
        n_fields: use the first so many; None uses all.

    Returns:
        Nested plain values, named as `sbitools.report.emulator_figures` draws them.

    Raises:
        StoreError: for fewer than 4 finished simulations, or others than the emulator's.
    """
    rows = store.done[:n_fields]
    if len(rows) < 4 or not emulator.accepts(store):
        raise StoreError(
            f"store {store.path}", expected="4 or more simulations of the training simulator",
            got=f"{len(rows)} of {store.output.shape}", fix="simulate more of them",
        )  # fmt: skip
    box_size = emulator.simulator.box_size
    theta, x = store.theta[rows], store.read(rows)
    first, second = _halves(x, store.output.dims)
    whole = [emulator.simulate(theta, mix(store.seeds[rows], salt)) for salt in (1, 2)]
    drawn = [_halves(fields, emulator.output.dims)[0] for fields in whole]
    sets = {
        "reference": measure(first, box_size), "emulator": measure(drawn[0], box_size),
        "reference, other planes": measure(second, box_size),
    }  # fmt: skip
    ratios = {name: _ratio(s, sets["reference"]) for name, s in sets.items()}
    floor = ratios.pop("reference, other planes")
    ratios.pop("reference")
    return {
        "k": sets["reference"].k, "k_label": "k [1/Mpc]",
        "curves": {"power over reference": ratios},
        "noise_floor": {"power over reference": np.abs(floor - 1)},
        "pdf": _densities(first, second, drawn[0]),
        "errors": _errors(sets, first, second, drawn[0]) | cylindrical(emulator, x, whole[0]),
        "fields": _fields(first, drawn),
        "fields_label": "brightness temperature [mK]",
        "fields_caption": "The same parameters in every panel, of a held-out simulation; the "
        "reference and two emulated fields of different seeds: another sky each.",
        "labels": _LABELS, "n": len(rows),
    }  # fmt: skip


_LABELS = {
    "power over reference": "Power spectrum over that of the reference at the same parameters.",
    "noise_floor": "Planes of the same reference cubes across another axis.",
    "pdf": "Brightness temperatures above 0.5 mK.",
    "mean [mK]": "Mean: rms over simulations of the difference of the mean temperature.",
    "ionised cells": "Ionised cells: rms difference of their share.",
    "ln P(k)": "ln P(k): median over simulations and wavenumbers of the absolute difference.",
    "scattering": "Scattering: median of the absolute difference of ln coefficients.",
    "values [mK]": "Values: Wasserstein distance of all cells.",
    "cylindrical P(k)": "Cylindrical P(k): median over redshifts and bins of the difference of ln "
    "P(k_perp, k_par) in the mean of simulations; of the reference: stretches half their length "
    "farther.",
}


def _halves(x: Tensor, dims: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """What is compared, and other fields of the same simulations for the floor."""
    if dims[0] == "slice":
        return x[:, 0], x[:, x.shape[1] // 3]
    if dims[-1] != "los":
        return x, torch.flip(x, (1,))
    planes = x.movedim(-1, 1)
    planes = planes[:, : planes.shape[1] // 8 * 8]
    return planes[:, ::8].flatten(0, 1), planes[:, 4::8].flatten(0, 1)


def _ratio(first: Statistics, second: Statistics) -> np.ndarray:
    shown = (first.power.min(1) > 0) & (second.power.min(1) > 0)
    return np.exp(np.log(first.power[shown] / second.power[shown]).mean(0))


def _errors(
    sets: dict[str, Statistics], first: Tensor, second: Tensor, drawn: Tensor
) -> dict[str, dict[str, float]]:
    truth, out = sets["reference"], {}
    fields = {"emulator": drawn, "reference, other planes": second}
    for name, other in fields.items():
        s, d = sets[name], distances(sets[name], truth)
        shown = (s.power.min(1) > 0) & (truth.power.min(1) > 0)
        out[name] = {
            "mean [mK]": float(np.sqrt(((s.mean - truth.mean) ** 2).mean())),
            "ionised cells": float(np.sqrt(((s.ionised - truth.ionised) ** 2).mean())),
            "ln P(k)": float(np.median(np.abs(np.log(s.power[shown] / truth.power[shown])))),
            "scattering": float(np.median(np.abs(d.scattering))),
            "values [mK]": wasserstein(other, first),
        }
    return {key: {name: out[name][key] for name in out} for key in out["emulator"]}


def cylindrical(
    emulator: ReionizationEmulator, x: Tensor, drawn: Tensor
) -> dict[str, dict[str, float]]:
    """Distance of cylindrical spectra, of light cones alone: {} for other fields."""
    if emulator.output.dims[-1] != "los":
        return {}
    cell, n_los = emulator.simulator.box_size / emulator.simulator.n, x.shape[-1]
    farther = min(_STRETCH, n_los // 2) // 2
    return {"cylindrical P(k)": {
        "emulator": cylindrical_distance(drawn, x, cell),
        "reference, other planes": cylindrical_distance(x, x, cell, farther),
    }}  # fmt: skip


def cylindrical_distance(x: Tensor, truth: Tensor, cell: float, farther: int = 0) -> float:
    """Of light cones: median over redshifts and bins of the mean over cones of ln P(k) ratios.

    Args:
        x: brightness temperature in mK, (B, n, n, n_los).
        truth: of the same parameters, as x.
        cell: side in Mpc.
        farther: cells by which stretches of `x` begin beyond those of `truth`.
    """
    n_los = x.shape[-1]
    length = min(_STRETCH, n_los // 2)
    edges = np.linspace(0, np.pi / cell, 5) + 1e-6  # without the means of planes
    cuts = length * np.arange((n_los - length // 2) // length + 1)
    found = (
        cylindrical_power(
            y, cell, edges_perp=edges, edges_par=edges, window="hann", chunks=cuts + first
        ).power
        for y, first in ((x, farther), (truth, 0))
    )
    return _apart(*found)


def _apart(power: np.ndarray, truth: np.ndarray) -> float:
    """Median over bins of the mean over simulations of ln ratios, where both have power."""
    both = (power > 0) & (truth > 0)
    ratio = np.log(power, out=np.zeros_like(power), where=both)
    ratio -= np.log(truth, out=np.zeros_like(truth), where=both)
    seen = both.sum(0)
    return float(np.median(np.abs(ratio.sum(0)[seen > 0] / seen[seen > 0])))


def _densities(first: Tensor, second: Tensor, drawn: Tensor) -> dict[str, Any]:
    sets = {"reference": first, "emulator": drawn, "floor": second}
    curves = {name: _density(x) for name, x in sets.items()}
    floor = np.abs(curves.pop("floor") - curves["reference"])
    return {
        "x": (_PDF_EDGES[1:] + _PDF_EDGES[:-1]) / 2, "x_label": "brightness temperature [mK]",
        "curves": curves, "noise_floor": floor,
    }  # fmt: skip


def _density(x: Tensor) -> np.ndarray:
    counts = np.histogram(x.numpy(), _PDF_EDGES)[0]
    return counts / (np.diff(_PDF_EDGES) * x.numel())


def _fields(first: Tensor, drawn: list[Tensor]) -> dict[str, np.ndarray]:
    """Of the simulation with the most structure."""
    row = int(first.flatten(1).std(1).argmax())
    shown = {"reference": first, "emulator, seed 1": drawn[0], "emulator, seed 2": drawn[1]}
    return {name: (x[row] if x.ndim == 3 else x[row, 0]).numpy() for name, x in shown.items()}
