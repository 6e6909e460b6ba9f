"""Figures of emulated and reference simulations at equal theta: lines, matrices, responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .figures import EMULATED, GREY, PALETTE, REFERENCE, canvas, embed, styled

__all__ = ["line_figure", "matrix_figure", "panels", "response_figure"]

_ACROSS = 3  # panels in a row


def panels(n: int, height: float, width: float = 3.0) -> tuple[Any, list[Any]]:
    """A figure and n axes, three in a row.

    Args:
        n: of panels.
        height: of one, in inches.
        width: of one.
    """
    across, down = min(n, _ACROSS), -(-n // _ACROSS)
    figure, axes = canvas(down, across, size=(width * across, height * down))
    flat = list(axes.ravel())
    for empty in flat[n:]:
        empty.set_visible(False)
    return figure, flat[:n]


@styled
def line_figure(fields: Mapping[str, np.ndarray], label: str, x_label: str) -> str:
    """Fields (n,) below each other, on the same scale."""
    figure, axes = canvas(len(fields), 1, size=(8.6, 1.25 * len(fields) + 0.5),
                          sharex=True, sharey=True)  # fmt: skip
    for i, (ax, (name, values)) in enumerate(zip(axes[:, 0], fields.items(), strict=True)):
        x = np.arange(1, len(values) + 1)
        colour = REFERENCE if name == "reference" else (EMULATED, *PALETTE[2:])[(i - 1) % 4]
        dots = {"marker": "o", "ms": 4} if len(values) < 65 else {}
        ax.plot(x, values, color=colour, lw=1.0, **dots)
        ax.set_title(name, loc="left")
    everything = np.concatenate(list(fields.values()))
    if everything.min() > 0 and everything.max() > 30 * everything.min():
        axes[0, 0].set_yscale("log")
    axes[-1, 0].set_xlabel(x_label)
    figure.supylabel(label, fontsize=9)
    return embed(figure)


@styled
def matrix_figure(matrices: Mapping[str, np.ndarray]) -> str:
    """Correlation coefficients, from -1 to 1; of a difference in its own range."""
    figure, axes = canvas(1, len(matrices), size=(2.9 * len(matrices), 3.2))
    for ax, (name, values) in zip(axes[0], matrices.items(), strict=True):
        reach = 1.0 if name != "difference" else float(np.abs(values).max()) or 1.0
        shown = ax.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
        ax.set(xticks=[], yticks=[],
               title="emulator − reference" if name == "difference" else name)  # fmt: skip
        ax.grid(visible=False)
        figure.colorbar(shown, ax=ax, location="bottom", shrink=0.9, pad=0.03, aspect=22)
    return embed(figure)


@styled
def response_figure(statistics: Mapping[str, Any], draw: Callable[..., None]) -> str:
    """The response to each parameter, one panel each.

    Args:
        statistics: see `emulator_figures`.
        draw: one panel: axes, title, lines, and what `emulator_figures` knows of ``k``.
    """
    curves = statistics["response_curves"]
    figure, axes = panels(len(curves), 2.7)
    for ax, (name, found) in zip(axes, curves.items(), strict=True):
        lines = {key: values for key, values in found.items() if key != "floor"}
        draw(ax, name, lines, {
            **{key: statistics[key] for key in ("k", "k_label", "k_scale") if key in statistics},
            "curve_kinds": {name: "plain"}, "noise_floor": {name: found["floor"]},
        })  # fmt: skip
        ax.axhline(0, color=GREY, lw=0.8)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return embed(figure)
