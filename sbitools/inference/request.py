"""What a posterior is asked for, checked where it enters."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from sbitools.errors import ObservationError, PosteriorError
from sbitools.gate.plain import real, whole
from sbitools.labels import is_missing
from sbitools.observation.entry import several_fields
from sbitools.seeds import check_seed, fresh_seed
from sbitools.simulator import FieldSpec

__all__ = ["checked_fields", "checked_request"]


def checked_request(n: Any, seed: Any, limit: Any) -> tuple[int, int, float | None]:
    """Draws per observation, seed (a new one if None) and seconds, as Python's numbers.

    Raises:
        PosteriorError: for anything else, such as a tuple of draws.
        ParameterError: for what is no seed.
    """
    if isinstance(n, list | tuple) and len(n) == 1:
        raise PosteriorError(
            "n of sample", expected="a whole number of draws per observation", got=f"{n!r}",
            fix=f"pass the number itself, n={n[0]!r}",
        )  # fmt: skip
    count = whole(n, "n of sample", least=0, error=PosteriorError)
    if limit is not None:
        limit = real(limit, "time_limit of sample", least=0, error=PosteriorError)
    return count, fresh_seed() if seed is None else check_seed(seed), limit


def checked_fields(x: Any, observed: FieldSpec) -> Tensor:
    """Observed fields (B, *observed.shape) as a tensor of the dtype of `observed`.

    Raises:
        ObservationError: if x has another shape, does not fit the dtype, or is not finite.
    """
    x = several_fields(x, observed)
    bad = is_missing(x).reshape(len(x), math.prod(observed.shape)).sum(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ObservationError(
            f"observation ({observed.name})",
            expected="finite values, none of them healpy.UNSEEN",
            got=f"{int(bad[row])} that are not, in row {row}",
            fix="mask them with a mask step of the observation model, in training too",
        )  # fmt: skip
    return x
