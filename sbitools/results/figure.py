"""A corner plot of a posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.display.corner import axis_bounds, corner_figure
from sbitools.errors import PosteriorError
from sbitools.gate.plain import text, whole
from sbitools.parameters import ParameterSpace
from sbitools.seeds import check_seed

from .asked import AskedPosterior, draws_of, one_by_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]

_FEWEST = 20


def plot(
    posterior: AskedPosterior, x: object, truth: Any = None, *, n: int = 4000, seed: int = 0,
    title: str = "",
) -> Figure:  # fmt: skip
    """Marginals of a posterior in one and two dimensions: 68 % and 95 % regions.

    The figure belongs to nobody: pyplot does not know it, no style changes, and
    ``figure.savefig(path)`` writes it. Categorical parameters are left out.

    Args:
        posterior: to draw from.
        x: one observed field, with or without a batch axis.
        truth: theta (P,) to mark, by order or by name; None for none.
        n: draws.
        seed: of the draws.
        title: of the figure.

    Raises:
        ObservationError: if x does not fit.
        PosteriorError: for several observations, a truth of another shape, or a posterior without
            continuous parameters.
    """
    n, seed = whole(n, "n of plot", least=_FEWEST, error=PosteriorError), check_seed(seed)
    title = text(title, "title of plot", error=PosteriorError)
    field, space = one_by_one(posterior, x, "plot"), posterior.parameters
    shown = [i for i, p in enumerate(space) if not p.categories]
    if not shown:
        raise PosteriorError(
            "plot", expected="a continuous parameter", got=f"{space.names}",
            fix="posterior.probabilities has those of categories",
        )  # fmt: skip
    mark = None if truth is None else _truth(truth, space)[shown]
    draws = draws_of(posterior, field, n, seed)[0][:, shown]
    kept = ParameterSpace([space[i] for i in shown])
    bounds = axis_bounds(draws, kept, None if mark is None else mark[None])
    return corner_figure(draws, mark, kept.labels, bounds, title)


def _truth(truth: Any, space: ParameterSpace) -> np.ndarray:
    values = space.table(truth, "truth", PosteriorError).numpy(force=True)
    if values.size != len(space) or not np.isfinite(values).all():
        raise PosteriorError(
            "truth", expected=f"finite numbers for {space.names}", got=f"shape {values.shape}",
            fix="pass one theta",
        )  # fmt: skip
    return values.reshape(-1)
