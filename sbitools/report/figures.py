"""Figures of the report: drawn without global state, embedded as data URIs."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sbitools.display.style import EMULATED, GREY, PALETTE, REFERENCE, canvas, styled
from sbitools.display.typeset import settle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "EMULATED",
    "GREY",
    "PALETTE",
    "REFERENCE",
    "canvas",
    "embed",
    "styled",
    "training_curve",
]


def embed(figure: Canvas, kind: str = "svg") -> str:
    """The figure as a data URI.

    Args:
        figure: drawn.
        kind: ``"svg"`` for curves, ``"png"`` for images and clouds of points.
    """
    stream = io.BytesIO()
    settle(figure)
    figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else {})
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(stream.getvalue()).decode()}"


@styled
def training_curve(epochs: Sequence[dict[str, float]], best: int, ylabel: str) -> str:
    """Training and validation loss by epoch, the kept epoch marked."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = canvas(size=(8.6, 2.9))
    ax: Axes = axes[0, 0]
    x = [row["epoch"] + 1 for row in epochs]
    ax.plot(x, [row["train_loss"] for row in epochs], color=GREY, label="training")
    # A fit to a handful of simulations holds none of them out.
    validation = [row.get("validation_loss") for row in epochs]
    validation = [math.nan if v is None else v for v in validation]
    if any(map(math.isfinite, validation)):
        ax.plot(x, validation, color=EMULATED, label="validation (averaged weights)")
        if 0 <= best < len(epochs):
            ax.plot(x[best], validation[best], "o", color=EMULATED, ms=6, label="kept")
    ax.set_ylim(*loss_limits([row["train_loss"] for row in epochs], validation))
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return embed(figure)


def loss_limits(*curves: Sequence[float]) -> tuple[float, float]:
    """Limits that show the whole descent except a first tenth that towers above the rest."""
    import numpy as np

    values = np.array([v for curve in curves for v in curve], dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    late = [v for curve in curves for v in curve[len(curve) // 10 :] if np.isfinite(v)] or values
    low, high = float(np.min(values)), float(np.max(late))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin
