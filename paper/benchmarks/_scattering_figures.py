"""Figures of one run of the benchmark of the sky-map emulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _scattering import Run, Sizes, System, chi2_sources

from emulators.survey.maps import figures as draw
from emulators.survey.maps.covariance import compressed_chi2, rival_covariances, truth_matrix
from emulators.survey.maps.statistics import measure, split_sets
from sbitools.statistics import projected_spectrum, sample_covariance

__all__ = ["save"]


def save(folder: Path, system: System, run: Run, sizes: Sizes) -> list[Path]:
    """Draw everything for one emulator into `folder`."""
    reference, basis = system.reference, system.basis
    unit = system.simulator.output.unit
    shown = {"input": run.inputs, "emulation": run.emulated}
    several = {
        name: [measure(part, reference.transform) for part in split_sets(maps, sizes.size)]
        for name, maps in {
            "emulator": run.emulated,
            "start": run.starts,
            "Gaussian": system.gaussian_maps,
        }.items()
    }
    sets = {"reference": reference.sets, **several}
    bands = run.found["bands"]
    deviations = {n: {s: bands[n][f"{s} deviation"] for s in ("EE", "BB")} for n in bands}
    truth = truth_matrix(reference.truth)
    rivals = rival_covariances(run.inputs, reference.truth)
    taper = next(name for name in rivals if "taper" in name)
    matrices = {
        "reference": truth, f"emulator, {len(run.emulated)} maps": sample_covariance(run.emulated),
        f"inputs, {len(run.inputs)} maps": rivals["sample"], taper: rivals[taper],
    }  # fmt: skip
    maps = reference.maps[: sizes.emulated]
    chi2 = {
        name: compressed_chi2(maps, basis, source, known).values
        for name, (source, known) in chi2_sources(system, run, sizes).items()
    }
    figures = {
        "maps": draw.map_figure(shown, unit),
        "close_ups_Q": draw.close_ups(shown),
        "close_ups_U": draw.close_ups(shown, 1),
        "spectra": draw.spectra_figure(deviations, len(run.inputs)),
        "covariance": draw.correlation_figure(matrices, max(1, len(truth) // 512)),
        "eigenvalues": draw.eigenvalue_figure(
            {n: np.maximum(projected_spectrum(m, basis), 1e-30) for n, m in matrices.items()}
        ),
        "chi2": draw.chi2_figure(chi2),
        "pdf": draw.pdf_figure(sets),
        "minkowski": draw.minkowski_figure(sets, "reference"),
        "scattering": draw.scattering_figure(sets, "reference"),
    }
    return draw.save_figures(folder, figures)
