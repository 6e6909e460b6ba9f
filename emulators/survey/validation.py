"""The emulator against held-out simulations, for the report.

Many maps of one theta are compared by `assessment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sbitools.errors import StoreError
from sbitools.seeds import mix
from sbitools.statistics import angular_power

from .maps.projection import equal_area
from .maps.statistics import (
    PDF_EDGES,
    SetStatistics,
    distances,
    measure,
    split_sets,
)

if TYPE_CHECKING:
    from sbitools.simulator import Simulator
    from sbitools.store import SimulationStore

    from .emulator import ScatteringEmulator

__all__ = ["compare"]

_FLOOR = "reference, other seeds"
_START = "start, no scattering"


def compare(
    emulator: ScatteringEmulator,
    reference: Simulator,
    store: SimulationStore,
    *,
    n_maps: int | None = 256,
) -> dict[str, Any]:
    """Emulations at the theta of held-out simulations, for the report.

    Theta may differ from map to map: spectra are compared at equal theta by the mean of the
    logarithm of their ratio, and pixels after every map is divided by its own rms. The noise
    floor is the reference at the same theta and other seeds.

    Args:
        emulator: fitted.
        reference: the simulator that made the store.
        store: maps that the emulator was not fitted to.
        n_maps: use the first so many; None uses all.

    Returns:
        Nested plain values, named as `sbitools.report.emulator_figures` draws them:

        - ``"k"``: multipoles from 2, (n_l,), and ``"k_label"``.
        - ``"curves"``: ``{"EE over reference", "BB over reference"}``, each ``{name: (n_l,)}``
          for the emulator and its start without scattering; ``"noise_floor"`` around 1.
        - ``"pdf"``: of standardised pixels.
        - ``"errors"``: rms of ln C_l, distances of pixels, Minkowski functionals and scattering
          coefficients, excess kurtosis and spread of coefficients, by name.
        - ``"fields"``: Q of one theta in an equal-area projection, in uK; ``"fields_label"``.
        - ``"labels"``: a sentence for what is drawn; ``"n"``: number of maps.

    Raises:
        StoreError: for fewer than 8 finished simulations, or others than the emulator's.
    """
    rows = store.done[:n_maps]
    if len(rows) < 8 or store.output != emulator.output:
        raise StoreError(
            f"store {store.path}",
            expected=f"8 or more finished simulations of {emulator.output.shape}",
            got=f"{len(rows)} of {store.output.shape}", fix="simulate more with the reference",
        )  # fmt: skip
    theta, seeds = store.theta[rows], store.seeds[rows]
    truth = store.read(rows).numpy()
    others = {
        "emulator": _simulate(emulator.simulate, theta, mix(seeds, 1)),
        _START: _simulate(emulator.start_maps, theta, mix(seeds, 1)),
        _FLOOR: _simulate(reference.simulate, theta, mix(seeds, 2)),
    }
    ratios = _spectral_ratios(truth, others)
    scaled = {name: _unit_rms(maps) for name, maps in others.items()}
    errors, values = _errors(_unit_rms(truth), scaled)
    names = ("EE", "BB")
    errors = {
        **{f"ln C_l, {s}": {n: _rms(np.log(ratios[n][s])) for n in others} for s in names},
        **errors,
    }
    centres = (PDF_EDGES[1:] + PDF_EDGES[:-1]) / 2
    coarse, x = _coarse(centres)
    curves = {name: v[coarse].mean(1) / np.diff(PDF_EDGES)[0] for name, v in values.items()}
    floor = curves.pop(_FLOOR)
    return {
        "k": np.arange(2, ratios["emulator"]["EE"].size + 2), "k_label": "multipole l",
        "curves": {
            f"{s} over reference": {n: ratios[n][s] for n in ("emulator", _START)} for s in names
        },
        "noise_floor": {f"{s} over reference": np.abs(ratios[_FLOOR][s] - 1) for s in names},
        "pdf": {
            "x": x, "x_label": "standardised pixel", "curves": curves,
            "noise_floor": np.abs(floor - curves["reference"]),
        },
        "errors": errors,
        "fields": {  # longitude first
            name: equal_area(maps[0, 0]).T for name, maps in {"reference": truth, **others}.items()
        },
        "fields_caption": "The same parameters in every panel, each from noise of its own: the "
        "structure should look alike, no feature is expected at the same place.",
        "fields_label": f"Q in {store.output.unit}; longitude, sin(latitude)",
        "labels": _LABELS, "n": len(rows),
    }  # fmt: skip


_LABELS = {
    "EE over reference": "Spectrum EE over that of the reference at the same theta.",
    "BB over reference": "The same for BB.",
    "noise_floor": "The reference against itself with other seeds.",
    "pdf": "Pixels, every map divided by its rms and every pixel standardised.",
    "ln C_l, EE": "ln C_l: rms over multipoles of the mean logarithm of the ratio.",
    "pixels": "Pixels: Wasserstein distance in standard deviations.",
    "Minkowski": "Minkowski functionals and scattering coefficients: rms shift of the mean in "
    "units of the standard deviation between maps.",
    "excess kurtosis": "Excess kurtosis of pixels minus that of the reference.",
    "spread": "Spread: standard deviation of coefficients between maps over the reference's.",
}


def _simulate(function: Any, theta: Tensor, seeds: Tensor) -> np.ndarray:
    return function(theta, seeds).numpy()


def _spectral_ratios(
    truth: np.ndarray, others: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """exp <ln C_l - ln C_l of the reference> from l = 2 on."""
    expected = angular_power(truth, ordering="nested")
    out = {}
    for name, maps in others.items():
        found = angular_power(maps, ordering="nested")
        out[name] = {
            s: np.exp(np.log(found[s][:, 2:] / expected[s][:, 2:]).mean(0)) for s in ("EE", "BB")
        }
    return out


def _errors(
    truth: np.ndarray, others: dict[str, np.ndarray]
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """Distances by quantity and name, and histograms by name."""
    size = len(truth) // 2
    sets = {n: _measured(maps, size) for n, maps in {"reference": truth, **others}.items()}
    found = {name: distances(sets[name], sets["reference"]) for name in others}
    errors = {
        "pixels": {n: d.pdf for n, d in found.items()},
        "Minkowski": {n: d.minkowski_rms for n, d in found.items()},
        "scattering": {n: d.scattering for n, d in found.items()},
        "excess kurtosis": {n: d.excess for n, d in found.items()},
        "spread": {n: d.spread for n, d in found.items()},
    }
    return errors, {n: np.mean([s.values for s in v], axis=0) for n, v in sets.items()}


def _measured(maps: np.ndarray, size: int) -> Sequence[SetStatistics]:
    return [measure(part) for part in split_sets(maps, size)]


def _unit_rms(maps: np.ndarray) -> np.ndarray:
    return maps / np.sqrt((maps.astype(np.float64) ** 2).mean((1, 2), keepdims=True))


def _coarse(centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of ten bins each between -6 and 6, and their centres."""
    inside = np.flatnonzero(np.abs(centres) < 6).reshape(-1, 10)
    return inside, centres[inside].mean(1)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
