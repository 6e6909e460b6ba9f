"""Credible regions that cover: conformal levels for regions of highest density.

The credibility of a truth is the posterior mass at higher density than the truth's: its region of
highest density is the smallest that contains it. If the credibilities of N reference truths are
exchangeable with that of a new one, the region of the k-th smallest of them, k = ceil((N + 1) c),
contains the new truth with probability c or more, whatever the posterior (Vovk et al. 2005;
for posteriors: Cabezas et al. 2025, CP4SBI, arXiv:2508.17077).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sbitools.errors import ConfigError

__all__ = ["ConformalLevel", "conformal_level"]


@dataclass(frozen=True)
class ConformalLevel:
    """The credibility to ask for, to get a wanted coverage.

    Args:
        coverage: what was wanted.
        credibility: of the region of highest density that is to be used; 1 is all of parameter
            space, which is the answer where N is too small.
        low: with these N reference simulations, the region's coverage is above this with
            probability 97.5 %.
        high: it is below this with probability 97.5 %.
        n: N.
    """

    coverage: float
    credibility: float
    low: float
    high: float
    n: int


def conformal_level(levels: Sequence[float] | np.ndarray, coverage: float) -> ConformalLevel:
    """Credibility of the region of highest density that covers with probability `coverage`.

    The guarantee is exact, at finite N, for levels of a posterior that was not fitted to the same
    simulations (`Judgement.levels_before`). For cross-fitted levels of a repaired posterior
    (`Judgement.levels`), 2 coverage - 1 is guaranteed, and `coverage` is what is usually found
    (Barber et al. 2021, "Predictive inference with the jackknife+", arXiv:1905.02928).

    Args:
        levels: credibilities of reference truths, in [0, 1], shape (N,), of independent
            simulations.
        coverage: wanted, in (0, 1).

    Raises:
        ConfigError: for levels or a coverage out of range.
    """
    from scipy.stats import beta

    values = np.sort(np.asarray(levels, dtype=np.float64))
    ok = values.ndim == 1 and len(values) and bool(((values >= 0) & (values <= 1)).all())
    if not ok or not 0 < coverage < 1:
        raise ConfigError(
            "conformal_level", expected="levels in [0, 1], and a coverage in (0, 1)",
            got=f"{len(values)} levels, coverage {coverage!r}", fix="pass Judgement.levels",
        )  # fmt: skip
    n = len(values)
    # A product that should be whole, as 20 x 0.95, must not be rounded up by its last bit.
    k = int(np.ceil((n + 1) * coverage - 1e-9))
    if k > n:
        return ConformalLevel(coverage, 1.0, 1.0, 1.0, n)
    low, high = beta.ppf([0.025, 0.975], k, n + 1 - k)
    return ConformalLevel(coverage, float(values[k - 1]), float(low), float(high), n)
