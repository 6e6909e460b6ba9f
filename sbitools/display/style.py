"""The style of figures, and figures that no global state knows of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["EMULATED", "GREY", "PALETTE", "REFERENCE", "canvas", "styled"]

P = ParamSpec("P")
R = TypeVar("R")

# Colours that remain apart for colour-blind readers and in grey print.
REFERENCE, EMULATED, GREY = "#c2570c", "#1f5fa8", "#6b7280"
PALETTE = (EMULATED, REFERENCE, "#2f855a", "#8a4fbf", "#b7791f")

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9.5, "axes.titlesize": 10, "axes.labelsize": 9.5,
    "axes.edgecolor": "#9aa3af", "axes.linewidth": 0.8, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e7eb", "grid.linewidth": 0.7,
    "axes.axisbelow": True, "xtick.color": "#4b5563", "ytick.color": "#4b5563",
    "axes.labelcolor": "#1f2937", "text.color": "#1f2937", "legend.frameon": False,
    "legend.fontsize": 8.5, "lines.linewidth": 1.6, "figure.dpi": 100, "savefig.dpi": 170,
    "svg.hashsalt": "sbitools", "mathtext.fontset": "dejavusans",
}  # fmt: skip


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function in this style; matplotlib's own settings stay."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inside


def canvas(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (8.6, 3.2), **options: Any
) -> tuple[Canvas, Any]:
    """A figure and its axes, shape (rows, columns).

    Args:
        rows: of axes.
        columns: of axes.
        size: inches.
        options: of `Figure.subplots`.
    """
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
