"""The methods that every kind of posterior has beside sampling and its density."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sbitools.display.brief import brief, cut, table_html
from sbitools.errors import PosteriorError

from . import conditional, peak, plot, reweight, summary
from .table import QUANTILES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from . import ConditionalDensity, Evidence, ImportanceSample

__all__ = ["ResultMethods"]

_ROWS = 15  # of a table in a notebook


class ResultMethods:
    """For classes that can be asked like a posterior: see `sbitools.results.asked`."""

    def map(self: Any, x: Any, *, n: int = 2000, seed: int = 0) -> Tensor:
        """The theta of highest density, (B, P) or (P,): see `sbitools.results.peak`."""
        return peak(self, x, n=n, seed=seed)

    def summary(
        self: Any, x: Any, *, n: int = 4000, seed: int = 0,
        quantiles: Sequence[float] = QUANTILES, hdi: float = 0.95,
    ) -> pd.DataFrame:  # fmt: skip
        """Mean, sd, quantiles and shortest intervals: see `sbitools.results.summary`."""
        return summary(self, x, n=n, seed=seed, quantiles=quantiles, hdi=hdi)

    def plot(
        self: Any, x: Any, truth: Any = None, *, n: int = 4000, seed: int = 0, title: str = ""
    ) -> Figure:
        """Corner plot of one observation, a matplotlib figure: see `sbitools.results.plot`."""
        return plot(self, x, truth, n=n, seed=seed, title=title)

    def conditional(
        self: Any, x: Any, fixed: Mapping[str, Any], *, points: int | None = None
    ) -> ConditionalDensity:
        """Density of one or two parameters at fixed others: see `sbitools.results.conditional`."""
        return conditional(self, x, fixed, points=points)

    def reweight(
        self: Any, x: Any, log_likelihood: Callable[..., Any], *, n: int = 10_000, seed: int = 0
    ) -> ImportanceSample:
        """Weights by a likelihood, and the evidence: see `sbitools.results.reweight`."""
        return reweight(self, x, log_likelihood, n=n, seed=seed)

    def evidence(
        self: Any, x: Any, *, n: int = 4000, seed: int = 0, time_limit: float | None = None
    ) -> Evidence:
        """log p(x), of a posterior that has learned a likelihood (method ``"nle"``).

        Raises:
            PosteriorError: for every other.
        """
        method = getattr(getattr(self, "options", None), "method", type(self).__name__)
        raise PosteriorError(
            "evidence", expected="a posterior of single observations that knows p(x | theta): one "
            "of method 'nle'", got=f"{type(self).__name__} of method {method!r}",
            fix="train with method='nle'; or pass a likelihood of your own to "
            "posterior.reweight; or compare models by sbitools.train_models",
        )  # fmt: skip

    def _repr_html_(self: Any) -> str:
        space = self.parameters
        rows = [(p.name, p.unit, brief(p.prior)) for p in space[:_ROWS]]
        rows += [("...", "", f"{len(space)} in all")] if len(space) > _ROWS else []
        return table_html(cut(repr(self)), rows, ("parameter", "unit", "prior"))
