"""Figures about the emulator, from what a system's `validate` returned.

Every key is optional; what is there is drawn:

- ``fields``: ``{name: (n, m)}`` images, ``difference`` with its own colours, or ``(n,)`` lines;
  ``fields_label``; ``fields_x_label`` of lines; ``fields_range``, (2,), of the colours;
  ``fields_caption``, if they are not one universe from the same initial conditions.
- ``k`` (n_bins,), ``k_label``, ``k_scale``; ``curves``: ``{"power" | "transfer" | "correlation" |
  any other: {name: (n_bins,)}}``; ``noise_floor``: ``{the same keys: (n_bins,)}``, half width of a
  band, around 1 (relative for the power); ``k_nyquist``: the smallest scale that is resolved.
  ``curve_kinds``: ``{key of curves: "log" | "ratio" | "plain" | "difference"}``, by name if left
  out: logarithmic with a relative band around the reference; around 1; linear with an absolute
  band around the reference; around 0.
- ``pdf``: ``{"x", "x_label", "curves": {name: (n,)}, "noise_floor": (n,)}``, or ``pdfs``: ``{name:
  the same}``.
- ``matrices``: ``{name: (n, n)}`` of correlation coefficients.
- ``errors``: ``{quantity: {name: number}}``; a long table if there are many.
- ``responses``: ``{parameter: {name: number or text}}``; ``response_curves``: ``{parameter:
  {"reference", "emulator", "floor": (n_bins,)}}``, over ``k``.
- ``labels``: ``{key of the above: a sentence}``; ``n``: number of simulations; ``equal_theta``:
  True if nothing but theta is common to both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import Block, Figure, Table
from .comparison_figures import line_figure, matrix_figure, panels, response_figure
from .figures import EMULATED, GREY, PALETTE, REFERENCE, canvas, embed, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["emulator_blocks"]

_TITLES = {"power": "power spectrum P(k)", "transfer": "transfer function",
           "correlation": "cross-correlation r(k)"}  # fmt: skip

_DIFFERENCE = "emulator − reference"
_MANY = 5  # quantities, beyond which they are rows


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
    pdfs = statistics.get("pdfs") or ({"": statistics["pdf"]} if statistics.get("pdf") else {})
    if pdfs:
        sentence = labels.get("pdf", "Distribution of the field's values.")
        blocks.append(Figure(
            _pdf_figure(pdfs), "distribution of values", wide=len(pdfs) > 1,
            caption=f"{sentence} The grey band, where it is wider than the lines, is the "
            "noise floor.",
        ))  # fmt: skip
    if statistics.get("matrices"):
        sentence = labels.get("matrices", "Correlation coefficients.")
        source = matrix_figure(statistics["matrices"])
        blocks.append(Figure(source, "correlation matrices", sentence))
    if statistics.get("errors"):
        blocks.append(_errors(statistics["errors"], labels))
    if statistics.get("response_curves"):
        sentence = labels.get("response_curves", "Response to each parameter.")
        floor = "Grey band: the difference that chance would make."
        source = response_figure(statistics, _spectrum)
        blocks.append(Figure(source, "response to each parameter", f"{sentence} {floor}"))
    if statistics.get("responses"):
        blocks.append(_long_table("parameter", statistics["responses"],
                                  labels.get("responses", "")))  # fmt: skip
    return blocks


def _fields(statistics: Mapping[str, Any]) -> Figure:
    label = statistics.get("fields_label", "")
    names = ", ".join(_DIFFERENCE if n == "difference" else n for n in statistics["fields"])
    lines = all(np.ndim(field) == 1 for field in statistics["fields"].values())
    return Figure(
        line_figure(statistics["fields"], label, statistics.get("fields_x_label", "")) if lines
        else _field_figure(statistics["fields"], label, statistics.get("fields_range")),
        f"fields side by side: {names}", statistics.get("fields_caption", _SAME_UNIVERSE),
    )  # fmt: skip


_SAME_UNIVERSE = (
    "One held-out simulation, from the same initial conditions in every panel. Reference and "
    "emulator should be hard to tell apart; the last panel shows what is left, in its own "
    "colours: noise around single knots is fine, large patches would not be."
)


@styled
def _field_figure(
    fields: Mapping[str, np.ndarray], label: str, limits: np.ndarray | None = None
) -> str:
    plain = [image for name, image in fields.items() if name != "difference"]
    low, high = (np.min(plain), np.max(plain)) if limits is None else limits
    long = max(plain[0].shape) > 3 * min(plain[0].shape)
    tall = 1.0 if long else min(plain[0].shape[1] / plain[0].shape[0], 1.5)
    figure, axes = canvas(1, len(fields), size=(2.2 * len(fields), 0.75 + 2.2 * tall))
    for ax, (name, image) in zip(axes[0], fields.items(), strict=True):
        own = name == "difference"
        reach = float(np.abs(image).max()) or 1.0
        shown = ax.imshow(
            image.T, origin="lower", interpolation="nearest", aspect="auto" if long else "equal",
            cmap="RdBu_r" if own else "magma",
            vmin=-reach if own else low, vmax=reach if own else high,
        )  # fmt: skip
        ax.set(xticks=[], yticks=[], title=_DIFFERENCE if own else name)
        ax.grid(visible=False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        bar = figure.colorbar(
            shown, ax=ax, location="bottom", shrink=0.92, pad=0.02, aspect=22,
            extend="neither" if own or limits is None else "both",
        )  # fmt: skip
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
        _spectra_figure(statistics),
        ", ".join(str(_TITLES.get(key, key)) for key in statistics["curves"]),
        f"{text} Grey band, where it is wider than the lines: noise floor. {floor}{mean}{nyquist}",
    )  # fmt: skip


@styled
def _spectra_figure(statistics: Mapping[str, Any]) -> str:
    curves = statistics["curves"]
    figure, axes = panels(len(curves), 3.2)
    for ax, (key, lines) in zip(axes, curves.items(), strict=True):
        _spectrum(ax, key, lines, statistics)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return embed(figure)


def _spectrum(
    ax: Axes, key: str, lines: Mapping[str, np.ndarray], statistics: Mapping[str, Any]
) -> None:
    k = statistics["k"]
    floor = statistics.get("noise_floor", {}).get(key)
    kind = statistics.get("curve_kinds", {}).get(key, "log" if key == "power" else "ratio")
    if floor is not None:
        around = lines["reference"] if kind in ("log", "plain") and "reference" in lines else (
            np.full(len(k), 0.0 if kind == "difference" else 1.0))  # fmt: skip
        half = floor * np.abs(around) if kind == "log" else floor
        ax.fill_between(k, around - half, around + half, color=GREY, alpha=0.3, lw=0)
    for name, values in lines.items():
        dots = {"marker": "o", "ms": 4} if len(k) < 3 else {}
        ax.plot(k, values, label=name, **_line_style(name, list(lines)), **dots)
    if statistics.get("k_nyquist"):
        ax.axvline(0.5 * statistics["k_nyquist"], color=GREY, lw=0.8, ls="--")
    title = fill(_TITLES.get(key, key), 34)
    ax.set(xlabel=statistics.get("k_label", "k"), title=title)
    if statistics.get("k_scale", "log") == "log":
        ax.set_xscale("log")
        _plain_ticks(ax)
    if kind in ("log", "plain"):
        ax.set_yscale("log" if kind == "log" else "linear")
        return
    ax.axhline(0 if kind == "difference" else 1, color=GREY, lw=0.8)
    if kind == "difference":
        return
    emulator = lines.get("emulator")
    if emulator is not None:  # rivals may fall out of the picture, the emulator may not
        low = min(0.5, float(np.nanmin(emulator)) - 0.05)
        ax.set_ylim(low, 1.05 if key == "correlation" else max(1.3, np.nanmax(emulator) + 0.05))


def _plain_ticks(ax: Axes) -> None:
    """0.1, 0.2, 0.5 instead of crowded powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
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
def _pdf_figure(pdfs: Mapping[str, Mapping[str, Any]]) -> str:
    figure, axes = panels(len(pdfs), 3.3, 5.4 if len(pdfs) == 1 else 3.0)
    for ax, (name, pdf) in zip(axes, pdfs.items(), strict=True):
        _pdf(ax, pdf)
        ax.set_title(name if len(pdfs) > 1 else "")
    axes[0].set_ylabel("density of cells")
    axes[0].legend()
    return embed(figure)


def _pdf(ax: Axes, pdf: Mapping[str, Any]) -> None:
    lines = pdf["curves"]
    floor, reference = pdf.get("noise_floor"), lines.get("reference")
    if floor is not None and reference is not None:
        low, high = np.maximum(reference - floor, 0), reference + floor
        ax.fill_between(pdf["x"], low, high, color=GREY, alpha=0.35, lw=0)
    for name, values in lines.items():
        positive = np.where(values > 0, values, np.nan)
        dots = {"marker": "o", "ms": 4} if len(positive) < 3 else {}
        ax.plot(pdf["x"], positive, label=name, **_line_style(name, list(lines)), **dots)
    ax.set(yscale="log", xlabel=pdf.get("x_label", "value"))


def _errors(errors: Mapping[str, Mapping[str, float]], labels: Mapping[str, str]) -> Table:
    if len(errors) > _MANY:
        caption = " ".join(labels[key] for key in ("errors", *errors) if key in labels)
        return _long_table("against the reference", errors, caption)
    names = list(dict.fromkeys(name for values in errors.values() for name in values))
    rows = [
        (name, *(f"{values[name]:.3g}" if name in values else "-" for values in errors.values()))
        for name in names
    ]
    caption = " ".join(labels[key] for key in errors if key in labels)
    return Table(("against the reference", *errors), rows, caption,
                 numeric=frozenset(range(1, 1 + len(errors))))  # fmt: skip


def _long_table(heading: str, rows: Mapping[str, Mapping[str, Any]], caption: str) -> Table:
    """A row for each quantity, a column for each name."""
    names = list(dict.fromkeys(name for values in rows.values() for name in values))

    def cell(value: Any) -> str:
        return value if isinstance(value, str) else "-" if value is None else f"{value:.3g}"

    cells = [(key, *(cell(values.get(name)) for name in names)) for key, values in rows.items()]
    return Table((heading, *names), cells, caption, numeric=frozenset(range(1, 1 + len(names))))
