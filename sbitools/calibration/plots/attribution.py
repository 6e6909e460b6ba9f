"""How attribution looks: differences per bin, sources of bias, and what explains it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .drawn import Drawn

__all__ = ["draw_bias_source", "draw_explained", "draw_spectrum"]

# Colours that the colour-blind can tell apart (Okabe & Ito 2008), as in `plots`.
_BLUE, _RED, _GREEN = "#0072B2", "#D55E00", "#009E73"


def draw_spectrum(
    check: Drawn, ax: Any, label: str | None = None, color: str | None = None
) -> Any:
    """Difference per bin over the scatter, with its simultaneous 95 % band (`statistic_bias`)."""
    rows = check.details["parameters"]
    at = np.array([row["coordinate"] for row in rows])
    effect = np.array([row["effect"] for row in rows])
    low, high = np.array([row["band"] for row in rows]).T
    color = color or _BLUE
    ax.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(at, effect, color=color, marker="o", markersize=3, linewidth=1.2, label=label)
    ax.axhline(0, color="0.3", linewidth=0.6)
    ax.set(xlabel="bin", ylabel="(emulated − reference) / scatter", title=check.name)
    return ax


def draw_bias_source(
    check: Drawn, ax: Any, label: str | None = None, color: str | None = None
) -> Any:
    """Estimator's and emulator's part of the bias of each parameter (`bias_source`)."""
    rows = check.details["parameters"]
    parts = (("estimator", _BLUE), ("emulator", _RED), ("total", _GREEN))
    for i, (part, own) in enumerate(parts):
        bands = [row[f"{part}_band"] for row in rows]
        name = f"{label}: {part}" if label else part
        _bars(ax, 0.2 * (i - 1), [row[part] for row in rows], bands, name, color or own)
    return _rows(ax, rows, "mean error [posterior σ]", check.name)


def draw_explained(
    check: Drawn, ax: Any, label: str | None = None, color: str | None = None
) -> Any:
    """Change of the bias on the reference, as found and as the statistic explains it."""
    rows = check.details["parameters"]
    found = [row["observed"] for row in rows]
    bands = [
        (row["observed"] - 2 * row["observed_error"], row["observed"] + 2 * row["observed_error"])
        for row in rows
    ]
    _bars(ax, -0.1, found, bands, f"{label}: found" if label else "found", color or _BLUE)
    expected = [row["effect"] for row in rows]
    name = f"{label}: explained" if label else "explained"
    _bars(ax, 0.1, expected, [row["band"] for row in rows], name, color or _RED)
    return _rows(ax, rows, "change of bias on the reference [posterior σ]", check.name)


def _bars(
    ax: Any, shift: float, values: list[float], bands: list[Any], label: str, color: str
) -> None:
    x, (low, high) = np.asarray(values), np.asarray(bands, dtype=float).T
    ax.errorbar(
        x, np.arange(len(x)) + shift, xerr=np.maximum(0, [x - low, high - x]), fmt="o",
        markersize=4, color=color, label=label,
    )  # fmt: skip


def _rows(ax: Any, rows: list[dict[str, Any]], xlabel: str, title: str) -> Any:
    ax.axvline(0, color="0.3", linewidth=0.6)
    ax.set_yticks(np.arange(len(rows)), [row["name"] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set(xlabel=xlabel, title=title)
    return ax
