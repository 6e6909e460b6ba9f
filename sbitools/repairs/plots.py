"""How repairs look: what each method gained, and what simulations are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .augmentation import AugmentationFactor, LearningCurve
from .judgement import Judgement

__all__ = ["draw_gains", "draw_learning_curve"]

# Colours that the colour-blind can tell apart (Okabe & Ito 2008), as in `calibration.plots`.
_BLUE, _RED = "#0072B2", "#D55E00"


def draw_gains(judgements: Sequence[Judgement], ax: Any = None) -> Any:
    """Gain of each repair on held-out simulations, with its 95 % interval; returns the axes."""
    ax = ax if ax is not None else _axes()
    x = np.array([j.gain for j in judgements])
    low, high = np.array([j.band for j in judgements]).T
    y = np.arange(len(x))
    ax.errorbar(x, y, xerr=np.maximum(0, [x - low, high - x]), fmt="o", color=_BLUE, markersize=4)
    ax.axvline(0, color="0.3", linewidth=0.6)
    ax.set_yticks(y, [j.method for j in judgements])
    ax.set_ylim(len(x) - 0.4, -0.6)
    ax.set(xlabel="gain in log density of held-out truths [nats]")
    return ax


def draw_learning_curve(
    curve: LearningCurve,
    ax: Any = None,
    *,
    factor: AugmentationFactor | None = None,
    label: str = "reference alone",
) -> Any:
    """Scores against training simulations, the power law with its 95 % band; returns the axes.

    Args:
        curve: what is drawn.
        ax: matplotlib axes, new ones if None.
        factor: drawn as a point at its number of reference simulations, and as a level.
        label: of the curve.
    """
    ax = ax if ax is not None else _axes()
    n = np.geomspace(0.7 * curve.n.min(), 3 * curve.n.max(), 100)
    low, high = curve.band(n)
    ax.fill_between(n, low, high, color=_BLUE, alpha=0.15, linewidth=0)
    ax.plot(n, curve(n), color=_BLUE, linewidth=1.2, label=label)
    ax.errorbar(curve.n, curve.score, yerr=2 * curve.error, fmt="o", color=_BLUE, markersize=4)
    if factor is not None:
        name = f"{factor.n_reference} and the emulator"
        ax.plot(factor.n_reference, factor.score, marker="*", color=_RED, markersize=10,
                linestyle="none", label=name)  # fmt: skip
        ax.axhline(factor.score, color=_RED, linewidth=0.6, linestyle="--")
    ax.set_xscale("log")
    ax.set(xlabel="training simulations", ylabel="log density of held-out truths [nats]")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _axes() -> Any:
    from matplotlib.figure import Figure

    # Not pyplot: no global list of figures, so a report of hundreds of plots leaks none.
    return Figure(figsize=(4.5, 3.6), layout="constrained").subplots()
