"""How checks look: curves with bands, latents, reliability, recovery, and bars with errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from sbitools.errors import ConfigError

from .attribution import draw_bias_source, draw_explained, draw_spectrum
from .drawn import Drawn
from .local import draw_distance, draw_local, draw_predictive

__all__ = ["COLORS", "draw", "draw_pair", "latent_quantiles"]

# Colours that the colour-blind can tell apart (Okabe & Ito 2008, "Color universal design").
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Parameters are told apart by line style and marker, sets of tests by colour.
_STYLES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def draw(check: Drawn, ax: Any, *, label: str | None, color: str | None) -> Any:
    """Draw `check` on `ax` (new axes if None) and return the axes.

    Raises:
        ConfigError: for a check of an unknown kind.
    """
    if check.kind not in _DRAWERS:
        raise ConfigError(
            f"plot of {check.name}", expected=f"a kind of {sorted(_DRAWERS)}",
            got=repr(check.kind), fix="this result was written by another version",
        )  # fmt: skip
    ax = _axes() if ax is None else ax
    _DRAWERS[check.kind](check, ax, label, color)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        place = {"loc": "lower center", "ncols": 2} if check.kind == "ecdf" else {}
        ax.legend(frameon=False, fontsize="small", **place)
    return ax


def draw_pair(checks: list[tuple[str, Drawn]], ax: Any) -> Any:
    """One check of several sets of tests on one pair of axes."""
    for (label, check), color in zip(checks, COLORS, strict=False):
        ax = draw(check, ax, label=label, color=color)
    return ax


def _name(set_label: str | None, parameter: str, several: bool) -> str:
    if set_label is None:
        return parameter
    return f"{set_label}: {parameter}" if several else set_label


def _ecdf(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    d = check.details
    z = np.concatenate([[0], d["z"], [1]])
    lower, upper = (np.pad(d[k] - d["z"], 1) for k in ("lower", "upper"))
    ax.fill_between(z, lower, upper, step="mid", color=color or "0.5", alpha=0.15, linewidth=0)
    for i, (curve, name) in enumerate(zip(d["ecdf"], d["labels"], strict=True)):
        ax.plot(
            z, np.pad(curve - d["z"], 1), color=color or COLORS[i % len(COLORS)],
            linestyle=_STYLES[i % len(_STYLES)], linewidth=1.2,
            label=_name(label, name, len(d["labels"]) > 1),
        )  # fmt: skip
    ax.axhline(0, color="0.3", linewidth=0.6)
    ax.set(xlabel=d["xlabel"], ylabel="ECDF − uniform", xlim=(0, 1), title=check.name)
    # Room for the legend below the band, whatever is drawn on these axes.
    drawn = [float(np.abs(values).max()) for values in (lower, upper)]
    reach = max(*drawn, *(float(np.abs(line.get_ydata()).max()) for line in ax.lines))
    ax.set_ylim(-1.6 * reach, 1.1 * reach)


def _coverage(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    d, color = check.details, color or COLORS[0]
    z = np.concatenate([[0], d["z"], [1]])
    lower, curve, upper = (
        np.concatenate([[0], v, [1]]) for v in (d["lower"], d["ecdf"][0], d["upper"])
    )
    ax.fill_between(z, lower, upper, step="mid", color=color, alpha=0.15, linewidth=0)
    ax.plot(z, curve, color=color, linewidth=1.4, label=label)
    ax.plot([0, 1], [0, 1], color="0.3", linewidth=0.6)
    if not ax.texts:
        place = {"ha": "center", "rotation": 45, "fontsize": "small", "color": "0.3"}
        ax.text(0.28, 0.6, "under-confident", **place)
        ax.text(0.72, 0.26, "over-confident", **place)
    ax.set(xlabel="nominal coverage", ylabel="actual coverage", xlim=(0, 1), ylim=(0, 1))
    ax.set_title(check.name)


def _recovery(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    d = check.details
    several = len(d["labels"]) > 1
    for i, (name, row) in enumerate(zip(d["labels"], d["parameters"], strict=True)):
        truth, mean, sd = (np.asarray(d[k])[:, i] for k in ("truth", "mean", "sd"))
        # Several parameters share the axes in units of their own spread.
        scale, centre = (truth.std() or 1.0, truth.mean()) if several else (1.0, 0.0)
        ax.errorbar(
            (truth - centre) / scale, (mean - centre) / scale, yerr=sd / scale,
            fmt=_MARKERS[i % len(_MARKERS)], markersize=2.5, elinewidth=0.4, alpha=0.45,
            color=color or COLORS[i % len(COLORS)],
            label=f"{_name(label, name, several)}, R² = {row['r2']:.2f}",
        )  # fmt: skip
    ends = ax.get_xlim()
    ax.plot(ends, ends, color="0.3", linewidth=0.6)
    unit = " (standardised)" if several else f" {d['labels'][0]}"
    ax.set(xlabel=f"truth{unit}", ylabel="posterior mean ± sd", title=check.name, xlim=ends)


def _contraction(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    d = check.details
    _bars(
        ax, [f"{row['name']}" for row in d["parameters"]],
        [row["contraction"] for row in d["parameters"]],
        [(row["low"], row["high"]) for row in d["parameters"]], label, color,
    )  # fmt: skip
    ax.set(xlabel="contraction: 1 − posterior variance / prior variance", title=check.name)


def _difference(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    rows = check.details["parameters"]
    bands = [row.get("band", check.band) for row in rows]
    _bars(ax, [row["name"] for row in rows], [r["effect"] for r in rows], bands, label, color)
    ax.axvline(0, color="0.3", linewidth=0.6)
    ax.set(xlabel="reference − emulated, 95 %", title=check.name)


def _information(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    rows = [check.details["joint"], *check.details["parameters"]]
    names, bands = [row["name"] for row in rows], [row["band"] for row in rows]
    _bars(ax, names, [row["effect"] for row in rows], bands, label, color)
    ax.axvline(0, color="0.3", linewidth=0.6)
    ax.set(xlabel=check.details["xlabel"], title=check.name)


def _latent(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    """Radii of the latents against the chi distribution they must have."""
    z = np.asarray(check.details["latent"])
    radius, p = np.sqrt((z**2).sum(1)), z.shape[1]
    top = 1.1 * max(float(radius.max()), np.sqrt(p) + 3)
    edges = np.linspace(0, top, 31)
    ax.hist(radius, edges, density=True, histtype="step", color=color or COLORS[0], label=label)
    if not ax.lines:
        from scipy.stats import chi

        r = np.linspace(0, top, 200)
        ax.plot(r, chi.pdf(r, p), color="0.3", linewidth=0.9, label=f"χ, {p} dimensions")
    ax.set(xlabel="radius of the latent of the truth", ylabel="density", title=check.name)


def latent_quantiles(check: Drawn, ax: Any = None, *, color: str | None = None) -> Any:
    """Quantiles of every latent dimension against those of N(0, 1): a straight line if right.

    Args:
        check: of `latent`.
        ax: axes, new ones if None.
        color: of the points; by dimension if None.

    Returns:
        The axes.
    """
    from scipy.special import ndtri

    ax = _axes() if ax is None else ax
    z = np.asarray(check.details["latent"])
    normal = ndtri((np.arange(len(z)) + 0.5) / len(z))
    for i, name in enumerate(check.details["labels"][1:]):
        ax.plot(
            normal, np.sort(z[:, i]), _MARKERS[i % len(_MARKERS)], markersize=2,
            color=color or COLORS[i % len(COLORS)], label=name,
        )  # fmt: skip
    ax.plot(normal, normal, color="0.3", linewidth=0.6)
    ax.legend(frameon=False, fontsize="small")
    ax.set(xlabel="quantile of N(0, 1)", ylabel="quantile of the latent", title=check.name)
    return ax


def _conditional(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    """Mean normal score of ranks against the number it follows most, and the function found."""
    d, color = check.details, color or COLORS[0]
    ax.errorbar(d["at"], d["mean"], d["error"], fmt="o", markersize=3, color=color, label=label)
    curve = np.asarray(d["function"])
    ax.plot((np.arange(len(curve)) + 0.5) / len(curve), curve, color=color, linewidth=1)
    ax.axhline(0, color="0.3", linewidth=0.6)
    ax.set(xlabel=d["xlabel"], ylabel=d["ylabel"], xlim=(0, 1), title=check.name)


def _reliability(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    d, color = check.details["reliability"], color or COLORS[0]
    ax.fill_between(d["stated"], d["lower"], d["upper"], color=color, alpha=0.15, linewidth=0)
    ax.plot(d["stated"], d["actual"], "o-", color=color, markersize=3, linewidth=1, label=label)
    ax.plot([0, 1], [0, 1], color="0.3", linewidth=0.6)
    ax.set(xlabel="stated probability of the most probable category", ylabel="share of hits",
           xlim=(0, 1), ylim=(0, 1), title=check.name)  # fmt: skip


def _categories(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    """Reliability of each category; of two, that of the second, which says both."""
    curves, names = check.details["curves"], check.details["names"]
    first = 1 if len(curves) == 2 else 0
    for i, (d, name) in enumerate(zip(curves[first:], names[first:], strict=True)):
        shade = color or COLORS[i % len(COLORS)]
        ax.fill_between(d["stated"], d["lower"], d["upper"], color=shade, alpha=0.15, linewidth=0)
        ax.plot(
            d["stated"], d["actual"], marker=_MARKERS[i % len(_MARKERS)], color=shade,
            markersize=3, linewidth=1, label=_name(label, name, len(curves) > 2),
        )  # fmt: skip
    ax.plot([0, 1], [0, 1], color="0.3", linewidth=0.6)
    ax.set(xlabel="stated probability", ylabel="share of tests", xlim=(0, 1), ylim=(0, 1),
           title=check.name)  # fmt: skip


def _axes() -> Any:
    from matplotlib.figure import Figure

    # Not pyplot: no global list of figures, so a report of hundreds of plots leaks none.
    return Figure(figsize=(4.5, 3.6), layout="constrained").subplots()


def _bars(
    ax: Any, names: list[str], values: list[float], bands: list[Any], label: str | None,
    color: str | None,
) -> None:  # fmt: skip
    """One point with its band per row; a second set of tests goes a little below the first."""
    shift = 0.18 * len(ax.containers)
    y = np.arange(len(names)) + shift
    x, (low, high) = np.asarray(values), np.asarray(bands, dtype=float).T
    ax.errorbar(
        x, y, xerr=np.maximum(0, [x - low, high - x]), fmt="o", markersize=4,
        color=color or COLORS[0], label=label,
    )  # fmt: skip
    if not shift:
        ax.set_yticks(np.arange(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)


_DRAWERS = {
    "ecdf": _ecdf, "coverage": _coverage, "recovery": _recovery, "contraction": _contraction,
    "difference": _difference, "information": _information, "latent": _latent,
    "reliability": _reliability, "categories": _categories, "local": draw_local,
    "predictive": draw_predictive, "distance": draw_distance, "spectrum": draw_spectrum,
    "explained": draw_explained, "bias source": draw_bias_source, "conditional": _conditional,
}  # fmt: skip
