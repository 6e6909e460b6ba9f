"""What the repair stage asks besides: why is the posterior different on the reference?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sbitools.calibration.check import Check

    from .run import Run

__all__ = ["attribution", "observed_statistics"]

# The statistics of longer vectors are not their entries: more bins than tests say nothing.
_LONGEST = 64

Statistics = dict[str, Callable[[Any], np.ndarray]]


def attribution(run: Run, posterior: Any) -> list[Check]:
    """Checks of what differs between emulated and reference tests, at equal theta.

    Args:
        run: whose test simulations are used.
        posterior: as it was trained.
    """
    from sbitools.calibration.checks.attribution import attribute
    from sbitools.calibration.drawing.observed_tests import look
    from sbitools.inference.repaired.posterior import unwarned

    statistics, coordinates = observed_statistics(
        posterior.observed.shape, getattr(run.settings, "box_size", None)
    )
    with unwarned():  # reference fields may be unlike emulated ones: that is the question
        sets = [
            look(posterior, run.store(name), statistics, seed=run.seed("repair"))
            for name in ("emulated/test", "reference/test")
        ]
    options = {"false_alarm": run.config.calibrate.false_alarm, "seed": run.seed("repair")}
    return attribute(sets[0], sets[1], coordinates, **options)


def observed_statistics(
    shape: tuple[int, ...], box_size: float | None = None
) -> tuple[Statistics, dict[str, np.ndarray]]:
    """Statistics of observed fields of a shape, and where their bins are.

    Cubes have a power spectrum, short vectors their entries, other fields nothing.

    Args:
        shape: of one observed field.
        box_size: side of a cube, in any unit of length; in cells if None.
    """
    if len(shape) == 1 and shape[0] <= _LONGEST:
        return {"data": np.asarray}, {"data": np.arange(shape[0], dtype=np.float64)}
    if len(shape) != 3 or len(set(shape)) != 1:
        return {}, {}
    from sbitools.statistics import power_spectrum

    side = float(shape[0] if box_size is None else box_size)
    k = power_spectrum(np.zeros(shape, dtype=np.float32), side).k
    return {"power": lambda x: np.asarray(power_spectrum(x, side).power)}, {"power": np.asarray(k)}
