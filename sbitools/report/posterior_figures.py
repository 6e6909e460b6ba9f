"""Figures about the posterior: corner plots, recovery, calibration panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sbitools.display.corner import corner_figure

from .figures import EMULATED, GREY, REFERENCE, canvas, embed, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sbitools.calibration.check import Check

__all__ = ["calibration_panel", "corner", "quantile_panel", "recovery_panel"]


def corner(
    draws: np.ndarray, truth: np.ndarray | None, labels: Sequence[str], bounds: np.ndarray,
    title: str,
) -> str:  # fmt: skip
    """`sbitools.display.corner.corner_figure`, embedded."""
    return styled(embed)(corner_figure(draws, truth, labels, bounds, title))


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
