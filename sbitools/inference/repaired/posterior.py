"""What repaired posteriors share: the interface of `Posterior`, a base, and how they are saved."""

from __future__ import annotations

import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sbitools.checkpoint import checkpoint_kind, load_checkpoint, save_checkpoint
from sbitools.display.brief import BriefDict
from sbitools.errors import MisspecificationWarning, ObservationError, PosteriorError
from sbitools.gate.arrays import real_tensor
from sbitools.inference.one_or_many import one_or_many
from sbitools.inference.request import checked_request
from sbitools.inference.saved import load
from sbitools.labels import require_same_rows
from sbitools.observation.entry import several_fields
from sbitools.parameters import ParameterSpace
from sbitools.results.methods import ResultMethods
from sbitools.seeds import derive

from .scores import MarginalScores

__all__ = [
    "KIND", "N_SCORE_DRAWS", "RepairedPosterior", "base_marginals", "inside_support", "unwarned",
]  # fmt: skip

KIND = "repaired posterior"

# Draws per observation by which a repair knows the base posterior's marginals, and their seed: a
# repaired density is a function of theta and x alone, so both are constants.
N_SCORE_DRAWS = 1000
_SCORE_SEED = derive(0, 71)


class RepairedPosterior(ResultMethods, ABC):
    """A posterior made of another one, its base, and of few numbers fitted to reference tests.

    It has the methods and attributes of `sbitools.Posterior`. For each observation it also takes
    1,000 draws from its base, always the same ones, to know the base's marginals.

    Attributes:
        base: the posterior that was repaired.
        info: provenance; ``info["repair"]`` is the judgement on held-out reference simulations.
        training_seeds: seeds of the simulations that trained the base or fitted the repair.
    """

    method: ClassVar[str]

    def __init__(
        self, base: Any, info: dict[str, Any] | None = None, training_seeds: Tensor | None = None
    ) -> None:
        self.base = base
        self.info = BriefDict(base.info if info is None else info)
        empty = torch.empty(0, dtype=torch.int64)
        seeds = (
            getattr(base, "training_seeds", empty) if training_seeds is None else training_seeds
        )
        self.training_seeds = seeds.unique()
        self._kept: tuple[Tensor, MarginalScores, Tensor] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base!r})"

    def __getattr__(self, name: str) -> Any:
        # What a repair leaves as it was: parameters, output, observation, observed, options, ...
        if name in _DELEGATED:
            return getattr(self.base, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def observe(self, x: Tensor | np.ndarray, seeds: Tensor) -> Tensor:
        """See `Posterior.observe`."""
        return self.base.observe(x, seeds)

    def features(self, x: Tensor | np.ndarray) -> Tensor:
        """See `Posterior.features`."""
        return self.base.features(x)

    @one_or_many
    def sample(
        self,
        x: Tensor | np.ndarray,
        n: int,
        seed: int | None = None,
        time_limit: float | None = None,
    ) -> Tensor:
        """See `Posterior.sample`."""
        n, seed, time_limit = checked_request(n, seed, time_limit)
        return self.sample_and_log_prob(x, n, seed, time_limit)[0]

    @abstractmethod
    def sample_and_log_prob(
        self,
        x: Tensor | np.ndarray,
        n: int,
        seed: int | None = None,
        time_limit: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Posterior.sample_and_log_prob`."""

    @abstractmethod
    def log_prob(self, theta: Tensor | np.ndarray, x: Tensor | np.ndarray) -> Tensor:
        """See `Posterior.log_prob`."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Plain values and tensors from which `from_state` rebuilds the repair."""

    @classmethod
    @abstractmethod
    def from_state(
        cls, base: Any, values: dict[str, Any], tensors: dict[str, Tensor], **common: Any
    ) -> Self:
        """Inverse of `state`."""

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint folder that holds the base as well."""
        values, tensors = self.state()
        config = {"method": self.method, "values": values, "info": self.info}
        return _save_with_base(path, self.base, config, tensors | {"seeds": self.training_seeds})

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Any:
        """Read what `save` wrote, whichever repair it is.

        Raises:
            CheckpointError: if the checkpoint is damaged, foreign, or computes something else.
        """
        return load(path, device, KIND)

    def _pair(self, theta: Any, x: Any) -> tuple[Tensor, Tensor]:
        """Theta and x, of the same rows, without their labels."""
        spec = getattr(self.base, "observed", None)  # a foreign posterior may not say
        names = (*self.parameters.names, *(() if spec is None else spec.dims))
        require_same_rows({"theta": theta, "x": x}, PosteriorError, names)
        return self.parameters.table(theta, error=PosteriorError), self._fields(x)

    def _fields(self, x: Any) -> Tensor:
        """x (B, *shape) without its labels, in the dtype of the base."""
        spec = getattr(self.base, "observed", None)
        if spec is None:
            return real_tensor(x, "observation", ObservationError)
        return several_fields(x, spec)

    def marginals(
        self, x: Tensor | np.ndarray, time_limit: float | None = None
    ) -> tuple[MarginalScores, Tensor]:
        """Normal scores of the base's marginals at x (B, *shape), and the draws' scores (B, L, P).

        Each observation is drawn for alone, so that nothing depends on the batch it is in.

        Raises:
            TimeLimitError: if the base did not draw within `time_limit` seconds.
        """
        x = self._fields(x)
        if self._kept is None or not torch.equal(self._kept[0], x):
            scores, draws = base_marginals(self.base, x, time_limit)
            self._kept = x.clone(), scores, draws
        return self._kept[1], self._kept[2]


def base_marginals(
    base: Any, x: Tensor, time_limit: float | None = None
) -> tuple[MarginalScores, Tensor]:
    """Scores of a posterior's marginals at x, and those of the draws they are made of."""
    space, draws = base.parameters, []
    deadline = None if time_limit is None else time.monotonic() + time_limit
    with unwarned():
        for row in x:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            draws.append(base.sample(row[None], N_SCORE_DRAWS, _SCORE_SEED, left))
    stacked = torch.cat(draws) if draws else torch.zeros(0, N_SCORE_DRAWS, len(space))
    u = space.to_unconstrained(stacked)
    scores = MarginalScores(u)
    return scores, scores.forward(u)[0]


@contextmanager
def unwarned() -> Iterator[None]:
    """No warnings of observations unlike training, which reference simulations may well be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MisspecificationWarning)
        yield


_DELEGATED = frozenset(
    {"parameters", "output", "observation", "observed", "options", "estimator", "familiarity"}
)


def _save_with_base(
    path: str | Path, base: Any, config: dict[str, Any], tensors: dict[str, Tensor]
) -> Path:
    """One checkpoint of a repair and its base: whole or absent, like any other."""
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(base.save(Path(folder) / "base"))
        kind = checkpoint_kind(inner)
        base_config, base_tensors = load_checkpoint(inner, kind)
    config = config | {"base": {"kind": kind, "config": base_config}}
    named = {f"own.{k}": v for k, v in tensors.items()}
    named |= {f"base.{k}": v for k, v in base_tensors.items()}
    return save_checkpoint(path, KIND, config, named)


def inside_support(
    theta: Tensor, x: Tensor, space: ParameterSpace
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Theta (B, n, P) with what is outside the prior replaced by its middle, for `log_prob`.

    Returns:
        theta; which of them were inside (B, n); and a function that gives a result (B, n) the
        shape the caller's theta asks for.

    Raises:
        PosteriorError: if theta does not fit.
    """
    flat = theta[:, None] if theta.ndim == 2 else theta
    if flat.ndim != 3 or len(flat) != len(x) or flat.shape[2] != len(space):
        raise PosteriorError(
            "theta", expected=f"shape ({len(x)}, [draws,] {len(space)})",
            got=f"{tuple(theta.shape)}", fix="one row of theta for each observation",
        )  # fmt: skip
    inside = torch.isfinite(space.log_prob(flat))
    middle = space.from_unconstrained(torch.zeros(len(space)))
    safe = torch.where(inside[..., None], flat, middle)
    return safe, inside, lambda value: value[:, 0] if theta.ndim == 2 else value
