"""Figures of emulated maps beside reference maps, for people to look at.

Every function draws one figure; `save_figures` writes what there is to a folder as PNG. The maps
are shown in several projections, around a pole, the equator and corners of base pixels, where
filters that are not regular leave seams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.gate.plain import as_path

from .projection import gnomonic, mollweide
from .statistics import PDF_EDGES, THRESHOLDS, SetStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = [
    "PLACES", "chi2_figure", "close_ups", "correlation_figure", "eigenvalue_figure",
    "map_figure", "minkowski_figure", "pdf_figure", "save_figures", "scattering_figure",
    "spectra_figure",
]  # fmt: skip

PLACES = {
    "north pole": (0.0, 90.0), "south pole": (0.0, -90.0), "equator": (45.0, 0.0),
    "corner of base pixels": (0.0, 41.81), "edge of base pixels": (67.5, 22.0),
}  # fmt: skip
"""Longitude and latitude in degrees; the four corners at z = 2/3 are 41.81 degrees north."""


# Colours that remain apart for colour-blind readers, as in the report.
PALETTE = ("#1f5fa8", "#c2570c", "#2f855a", "#8a4fbf", "#b7791f")
GREY = "#6b7280"


def map_figure(maps: Mapping[str, np.ndarray], unit: str, n: int = 3) -> Figure:
    """Q and U in Mollweide's projection, one column per map.

    Args:
        maps: by name, each (n_maps, 2, n_pixels).
        unit: of the maps.
        n: of each kind that are shown.
    """
    figure, axes = _canvas(2 * len(maps), n, size=(3.6 * n, 4.4 * len(maps)))
    reach = float(np.quantile(np.abs(np.concatenate([m[:n] for m in maps.values()])), 0.99))
    images = []
    for k, stokes in enumerate("QU"):
        for j, (name, several) in enumerate(maps.items()):
            for i, ax in enumerate(axes[k * len(maps) + j]):
                images.append(_image(ax, mollweide(several[i % len(several), k]), reach))
                ax.set_title(f"{stokes}, {name} {i + 1}")
    figure.colorbar(images[0], ax=axes, shrink=0.4, label=unit)
    return figure


def close_ups(maps: Mapping[str, np.ndarray], stokes: int = 0) -> Figure:
    """One map of each kind around every one of `PLACES`, Q and U with respect to its meridian.

    Args:
        maps: by name, each (n_maps, 2, n_pixels).
        stokes: 0 for Q, 1 for U.
    """
    figure, axes = _canvas(len(maps), len(PLACES), size=(2.6 * len(PLACES), 2.8 * len(maps)))
    for row, (name, several) in zip(axes, maps.items(), strict=True):
        reach = float(np.quantile(np.abs(several[0, stokes]), 0.99))
        for ax, (place, (lon, lat)) in zip(row, PLACES.items(), strict=True):
            _image(ax, gnomonic(several[0], lon, lat)[stokes], reach)
            ax.set_title(f"{place}\n{name}", fontsize=8)
    return figure


def spectra_figure(
    deviations: Mapping[str, Mapping[str, Sequence[float]]], n_inputs: int
) -> Figure:
    """(C_l - C_l of the reference) / sigma, with the band of sigma / sqrt(N).

    Args:
        deviations: by kind of maps, then ``"EE"`` and ``"BB"``: `maps.spectra.band_deviation`.
        n_inputs: N.
    """
    figure, axes = _canvas(1, 2, size=(9.5, 3.4), sharey=True)
    for ax, s in zip(axes[0], ("EE", "BB"), strict=True):
        for factor, alpha in ((2, 0.15), (1, 0.25)):
            half = factor / np.sqrt(n_inputs)
            ax.axhspan(-half, half, color=GREY, alpha=alpha, lw=0)
        for (name, found), colour in zip(deviations.items(), PALETTE, strict=False):
            values = np.asarray(found[s]) / np.sqrt(n_inputs)
            ax.plot(np.arange(2, len(values) + 2), values, label=name, color=colour)
        ax.set(xlabel="multipole", title=f"({s} − reference) / σ of one map")
    axes[0, 1].legend()
    return figure


def correlation_figure(covariances: Mapping[str, np.ndarray], step: int = 12) -> Figure:
    """Correlation matrices of every `step`-th number of a map, scaled by the first one's spread.

    Args:
        covariances: by name, (d, d), the reference first.
        step: between numbers that are shown.
    """
    figure, axes = _canvas(1, len(covariances), size=(3.2 * len(covariances), 3.3))
    spread = None
    for ax, (name, matrix) in zip(axes[0], covariances.items(), strict=True):
        part = matrix[::step, ::step]
        spread = np.sqrt(np.diag(part)) if spread is None else spread
        safe = np.where(spread > 0, spread, np.inf)
        _image(ax, (part / safe / safe[:, None])[::-1], 0.5)
        ax.set_title(name)
    return figure


def eigenvalue_figure(spectra: Mapping[str, np.ndarray]) -> Figure:
    """Variances along the reference's eigenvectors, by name, each (n_modes,)."""
    figure, axes = _canvas(size=(6.0, 3.6))
    for (name, values), colour in zip(spectra.items(), PALETTE, strict=False):
        axes[0, 0].plot(np.arange(1, len(values) + 1), values, label=name, color=colour, lw=1.2)
    axes[0, 0].set(xlabel="mode of the reference", ylabel="variance", yscale="log", xscale="log")
    axes[0, 0].legend()
    return figure


def chi2_figure(values: Mapping[str, np.ndarray]) -> Figure:
    """Histograms of the reduced chi squared of the same maps with several covariances."""
    figure, axes = _canvas(size=(6.0, 3.4))
    every = np.concatenate(list(values.values()))
    low, high = np.quantile(every[every > 0], [0.001, 0.99])
    bins = np.geomspace(low, high, 60)
    for (name, found), colour in zip(values.items(), PALETTE, strict=False):
        axes[0, 0].hist(found, bins, histtype="step", label=name, color=colour)
    axes[0, 0].axvline(1, color=GREY, lw=0.8)
    axes[0, 0].set(xscale="log", xlabel="reduced chi squared", ylabel="maps")
    axes[0, 0].legend()
    return figure


def pdf_figure(sets: Mapping[str, Sequence[SetStatistics]]) -> Figure:
    """Distribution of standardised pixels, by name."""
    figure, axes = _canvas(size=(6.0, 3.6))
    ten = np.add.reduceat
    starts = np.arange(0, len(PDF_EDGES) - 1, 10)
    for (name, several), colour in zip(sets.items(), PALETTE, strict=False):
        values = ten(np.mean([s.values for s in several], axis=0), starts)
        centre = (PDF_EDGES[starts] + PDF_EDGES[starts + 10]) / 2
        seen = values > 0
        density = values[seen] / (PDF_EDGES[10] - PDF_EDGES[0])
        axes[0, 0].plot(centre[seen], density, label=name, color=colour)
    axes[0, 0].set(yscale="log", xlim=(-8, 8), xlabel="standardised pixel", ylabel="density")
    axes[0, 0].legend()
    return figure


def minkowski_figure(sets: Mapping[str, Sequence[SetStatistics]], reference: str) -> Figure:
    """V0, V1, V2 of Q and U minus the reference's, in units of its scatter between maps."""
    figure, axes = _canvas(2, 3, size=(10.0, 5.0), sharex=True)
    expected = np.concatenate([s.minkowski for s in sets[reference]])
    mean, sigma = expected.mean(0), expected.std(0, ddof=1)
    safe = np.where(sigma > 0, sigma, np.inf)
    for (name, several), colour in zip(sets.items(), PALETTE, strict=False):
        shift = (np.concatenate([s.minkowski for s in several]).mean(0) - mean) / safe
        for k in range(3):
            for f, stokes in enumerate("QU"):
                axes[f, k].plot(THRESHOLDS, shift[k, f], label=name, color=colour)
                axes[f, k].set_title(f"(V{k} − reference) / σ, {stokes}")
    for ax in axes[1]:
        ax.set_xlabel("threshold")
    axes[0, 2].legend()
    return figure


def scattering_figure(sets: Mapping[str, Sequence[SetStatistics]], reference: str) -> Figure:
    """Histogram of the shifts of scattering coefficients in units of the reference's scatter."""
    figure, axes = _canvas(size=(6.0, 3.4))
    expected = np.concatenate([s.scattering for s in sets[reference]])
    mean, sigma = expected.mean(0), expected.std(0, ddof=1)
    keep = sigma > 1e-5 * np.abs(expected).mean()
    for (name, several), colour in zip(sets.items(), PALETTE, strict=False):
        if name != reference:
            shift = np.concatenate([s.scattering for s in several]).mean(0) - mean
            axes[0, 0].hist(
                np.clip(shift[keep] / sigma[keep], -0.8, 0.8), np.linspace(-0.8, 0.8, 81),
                histtype="step", label=name, color=colour,
            )  # fmt: skip
    axes[0, 0].set(xlabel="shift of the mean / σ of one map", ylabel="coefficients", yscale="log")
    axes[0, 0].legend()
    return figure


def save_figures(folder: str | Path, figures: Mapping[str, Figure]) -> list[Path]:
    """Write every figure as ``NAME.png``; the folder is made."""
    folder = as_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for name, figure in figures.items():
        out.append(folder / f"{name}.png")
        figure.savefig(out[-1])
    return out


def _canvas(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.0, 3.5), **options: Any
) -> tuple[Figure, Any]:
    """A figure and its axes (rows, columns), without matplotlib's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", dpi=110)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _image(ax: Axes, picture: np.ndarray, reach: float) -> AxesImage:
    shown = ax.imshow(
        picture, origin="lower", cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest"
    )
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return shown
