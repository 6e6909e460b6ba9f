"""What a posterior is asked for, checked where it enters."""

from __future__ import annotations

from typing import Any

from sbitools.errors import PosteriorError
from sbitools.gate.plain import real, whole
from sbitools.seeds import check_seed, fresh_seed

__all__ = ["checked_request"]


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
