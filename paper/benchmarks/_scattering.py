"""Systems and runs of the benchmark of the sky-map emulator: what is simulated and measured."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import torch

from emulators.survey.emulator import ScatteringEmulator
from emulators.survey.instrument.sky import regrade, sky_map
from emulators.survey.maps.assessment import Assessment, Reference, assess
from emulators.survey.maps.covariance import (
    compressed_chi2,
    gaussian_maps,
    isotropic_maps,
    leading_modes,
    rival_errors,
    truth_matrix,
)
from emulators.survey.maps.spectra import band_deviation, band_shares, controlled_spectra
from emulators.survey.simulator import TodSimulator
from sbitools import SimulationStore
from sbitools.seeds import derive, simulation_seeds
from sbitools.statistics import Eigenbasis, SampledTruth, angular_power, projected_spectrum

__all__ = [
    "FULL",
    "QUICK",
    "SYSTEMS",
    "Run",
    "Sizes",
    "System",
    "chi2_sources",
    "prepare",
    "run",
    "say",
]

SYSTEMS = ("linear", "dipole")
SEED = 2503_11643
_TINY = 1e-6  # days: gains of neighbouring rings are independent


@dataclass(frozen=True)
class Sizes:
    """How many of everything.

    Attributes:
        nside: of the maps.
        rings: in the year, of the linear system; the other one has half as many.
        size: maps in a set.
        reference: sets of reference maps.
        truth: further reference maps of the non-linear system, for its covariance.
        emulated: maps per input set that is looked at closely.
        paired: maps per other input set, for its spectra.
        starts: Gaussian starts per input map beyond these, at least ten sets' worth of 40.
        modes: of the chi squared.
    """

    nside: int
    rings: int
    size: int
    reference: int
    truth: int
    emulated: int
    paired: int
    starts: int
    modes: int


FULL = Sizes(16, 1024, 200, 10, 2000, 400, 32, 20, 50)
QUICK = Sizes(8, 256, 24, 6, 200, 48, 8, 2, 10)


@dataclass(frozen=True, eq=False)
class System:
    """A simulator, its reference maps and what they are measured to be.

    Attributes:
        name: ``"linear"`` or ``"dipole"``.
        simulator: at its fiducial theta; nothing varies.
        reference: measured.
        floors: the reference against itself.
        gaussian: Gaussian maps with the exact covariance against the reference.
        gaussian_maps: these.
        basis: leading modes of the covariance.
        seconds: CPU seconds per map of the time-ordered path.
    """

    name: str
    simulator: TodSimulator
    reference: Reference
    floors: list[Assessment]
    gaussian: Assessment
    gaussian_maps: np.ndarray
    basis: Eigenbasis
    seconds: float


@dataclass(frozen=True, eq=False)
class Run:
    """An emulator that was fitted to one set of inputs, and what came of it.

    Attributes:
        found: numbers for the table, plain values.
        inputs: maps that it was fitted to.
        emulated: its maps.
        starts: the same draws before optimisation.
    """

    found: dict[str, Any]
    inputs: np.ndarray
    emulated: np.ndarray
    starts: np.ndarray


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def simulator(name: str, sizes: Sizes, wmap: Path | None, method: Any = "auto") -> TodSimulator:
    """The reference of one system, without parameters."""
    foregrounds = None
    if wmap is not None:  # NASA's W band maps are in mK, nested
        iqu = np.asarray(healpy.read_map(wmap, field=(0, 1, 2), nest=True))
        foregrounds = regrade(iqu, sizes.nside, ordering="nested", unit="mK")
    sky = sky_map(sizes.nside, 0, foregrounds=foregrounds)
    if name == "linear":
        return TodSimulator(
            sizes.nside, parameters=[], fixed={"gain_rms": 1e-4, "correlation_time": _TINY},
            n_rings=sizes.rings, samples=sizes.rings // 2, sky=sky, method=method,
        )  # fmt: skip
    return TodSimulator(sizes.nside, calibration="dipole", parameters=[], sky=sky, method=method)


def draw(make: Callable[..., torch.Tensor], n: int, seed: int) -> np.ndarray:
    """Maps (n, 2, n_pixels) of a simulator or emulator without parameters."""
    theta = torch.zeros(n, 0, dtype=torch.float64)
    return make(theta, torch.from_numpy(simulation_seeds(seed, range(n)))).numpy()


def prepare(name: str, sizes: Sizes, wmap: Path | None) -> System:
    """Simulate and measure the reference."""
    chosen, key = simulator(name, sizes, wmap), SYSTEMS.index(name)
    say(f"{name}: reference maps")
    maps = draw(chosen.simulate, sizes.reference * sizes.size, derive(SEED, key, 0))
    truth: Any
    if name == "linear":
        truth = chosen.response().covariance(chosen.fixed["gain_rms"] ** 2)
        gaussian = draw(chosen.simulate, sizes.emulated, derive(SEED, key, 1))  # is Gaussian
    else:
        others = draw(chosen.simulate, sizes.truth, derive(SEED, key, 1))
        truth = SampledTruth.of(others)
        gaussian = gaussian_maps(others, sizes.emulated, derive(SEED, key, 2))
    reference = Reference.of(maps, truth, sizes.size)
    say(f"{name}: noise floor and Gaussian rival")
    floors = reference.floors(sizes.emulated // sizes.size)
    ordered = simulator(name, sizes, wmap, "tod")
    draw(ordered.simulate, 1, 0)  # makes the pointing
    _, seconds = _timed(lambda: draw(ordered.simulate, 10, derive(SEED, key, 3)))
    return System(
        name, chosen, reference, floors, assess(gaussian, reference), gaussian,
        leading_modes(truth_matrix(truth), sizes.modes), seconds / 10,
    )  # fmt: skip


def run(system: System, n_inputs: int, index: int, sizes: Sizes, close: bool) -> Run:
    """Fit an emulator to a set of inputs and measure it.

    Args:
        system: see `prepare`.
        n_inputs: maps to fit to.
        index: of the set.
        sizes: how many maps to make.
        close: whether all statistics are measured, or the spectra alone.
    """
    key = (SYSTEMS.index(system.name), 4, n_inputs, index)
    seed, simulator = derive(SEED, *key), system.simulator
    inputs = draw(simulator.simulate, n_inputs, seed)
    emulator = ScatteringEmulator.of(simulator)
    with tempfile.TemporaryDirectory() as folder:
        theta = torch.zeros(n_inputs, 0, dtype=torch.float64)
        store = SimulationStore.from_arrays(
            Path(folder) / "store", theta, torch.from_numpy(inputs), simulator.parameters,
            simulator.output, seeds=torch.from_numpy(simulation_seeds(seed, range(n_inputs))),
        )  # fmt: skip
        _, fitted = _timed(lambda: emulator.fit(store, run_dir=Path(folder) / "fit"))
    n = sizes.emulated if close else sizes.paired
    emulated, seconds = _timed(lambda: draw(emulator.simulate, n, derive(seed, 1)))
    starts = draw(emulator.start_maps, n, derive(seed, 1))
    more = draw(emulator.start_maps, max(400, sizes.starts * n_inputs), derive(seed, 2))
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M"), "fit_seconds": fitted,
        "seconds_per_map": seconds / n, "maps": n,
        "bands": _bands(system.reference, inputs, emulated, starts, more),
    }  # fmt: skip
    if close:
        amortised = emulator.making("generated")
        generated, cost = _timed(lambda: draw(amortised.simulate, n, derive(seed, 1)))
        found["emulator"] = assess(emulated, system.reference).to_dict()
        found["generated"] = assess(generated, system.reference).to_dict()
        found["generated_seconds"] = cost / n
        found["start"] = assess(starts, system.reference, more).to_dict()
        found["rivals"] = rival_errors(inputs, system.reference.truth)
        found["chi2"] = _chi2(system, Run(found, inputs, emulated, starts), sizes)
    return Run(found, inputs, emulated, starts)


def _bands(
    reference: Reference, inputs: np.ndarray, emulated: np.ndarray, starts: np.ndarray,
    more: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    """Deviations of the mean spectra in units of the band, and the shares within it."""
    every = angular_power(np.concatenate([starts, more]), ordering="nested")
    of_inputs = angular_power(inputs, ordering="nested")
    means = {
        "emulator": controlled_spectra(emulated, starts, more),
        "start": {s: every[s].mean(0) for s in ("EE", "BB")},
        "inputs": {s: of_inputs[s].mean(0) for s in ("EE", "BB")},
    }
    out: dict[str, Any] = {}
    for name, spectra in means.items():
        out[name] = {}
        for s, mean in spectra.items():
            deviation = band_deviation(mean, reference.spectra[s], len(inputs))
            out[name][s] = band_shares(deviation)
            out[name][f"{s} deviation"] = deviation.tolist()
    return out


def chi2_sources(system: System, run: Run, sizes: Sizes) -> dict[str, tuple[np.ndarray, bool]]:
    """What the covariances of the chi squared are made of, and whether that is the exact one."""
    truth = system.reference.truth
    exact = not isinstance(truth, SampledTruth)
    spectra = angular_power(run.inputs, ordering="nested")
    isotropic = isotropic_maps(
        spectra["EE"].mean(0), spectra["BB"].mean(0), sizes.nside, sizes.emulated, SEED
    )
    return {
        "reference": (truth if exact else truth.rows, exact), "inputs": (run.inputs, False),
        "emulator": (run.emulated, False), "isotropic Gaussian": (isotropic, False),
    }  # fmt: skip


def _chi2(system: System, run: Run, sizes: Sizes) -> dict[str, Any]:
    """Reduced chi squared of reference maps, and variances along the modes over the true ones."""
    maps, basis, out = system.reference.maps[: sizes.emulated], system.basis, {}
    for name, (source, exact) in chi2_sources(system, run, sizes).items():
        chi2 = compressed_chi2(maps, basis, source, exact)
        rows = source if exact else source.reshape(len(source), -1) @ basis.vectors
        variance = projected_spectrum(source, basis) if exact else rows.var(0, ddof=1)
        out[name] = {
            "mean": float(chi2.values.mean()), "std": float(chi2.values.std(ddof=1)),
            "rank": chi2.rank, "inverse": chi2.inverse,
            "variance_ratio": (variance / basis.values).tolist(),
        }  # fmt: skip
    return out


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and CPU seconds, which others on the machine do not change much."""
    begun = time.process_time()
    return work(), time.process_time() - begun
