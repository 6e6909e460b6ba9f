"""How checks at one observation look: density ratio, predictions, distance from simulations."""

from __future__ import annotations

from typing import Any

import numpy as np

from .drawn import Drawn

__all__ = ["draw_distance", "draw_local", "draw_predictive"]

# Okabe & Ito 2008, as in `plots`, which imports this module.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MANY = 16  # statistics that are named one by one
_LINES = 20  # observations that get a line of their own


def draw_local(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    """True over estimated density along each parameter: 1 where the posterior is right."""
    d = check.details
    x = (np.arange(d["ratio"].shape[1]) + 0.5) / d["ratio"].shape[1]
    lower, upper = d["lower"].min(0), d["upper"].max(0)
    ax.fill_between(x, lower, upper, color="0.5", alpha=0.15, linewidth=0)
    for i, (curve, name) in enumerate(zip(d["ratio"], d["labels"], strict=True)):
        ax.plot(
            x, curve, marker="o", markersize=3, linewidth=1.2, linestyle="-" if i < 6 else "--",
            color=color or _COLORS[i % len(_COLORS)],
            label=name if label is None else f"{label}: {name}",
        )  # fmt: skip
    ax.axhline(1, color="0.3", linewidth=0.6)
    ax.set(
        xlabel="posterior quantile of the parameter", ylabel="true / estimated density",
        xlim=(0, 1), title=check.name,
    )  # fmt: skip


def draw_predictive(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    """Standard scores of the observed statistics over 68 % and 95 % of the predictions."""
    d = check.details
    y, q = np.arange(len(d["names"])), d["quantiles"]
    shade = color or _COLORS[0]
    for low, high, alpha in ((q[0], q[-1], 0.15), (q[1], q[-2], 0.3)):
        ax.barh(y, high - low, left=low, height=0.8, color=shade, alpha=alpha, linewidth=0)
    _reach(ax, max(4.0, float(np.abs(q).max())), float(np.abs(d["z"]).max()), both=True)
    ax.plot(d["z"], y, "o", color="black", markersize=3.5, label=label or "observed")
    ax.axvline(0, color="0.3", linewidth=0.6)
    if len(y) <= _MANY:
        ax.set_yticks(y, d["names"])
    else:
        ax.set_ylabel("statistic")
    ax.set_ylim(len(y) - 0.4, -0.6)
    ax.set(xlabel="standard score among predictions (68 %, 95 %)", title=check.name)


def draw_distance(check: Drawn, ax: Any, label: str | None, color: str | None) -> None:
    """Distances of simulations, and where the observations are."""
    d = check.details
    null, observed = np.asarray(d["null"]), np.asarray(d["observed"])
    color = color or _COLORS[0]
    ax.hist(null, bins=min(40, max(10, len(null) // 10)), color=color, alpha=0.35,
            label=label or "simulations")  # fmt: skip
    _reach(ax, float(np.abs(null).max()) or 1.0, float(np.abs(observed).max()), both=False)
    if len(observed) <= _LINES:
        for i, value in enumerate(np.sort(observed)):
            ax.axvline(float(value), color=_COLORS[1], linewidth=1.4,
                       label=None if i else "observed")  # fmt: skip
    else:
        ax.hist(observed, bins=30, color=_COLORS[1], alpha=0.5, label="observed")
    if check.band is not None:
        ax.axvline(check.band[1], color="0.3", linewidth=0.8, linestyle="--")
    ax.set(xlabel=d["xlabel"], ylabel="simulations", title=check.name)


def _reach(ax: Any, usual: float, farthest: float, *, both: bool) -> None:
    """Linear where simulations lie; logarithmic beyond, if an observation is far beyond."""
    if farthest < 4 * usual:
        return
    ax.set_xscale("symlog", linthresh=usual, linscale=2)
    decades = 10.0 ** np.arange(np.ceil(np.log10(usual)), np.ceil(np.log10(farthest)) + 1)
    step = 10.0 ** np.floor(np.log10(usual))
    ticks = [0.0, step * np.floor(usual / step / 2) or step / 2, *decades]
    ticks = sorted({s * t for t in ticks for s in ((-1, 1) if both else (1,))})
    ax.set_xticks(ticks, [f"{t + 0.0:g}" for t in ticks])
