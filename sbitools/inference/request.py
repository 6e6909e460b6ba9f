"""What a posterior is asked for, checked where it enters."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from sbitools.errors import ObservationError, PosteriorError
from sbitools.gate.arrays import real_tensor
from sbitools.gate.plain import real, whole
from sbitools.labels import is_missing
from sbitools.seeds import check_seed
from sbitools.simulator import FieldSpec

__all__ = ["checked_fields", "checked_request"]


def checked_request(n: Any, seed: Any, limit: Any) -> tuple[int, int, float | None]:
    """Draws per observation, seed (0 if None) and seconds, as Python's numbers.

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
    return count, check_seed(0 if seed is None else seed), limit


def checked_fields(x: Any, observed: FieldSpec) -> Tensor:
    """Observed fields (B, *observed.shape) as a tensor of the dtype of `observed`.

    Raises:
        ObservationError: if x has another shape or dtype, or is not finite.
    """
    x = real_tensor(x, "observation", ObservationError, observed)
    if tuple(x.shape[1:]) != observed.shape or x.ndim == 0:
        raise ObservationError(
            f"observation ({observed.name})",
            expected=f"shape (B, {', '.join(map(str, observed.shape))})",
            got=f"{tuple(x.shape)}", fix="observe simulated fields with posterior.observe "
            "first; put a single field in as x[None]",
        )  # fmt: skip
    if x.dtype != observed.torch_dtype:
        raise ObservationError(
            f"observation ({observed.name})", expected=f"dtype {observed.dtype}",
            got=str(x.dtype).removeprefix("torch."), fix="convert it, and mind the unit",
        )  # fmt: skip
    numbers = math.prod(observed.shape)
    bad = is_missing(x).reshape(len(x), numbers).sum(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ObservationError(
            f"observation ({observed.name})",
            expected="finite values, none of them healpy.UNSEEN",
            got=f"{int(bad[row])} that are not, in row {row}",
            fix="mask them with a mask step of the observation model, in training too",
        )  # fmt: skip
    return x
