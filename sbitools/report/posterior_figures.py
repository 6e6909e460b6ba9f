"""Figures about the posterior: corner plots, recovery, calibration panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import EMULATED, GREY, REFERENCE, canvas, embed, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sbitools.calibration.check import Check
    from sbitools.parameters import ParameterSpace

__all__ = ["axis_bounds", "calibration_panel", "corner", "quantile_panel", "recovery_panel"]

_BINS, _SMOOTH, _LEVELS = 48, 1.3, (0.95, 0.68)


def axis_bounds(
    draws: np.ndarray, space: ParameterSpace, truth: np.ndarray | None = None
) -> np.ndarray:
    """Axes (P, 2) that hold nearly all draws (..., P) and never leave the prior's support."""
    flat = draws.reshape(-1, draws.shape[-1])
    low, high = np.quantile(flat, 0.001, axis=0), np.quantile(flat, 0.999, axis=0)
    if truth is not None:
        low, high = np.minimum(low, truth.min(0)), np.maximum(high, truth.max(0))
    margin = 0.05 * np.maximum(high - low, np.finfo(float).eps)
    # Members of joint priors keep to the bounds of their own priors, too.
    laws: list[Any] = [parameter.prior for parameter in space]
    low = np.maximum(low - margin, [law.low for law in laws])
    return np.stack([low, np.minimum(high + margin, [law.high for law in laws])], axis=1)


@styled
def corner(
    draws: np.ndarray, truth: np.ndarray | None, labels: Sequence[str], bounds: np.ndarray,
    title: str,
) -> str:  # fmt: skip
    """Marginals of one posterior in one and two dimensions.

    Args:
        draws: shape (n, P).
        truth: shape (P,); None if nobody knows it.
        labels: P of them.
        bounds: low and high of the axes, shape (P, 2), inside the prior's support: smoothing
            reflects at them, so no density leaks beyond.
        title: of the figure.
    """
    n = len(labels)
    figure, axes = canvas(n, n, size=(0.9 + 1.25 * n, 0.8 + 1.25 * n))
    figure.suptitle(title, fontsize=10)
    for row in range(n):
        for column in range(n):
            ax: Axes = axes[row, column]
            ax.grid(visible=False)
            if column > row:
                ax.axis("off")
                continue
            if column == row:
                _marginal(ax, draws[:, row], bounds[row])
            else:
                _joint(ax, draws[:, [column, row]], bounds[[column, row]])
            if truth is not None:
                _mark(ax, truth[[column, row]] if column < row else truth[[row]])
            _outer_labels(ax, row, column, n, labels)
    return embed(figure)


def _mark(ax: Axes, truth: np.ndarray) -> None:
    """The truth, in one or two dimensions."""
    ax.axvline(truth[0], color=REFERENCE, lw=1.2 if len(truth) == 1 else 0.9)
    if len(truth) > 1:
        ax.axhline(truth[1], color=REFERENCE, lw=0.9)
        ax.plot(*truth, "s", color=REFERENCE, ms=4)


def _marginal(ax: Axes, draws: np.ndarray, bounds: np.ndarray) -> None:
    from scipy.ndimage import gaussian_filter1d

    counts, edges = np.histogram(draws, bins=_BINS, range=tuple(bounds))
    density = np.pad(gaussian_filter1d(counts.astype(float), _SMOOTH, mode="reflect"), 1, "edge")
    x = _to_the_edges(edges)
    ax.plot(x, density, color=EMULATED)
    low, high = np.quantile(draws, (0.16, 0.84))
    inside = np.unique(np.clip([low, *x, high], low, high))
    ax.fill_between(inside, np.interp(inside, x, density), color=EMULATED, alpha=0.2, lw=0)
    ax.set(xlim=tuple(bounds), ylim=(0, None), yticks=[])


def _joint(ax: Axes, draws: np.ndarray, bounds: np.ndarray) -> None:
    from scipy.ndimage import gaussian_filter

    (x0, x1), (y0, y1) = bounds
    counts, x, y = np.histogram2d(draws[:, 0], draws[:, 1], bins=_BINS, range=((x0, x1), (y0, y1)))
    density = gaussian_filter(counts, _SMOOTH, mode="reflect")
    heights = contour_heights(density, _LEVELS)
    if np.all(np.diff([*heights, density.max()]) > 0):
        centres, density = (_to_the_edges(x), _to_the_edges(y)), np.pad(density, 1, "edge")
        shades = ["#c8daf0", "#6f9fd4"]
        ax.contourf(*centres, density.T, levels=[*heights, density.max() * 1.01], colors=shades)
        ax.contour(*centres, density.T, levels=heights, colors=[EMULATED], linewidths=0.9)
    else:
        ax.plot(draws[:500, 0], draws[:500, 1], ".", color=EMULATED, ms=1)
    ax.set(xlim=(x0, x1), ylim=(y0, y1))


def _to_the_edges(edges: np.ndarray) -> np.ndarray:
    """Centres of bins, and the two ends, so that curves reach a bound of the prior."""
    return np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])


def contour_heights(density: np.ndarray, levels: Sequence[float]) -> list[float]:
    """Heights whose super-level sets hold the given shares of the mass."""
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered) / max(ordered.sum(), np.finfo(float).tiny)
    last = len(ordered) - 1
    return [float(ordered[min(np.searchsorted(mass, level), last)]) for level in levels]


def _outer_labels(ax: Axes, row: int, column: int, n: int, labels: Sequence[str]) -> None:
    if row == n - 1:
        ax.set_xlabel(labels[column])
    else:
        ax.set_xticklabels([])
    if column == 0 and row > 0:
        ax.set_ylabel(labels[row])
    elif column > 0:
        ax.set_yticklabels([])
    ax.tick_params(labelsize=8)
    ax.locator_params(nbins=3)


@styled
def recovery_panel(emulated: Check, reference: Check | None, own: str = "emulated") -> str:
    """Posterior mean against truth for every parameter, `own` and reference tests."""
    labels = emulated.details["labels"]
    figure, axes = canvas(1, len(labels), size=(min(8.6, 4.3 * len(labels)), 4.0))
    for i, label in enumerate(labels):
        ax: Axes = axes[0, i]
        pairs = [(emulated, EMULATED, own), (reference, REFERENCE, "reference")]
        for check, colour, name in pairs:
            if check is None:
                continue
            truth, mean, sd = (check.details[k][:, i] for k in ("truth", "mean", "sd"))
            r2 = check.details["parameters"][i]["r2"]
            ax.errorbar(
                truth, mean, sd, fmt="o", ms=2.2, lw=0.5, color=colour, alpha=0.35,
                label=f"{name}: R² = {r2:.3f}", rasterized=True,
            )  # fmt: skip
        low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
        ax.plot([low.max(), high.min()], [low.max(), high.min()], color=GREY, lw=1, ls="--")
        ax.set(xlabel=f"true {label}", ylabel=f"posterior mean of {label}")
        _solid_legend(ax)
    return embed(figure, "png")


def _solid_legend(ax: Axes) -> None:
    legend = ax.legend(loc="upper left")
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


@styled
def calibration_panel(emulated: Check, reference: Check | None, own: str = "emulated") -> str:
    """One check with its bands, on `own` and on reference tests."""
    figure, axes = canvas(size=(4.9, 3.7))
    ax: Axes = axes[0, 0]
    emulated.plot(ax, label=own, color=EMULATED)
    if reference is not None:
        reference.plot(ax, label="reference", color=REFERENCE)
    return embed(figure)


@styled
def quantile_panel(emulated: Check, reference: Check | None, own: str = "emulated") -> str:
    """Quantiles of latents against N(0, 1), on `own` and on reference tests."""
    from sbitools.calibration.plots.kinds import latent_quantiles

    figure, axes = canvas(size=(4.9, 3.7))
    ax: Axes = axes[0, 0]
    for check, colour, name in (
        (emulated, EMULATED, own), (reference, REFERENCE, "reference"),
    ):  # fmt: skip
        if check is not None:
            first = len(ax.lines)
            latent_quantiles(check, ax, color=colour)
            for line in ax.lines[first:-1]:  # all but the diagonal
                line.set_label(f"{name}: {line.get_label()}")
    ax.legend()
    return embed(figure)
