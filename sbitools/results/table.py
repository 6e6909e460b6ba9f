"""A posterior as a table: one row per parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.errors import PosteriorError
from sbitools.gate.plain import real, whole
from sbitools.parameters import ParameterSpace
from sbitools.seeds import check_seed

from .asked import AskedPosterior, as_batch, draws_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["QUANTILES", "shortest", "summary"]

QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)
# Of the diagnostics of chains, where there are any: what draws of a network do not need.
_CHAINS = ("ess_bulk", "ess_tail", "r_hat")


def summary(
    posterior: AskedPosterior, x: object, *, n: int = 4000, seed: int = 0,
    quantiles: Sequence[float] = QUANTILES, hdi: float = 0.95,
) -> pd.DataFrame:  # fmt: skip
    """Mean, standard deviation, quantiles and shortest interval of each parameter.

    Args:
        posterior: to draw from.
        x: observed fields (B, *shape), or one field.
        n: draws for each observation. Those of a network are independent: the error of the mean is
            sd / sqrt(n).
        seed: of the draws; the same table for the same number.
        quantiles: in (0, 1).
        hdi: mass of the shortest interval (highest density, if there is one peak).

    Returns:
        One row per parameter, by name; for several observations one per ``(observation,
        parameter)``. Columns ``unit``, ``mean``, ``sd``, the quantiles (``"16%"``), and ``"hdi
        95% low"`` and ``high``. Posteriors that are sampled by chains add ``ess_bulk``,
        ``ess_tail`` and ``r_hat`` of ArviZ, of all steps of the chains. Rows of categorical
        parameters have no numbers but ``category``, the most probable one, and ``probability``.

    Raises:
        ObservationError: if x does not fit.
        PosteriorError: for numbers out of range.
    """
    import pandas as pd

    n, seed = whole(n, "n of summary", least=2, error=PosteriorError), check_seed(seed)
    hdi = real(hdi, "hdi of summary", above=0, most=1, error=PosteriorError)
    levels = [real(q, "quantiles of summary", least=0, most=1, error=PosteriorError)
              for q in quantiles]  # fmt: skip
    fields, alone = as_batch(posterior, x)
    space = posterior.parameters
    draws = draws_of(posterior, fields, n, seed)
    chains = getattr(posterior, "diagnostics", None)
    tables = []
    for b, own in enumerate(draws):
        table = _of_one(own, space, levels, hdi)
        for name in _CHAINS if chains is not None else ():
            table[name] = getattr(chains, name)[b]
        tables.append(table)
    if alone or len(tables) == 1:
        return tables[0]
    return pd.concat(tables, keys=range(len(tables)), names=["observation", "parameter"])


def _of_one(
    draws: np.ndarray, space: ParameterSpace, levels: Sequence[float], hdi: float
) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for p, column in zip(space, draws.T, strict=True):
        row: dict[str, Any] = {"parameter": p.name, "unit": p.unit}
        if p.categories:
            shares = np.bincount(column.astype(int), minlength=len(p.categories)) / len(column)
            best = int(shares.argmax())
            row |= {"category": p.categories[best], "probability": shares[best]}
        else:
            low, high = shortest(column, hdi)
            row |= {"mean": column.mean(), "sd": column.std(ddof=1)}
            row |= {f"{100 * q:g}%": np.quantile(column, q) for q in levels}
            row |= {f"hdi {100 * hdi:g}% low": low, f"hdi {100 * hdi:g}% high": high}
        rows.append(row)
    return pd.DataFrame(rows).set_index("parameter")


def shortest(column: np.ndarray, mass: float) -> tuple[float, float]:
    """Ends of the shortest interval that holds a share `mass` of draws (n,)."""
    ordered = np.sort(column)
    held = min(int(np.floor(mass * len(ordered))), len(ordered) - 1)
    first = int((ordered[held:] - ordered[: len(ordered) - held]).argmin())
    return float(ordered[first]), float(ordered[first + held])
