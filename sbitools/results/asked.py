"""What the results ask of a posterior, and the observations that they pass on."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ObservationError, PosteriorError
from sbitools.gate.arrays import real_tensor
from sbitools.observation.entry import is_one_field, several_fields
from sbitools.parameters import ParameterSpace

__all__ = ["AskedPosterior", "as_batch", "draws_of", "one_by_one"]


class AskedPosterior(Protocol):
    """Anything that can be sampled and has a density; `sbitools.Posterior` says what they mean."""

    @property
    def parameters(self) -> ParameterSpace:
        """Columns of theta."""
        ...

    def sample(self, x: Any, n: int, seed: int | None = None) -> Tensor:
        """Draws (B, n, P)."""
        ...

    def sample_and_log_prob(
        self, x: Any, n: int, seed: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws, and their log density (B, n) in theta."""
        ...

    def log_prob(self, theta: Any, x: Any) -> Tensor:
        """Log density (B, n) of theta (B, n, P)."""
        ...


def as_batch(posterior: AskedPosterior, x: Any) -> tuple[Tensor, bool]:
    """Observed fields (B, *shape), and whether x was one field without a batch axis.

    Raises:
        ObservationError: if x does not fit, or holds no observation.
    """
    spec = getattr(posterior, "observed", None)
    if spec is None:  # a foreign posterior, which does not say what x is
        fields, alone = real_tensor(x, "observation", ObservationError), False
    else:
        fields, alone = several_fields(x, spec), is_one_field(x, spec)
    if not len(fields):
        raise ObservationError(
            "observation", expected="one field or more", got="none", fix="pass the data"
        )
    return fields, alone


def one_by_one(posterior: AskedPosterior, x: Any, what: str) -> Tensor:
    """One observation as a batch of one.

    Raises:
        PosteriorError: for several.
    """
    fields, _ = as_batch(posterior, x)
    if len(fields) != 1:
        raise PosteriorError(
            what, expected="one observation", got=f"{len(fields)}", fix="pass x[i], one at a time"
        )
    return fields


def draws_of(posterior: AskedPosterior, x: Tensor, n: int, seed: int) -> np.ndarray:
    """Draws (B, n, P) as an array."""
    return np.asarray(torch.as_tensor(posterior.sample(x, n, seed=seed)).cpu(), dtype=np.float64)
