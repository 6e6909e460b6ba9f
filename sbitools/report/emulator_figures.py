"""Figures about the emulator, from what a system's `validate` returned.

Every key is optional; what is there is drawn:

- ``fields``: ``{name: (n, m)}`` images, ``difference`` with its own colours; ``fields_label``;
  ``fields_caption``, if they are not one universe from the same initial conditions.
- ``k`` (n_bins,), ``k_label``; ``curves``: ``{"power" | "transfer" | "correlation": {name:
  (n_bins,)}}``; ``noise_floor``: ``{the same keys: (n_bins,)}``, half width of a band, around 1
  (relative for the power); ``k_nyquist``: the smallest scale that is resolved.
- ``pdf``: ``{"x", "x_label", "curves": {name: (n,)}, "noise_floor": (n,)}``.
- ``errors``: ``{quantity: {name: number}}``.
- ``labels``: ``{key of the above: a sentence}``; ``n``: number of simulations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import Block, Figure, Table
from .figures import EMULATED, GREY, PALETTE, REFERENCE, canvas, embed, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["emulator_blocks"]

_TITLES = {"power": "power spectrum P(k)", "transfer": "transfer function",
           "correlation": "cross-correlation r(k)"}  # fmt: skip

_DIFFERENCE = "emulator − reference"


def emulator_blocks(statistics: Mapping[str, Any]) -> list[Block]:
    """Figures and tables of the emulator against its reference.

    Args:
        statistics: see the module's text.
    """
    blocks: list[Block] = []
    labels = statistics.get("labels", {})
    if statistics.get("fields"):
        blocks.append(_fields(statistics))
    if statistics.get("curves"):
        blocks.append(_spectra(statistics, labels))
    if statistics.get("pdf"):
        sentence = labels.get("pdf", "Distribution of the field's values.")
        blocks.append(Figure(
            _pdf_figure(statistics["pdf"]), "distribution of values", wide=False,
            caption=f"{sentence} The grey band, where it is wider than the lines, is the "
            "noise floor.",
        ))  # fmt: skip
    if statistics.get("errors"):
        blocks.append(_errors(statistics["errors"], labels))
    return blocks


def _fields(statistics: Mapping[str, Any]) -> Figure:
    label = statistics.get("fields_label", "")
    names = ", ".join(_DIFFERENCE if n == "difference" else n for n in statistics["fields"])
    return Figure(
        _field_figure(statistics["fields"], label), f"fields side by side: {names}",
        statistics.get("fields_caption", _SAME_UNIVERSE),
    )  # fmt: skip


_SAME_UNIVERSE = (
    "One held-out simulation, from the same initial conditions in every panel. Reference and "
    "emulator should be hard to tell apart; the last panel shows what is left, in its own "
    "colours: noise around single knots is fine, large patches would not be."
)


@styled
def _field_figure(fields: Mapping[str, np.ndarray], label: str) -> str:
    plain = [image for name, image in fields.items() if name != "difference"]
    low, high = np.min(plain), np.max(plain)
    figure, axes = canvas(1, len(fields), size=(2.2 * len(fields), 2.95))
    for ax, (name, image) in zip(axes[0], fields.items(), strict=True):
        own = name == "difference"
        reach = float(np.abs(image).max()) or 1.0
        shown = ax.imshow(
            image.T, origin="lower", interpolation="nearest",
            cmap="RdBu_r" if own else "magma",
            vmin=-reach if own else low, vmax=reach if own else high,
        )  # fmt: skip
        ax.set(xticks=[], yticks=[], title=_DIFFERENCE if own else name)
        ax.grid(visible=False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        bar = figure.colorbar(shown, ax=ax, location="bottom", shrink=0.92, pad=0.02, aspect=22)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7.5)
        bar.set_label(_DIFFERENCE if own else label, fontsize=8)
    return embed(figure, "png")


def _spectra(statistics: Mapping[str, Any], labels: Mapping[str, str]) -> Figure:
    n = statistics.get("n")
    text = " ".join(labels[key] for key in statistics["curves"] if key in labels)
    floor = labels.get("noise_floor", "The reference against itself.")
    mean = f" Means over {n} held-out simulations." if n else ""
    nyquist = (
        " A dashed line marks half the Nyquist frequency of the particles, above which neither "
        "simulation is to be trusted."
        if statistics.get("k_nyquist")
        else ""
    )
    return Figure(
        _spectra_figure(statistics), "power spectrum, transfer function and cross-correlation",
        f"{text} Grey band, where it is wider than the lines: noise floor. {floor}{mean}{nyquist}",
    )  # fmt: skip


@styled
def _spectra_figure(statistics: Mapping[str, Any]) -> str:
    curves = statistics["curves"]
    figure, axes = canvas(1, len(curves), size=(3.0 * len(curves), 3.2))
    for ax, (key, lines) in zip(axes[0], curves.items(), strict=True):
        _spectrum(ax, key, lines, statistics)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return embed(figure)


def _spectrum(
    ax: Axes, key: str, lines: Mapping[str, np.ndarray], statistics: Mapping[str, Any]
) -> None:
    k = statistics["k"]
    floor = statistics.get("noise_floor", {}).get(key)
    if floor is not None:
        centre = lines["reference"] if key == "power" and "reference" in lines else np.ones_like(k)
        ax.fill_between(k, centre * (1 - floor), centre * (1 + floor), color=GREY, alpha=0.3, lw=0)
    for name, values in lines.items():
        ax.plot(k, values, label=name, **_line_style(name, list(lines)))
    if statistics.get("k_nyquist"):
        ax.axvline(0.5 * statistics["k_nyquist"], color=GREY, lw=0.8, ls="--")
    ax.set(xscale="log", xlabel=statistics.get("k_label", "k"), title=_TITLES.get(key, key))
    _plain_ticks(ax)
    if key == "power":
        ax.set_yscale("log")
        return
    ax.axhline(1, color=GREY, lw=0.8)
    emulator = lines.get("emulator")
    if emulator is not None:  # rivals may fall out of the picture, the emulator may not
        low = min(0.5, float(np.nanmin(emulator)) - 0.05)
        ax.set_ylim(low, 1.05 if key == "correlation" else max(1.3, np.nanmax(emulator) + 0.05))


def _plain_ticks(ax: Axes) -> None:
    """0.1, 0.2, 0.5 instead of crowded powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _line_style(name: str, names: list[str]) -> dict[str, Any]:
    if name == "emulator":
        return {"color": EMULATED, "lw": 2.0, "zorder": 5}
    if name == "reference":
        return {"color": REFERENCE, "lw": 2.0}
    others = [n for n in names if n not in ("emulator", "reference")]
    return {"color": PALETTE[2 + others.index(name) % 3], "lw": 1.2, "ls": ("--", ":", "-.")[
        others.index(name) % 3]}  # fmt: skip


@styled
def _pdf_figure(pdf: Mapping[str, Any]) -> str:
    figure, axes = canvas(size=(5.4, 3.3))
    ax: Axes = axes[0, 0]
    lines = pdf["curves"]
    floor, reference = pdf.get("noise_floor"), lines.get("reference")
    if floor is not None and reference is not None:
        low, high = np.maximum(reference - floor, 0), reference + floor
        ax.fill_between(pdf["x"], low, high, color=GREY, alpha=0.35, lw=0)
    for name, values in lines.items():
        positive = np.where(values > 0, values, np.nan)
        ax.plot(pdf["x"], positive, label=name, **_line_style(name, list(lines)))
    ax.set(yscale="log", xlabel=pdf.get("x_label", "value"), ylabel="density of cells")
    ax.legend()
    return embed(figure)


def _errors(errors: Mapping[str, Mapping[str, float]], labels: Mapping[str, str]) -> Table:
    names = list(dict.fromkeys(name for values in errors.values() for name in values))
    rows = [
        (name, *(f"{values[name]:.3g}" if name in values else "-" for values in errors.values()))
        for name in names
    ]
    caption = " ".join(labels[key] for key in errors if key in labels)
    return Table(("against the reference", *errors), rows, caption,
                 numeric=frozenset(range(1, 1 + len(errors))))  # fmt: skip
