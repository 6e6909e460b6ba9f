"""The posterior a user samples from: exact support, bounded memory and time, seeded draws."""

from __future__ import annotations

import math
import time
import warnings
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools import seeds as seeds_
from sbitools.display.brief import BriefDict, names_in_brief
from sbitools.embeddings.own import Own
from sbitools.errors import (
    MisspecificationWarning,
    ObservationError,
    PosteriorError,
    TimeLimitError,
)
from sbitools.gate.arrays import real_tensor
from sbitools.labels import require_same_rows
from sbitools.networks.precision import single_precision
from sbitools.observation import Observation
from sbitools.observation.entry import in_dtype
from sbitools.observation.familiarity import Familiarity, data_statistics
from sbitools.parameters import ParameterSpace
from sbitools.results.methods import ResultMethods
from sbitools.simulator import FieldSpec

from .methods import find_method
from .one_or_many import one_or_many
from .pieces import assemble, pieces
from .reach import Reach
from .request import checked_fields, checked_request
from .saved import load, save

__all__ = ["Posterior", "check_time"]

# Numbers per layer of an embedding at once: 256 MB in float32.
_EMBEDDED_NUMBERS = 1 << 26


class Posterior(ResultMethods):
    """An amortised posterior p(theta | x).

    A flow lives in unconstrained coordinates u, and theta is an exact bijection of u (see
    `sbitools.priors`): no draw leaves the prior's support. Nor is there density where the prior
    has no mass, beyond 8 of its standard deviations: see `sbitools.inference.reach`.

    Attributes:
        parameters: the inferred parameters, columns of the draws.
        output: the simulated field it was trained on.
        observation: the observation model it was trained with.
        observed: what x is: `output` after the observation model.
        info: provenance: training history, store digest, excluded simulations.
        training_seeds: seeds of the simulations it was trained on, int64, ascending.
        familiarity: what simulated x look like; sampling warns of an x that is unlike them. None
            for a posterior of fewer than a hundred simulations.

    Example:
        >>> draws = posterior.sample(x_observed, 1000, seed=1)
        >>> density = posterior.log_prob(draws, x_observed)
        >>> draws.shape, density.shape
        (torch.Size([1000, 1]), torch.Size([1000]))
        >>> saved = posterior.save("saved")
        >>> torch.equal(Posterior.load(saved).sample(x_observed, 1000, seed=1), draws)
        True
    """

    normalised = True

    def __init__(
        self,
        estimator: Any,
        options: Any,
        parameters: ParameterSpace,
        output: FieldSpec,
        observation: Observation,
        info: dict[str, Any] | None = None,
        *,
        training_seeds: Tensor | None = None,
    ) -> None:
        self.estimator, self.options, self.parameters = estimator.eval(), options, parameters
        self.output, self.observation = output, observation
        self.observed = observation.output(output)
        self.info = BriefDict(info or {})
        empty = torch.empty(0, dtype=torch.int64)
        self.training_seeds = empty if training_seeds is None else training_seeds.sort().values
        self.familiarity: Familiarity | None = None

    @cached_property
    def reach(self) -> Reach:
        """Where the prior has mass: draws and densities keep to it."""
        return Reach(self.parameters)

    def __repr__(self) -> str:
        return f"Posterior({names_in_brief(self.parameters.names)} | {self.observed.name})"

    @partial(one_or_many, field="output")
    def observe(self, x: Tensor | np.ndarray, seeds: Tensor) -> Tensor:
        """Make simulated fields (B, *output.shape) into observed ones, with noise of `seeds`."""
        x = real_tensor(x, "simulated x", ObservationError, self.output)
        x = in_dtype(x, self.output, "simulated x")
        self.output.check(x, what="simulated x")
        return self.observation(x, seeds)

    @one_or_many
    @single_precision()
    @torch.no_grad()
    def sample(
        self,
        x: Tensor | np.ndarray,
        n: int,
        seed: int | None = None,
        time_limit: float | None = None,
    ) -> Tensor:
        """Draws of theta for each observation.

        Args:
            x: observed fields, shape (B, *observed.shape), or one field of *observed.shape; any
                real dtype, rounded to that of the simulations.
            n: draws per observation.
            seed: row i draws from ``derive(seed, i)``: the same draws for the same number. None:
                new draws at each call; pass a seed to be able to repeat them.
            time_limit: seconds.

        Returns:
            float64 of shape (B, n, P), or (n, P) for one field, inside the prior's support.

        Raises:
            ObservationError: if x has another shape or is not finite.
            PosteriorError: if the network gives no finite draw; the message names the row.
            TimeLimitError: if the time ran out; the message says how far it came.

        Warns:
            MisspecificationWarning: if an x is unlike the simulations of training; the message
                says where it lies outside.
        """
        n, seed, time_limit = checked_request(n, seed, time_limit)
        u, _ = self._draw(x, n, seed, time_limit, density=False)
        return self.parameters.from_unconstrained(u)

    @one_or_many
    @single_precision()
    @torch.no_grad()
    def sample_and_log_prob(
        self,
        x: Tensor | np.ndarray,
        n: int,
        seed: int | None = None,
        time_limit: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `sample`, with the log density of each draw in theta, shape (B, n)."""
        n, seed, time_limit = checked_request(n, seed, time_limit)
        u, log_q = self._draw(x, n, seed, time_limit)
        theta = self.parameters.from_unconstrained(u)
        # From u itself: theta rounded at a bound no longer knows how far out in u it was.
        return theta, log_q + self.parameters.log_abs_det_at(u, theta)

    @one_or_many
    @single_precision()
    @torch.no_grad()
    def log_prob(self, theta: Tensor | np.ndarray, x: Tensor | np.ndarray) -> Tensor:
        """log p(theta | x), natural log, density in theta's own units.

        Args:
            theta: shape (B, P) or (B, n, P); one row of x for each of the B. For one field,
                (P,) or (n, P).
            x: observed fields, shape (B, *observed.shape), or one field.

        Returns:
            float64 of shape (B,) or (B, n), without B for one field; minus infinity where the
            prior has no mass.

        Raises:
            ObservationError: if x has another shape or is not finite.
            PosteriorError: if theta does not fit.
        """
        require_same_rows({"theta": theta, "x": x}, PosteriorError, self._names)
        x, theta = self._check(x), self.parameters.table(theta, error=PosteriorError)
        flat = theta[:, None] if theta.ndim == 2 else theta
        if flat.ndim != 3 or len(flat) != len(x) or flat.shape[2] != len(self.parameters):
            raise PosteriorError(
                "theta", expected=f"shape ({len(x)}, [draws,] {len(self.parameters)})",
                got=f"{tuple(theta.shape)}", fix="one row of theta for each observation",
            )  # fmt: skip
        inside = torch.isfinite(self.parameters.log_prob(flat))
        middle = self.parameters.from_unconstrained(torch.zeros(len(self.parameters)))
        safe = torch.where(inside[..., None], flat, middle)
        u = self.parameters.to_unconstrained(safe)
        inside &= self.reach.inside(u)
        features = self._features(x)
        parts = [
            self.estimator.log_prob(u[rows, start:stop], features[rows])
            for rows, start, stop in pieces(len(x), flat.shape[1])
        ]
        log_q = assemble(parts, len(x), flat.shape[1]) + self.parameters.log_abs_det(safe)
        self._require_finite(torch.where(log_q.isnan() & inside, torch.nan, 0.0), "log density")
        log_q = log_q - self._log_mass(features)
        result = log_q.where(inside, torch.tensor(-torch.inf, dtype=torch.float64))
        return result[:, 0] if theta.ndim == 2 else result

    @one_or_many
    @single_precision()
    @torch.no_grad()
    def features(self, x: Tensor | np.ndarray) -> Tensor:
        """What the network makes of observed fields, shape (B, F) float32: learned summaries.

        Raises:
            ObservationError: if x has another shape or is not finite.
        """
        return self._features(self._check(x)).cpu()

    @one_or_many
    @single_precision()
    @torch.no_grad()
    def latent(self, theta: Tensor | np.ndarray, x: Tensor | np.ndarray, seed: int = 0) -> Tensor:
        """z (B, P) of theta (B, P): standard normal for an exact posterior.

        Args:
            theta: inside the prior's support.
            x: observed fields, shape (B, *observed.shape).
            seed: of the choice of a member, for an ensemble.

        Raises:
            ObservationError: if x has another shape or is not finite.
            PosteriorError: if this method has no latent space, or theta does not fit.
        """
        if not hasattr(self.estimator, "latent"):
            raise PosteriorError(
                "latent", expected="a method that maps theta to a normal latent",
                got=str(self.options.method), fix="use npe, fmpe, npse or discrete",
            )  # fmt: skip
        require_same_rows({"theta": theta, "x": x}, PosteriorError, self._names)
        x, u = self._check(x), self.parameters.to_unconstrained(self.parameters.check(
            self.parameters.table(theta, error=PosteriorError)))  # fmt: skip
        rng = seeds_.generator(seeds_.check_seed(seed))
        return self.estimator.latent(u[:, None], self._features(x), rng)[:, 0].cpu()

    def together(self, members: int) -> Any:
        """The posterior given so many independent observations of one theta: x (B, members, ...).

        It multiplies what was learned of one observation, see
        `sbitools.inference.together.TogetherPosterior`, and is asked like this one.

        Args:
            members: observations of each theta, in any order.

        Raises:
            PosteriorError: if this method has learned no likelihood or ratio of one observation.
        """
        make = find_method(self.options.method).together
        if make is None:
            raise PosteriorError(
                "together", expected="method nle or nre, which learn p(x | theta) up to a factor",
                got=self.options.method, fix="train nle or nre on single observations, or this "
                "method on sets: a FieldSpec of one, spec.set_of(members), says that x is a set",
            )  # fmt: skip
        return make(self, members)

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self.parameters.names, *self.observed.dims)

    def _check(self, x: Tensor | np.ndarray) -> Tensor:
        return checked_fields(x, self.observed)

    def _features(self, x: Tensor, deadline: float = math.inf, asked: str = "") -> Tensor:
        """Features of all fields, embedded a few at a time."""
        per = max(1, _EMBEDDED_NUMBERS // (max(1, math.prod(x.shape[1:])) * self.options.channels))
        parts = []
        for i in range(0, len(x), per):
            check_time(deadline, asked, f"{i} observations embedded")
            parts.append(self.estimator.features(x[i : i + per]))
        return torch.cat(parts) if parts else torch.empty(0, 0)

    def _draw(
        self, x: Tensor | np.ndarray, n: int, seed: int, limit: float | None,
        density: bool = True,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """u (B, n, P) and log q(u | x) (B, n); the latter may be NaN without `density`."""
        x, n_parameters = self._check(x), len(self.parameters)
        if not len(x) or n < 1:
            return torch.empty(len(x), max(n, 0), n_parameters, dtype=torch.float64), torch.empty(
                len(x), max(n, 0), dtype=torch.float64
            )
        deadline = math.inf if limit is None else time.monotonic() + limit
        asked = f"{len(x)} x {n} draws in {limit} s"
        features = self._features(x, deadline, asked)
        warned, moved = self._warn_of(x, features), []
        row_seeds = [seeds_.derive(seed, i) for i in range(len(x))]
        u, log_q = [], []
        held: tuple[slice, Tensor] | None = None
        for rows, start, stop in pieces(len(x), n):
            check_time(deadline, asked, f"{rows.start} observations and {start} draws of the next")
            if held is None or held[0] != rows:
                held = rows, seeds_.normal(row_seeds[rows], (n, self.estimator.n_latents))
            z = held[1][:, start:stop]
            values, log_prob = self.estimator.draw(z, features[rows], density)
            u.append(values.cpu())
            log_q.append(log_prob.cpu())
            if self.reach.bounded:
                moved += [rows.start + i for i in self.reach.again(
                    u[-1], log_q[-1], self.estimator, features[rows], row_seeds[rows], start,
                    density,
                )]  # fmt: skip
        draws = assemble(u, len(x), n, n_parameters)
        self._require_finite(draws)
        if moved and not warned:
            warnings.warn(
                f"observations {moved[:10]}: less than 5 % of the posterior lies where its prior "
                "has mass; draws were moved to the edge and mean nothing: check unit, mask, noise "
                "and content of x", MisspecificationWarning, stacklevel=6,
            )  # fmt: skip
        log_prob = assemble(log_q, len(x), n)
        return draws, log_prob - self._log_mass(features) if density else log_prob

    def _log_mass(self, features: Tensor) -> Tensor:
        """log of the network's mass where the prior has any, (B, 1): what densities lack."""
        if not (self.normalised and self.reach.bounded):
            return torch.zeros(1, 1, dtype=torch.float64)
        return self.reach.log_mass(self.estimator, features)[:, None]

    def _warn_of(self, x: Tensor, features: Tensor, level: int = 7) -> bool:
        """Warn if an observation is unlike the simulations of training; whether it was done."""
        if self.familiarity is None:
            return False
        seen = data_statistics(self.comparable(x.cpu()))
        text = self.familiarity.warning(features.cpu(), seen)
        if text:
            # Up to the line of the user's own code that asked for draws.
            warnings.warn(text, MisspecificationWarning, stacklevel=level)
        return bool(text)

    def comparable(self, x: Tensor) -> Tensor:
        """x (B, *shape); of several data products, all in units of their own spread."""
        if self.observed.parts is None:
            return x
        scale = torch.arange(2.0)[:, None].expand(2, *self.observed.shape)
        zero, one = self.estimator.embedding.unscaled(scale).cpu()
        return (x - zero) / (one - zero)

    @staticmethod
    def _require_finite(values: Tensor, what: str = "sampling") -> None:
        bad = ~torch.isfinite(values).flatten(1).all(1)
        if bool(bad.any()):
            raise PosteriorError(
                what, expected="finite numbers",
                got=f"others for observations {bad.nonzero().flatten().tolist()[:10]}",
                fix="these fields are far from the training set: check their units and content",
            )  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint folder; see `sbitools.checkpoint`."""
        return save(self, path)

    @classmethod
    def load(
        cls, path: str | Path, device: str | torch.device = "cpu",
        embedding: Own | None = None,
    ) -> Posterior:  # fmt: skip
        """Read what `save` wrote; the weights and a stored probe output are verified.

        A checkpoint of `sbitools.repair` gives the repaired posterior.

        Args:
            path: of the checkpoint.
            device: torch device.
            embedding: the module that it was trained with, if that was one of your own; of several
                data products, these by the names of fields.

        Raises:
            CheckpointError: if the checkpoint is damaged, foreign, or computes something else.
            ConfigError: for a device that this machine does not have.
        """
        return load(path, device, embedding=embedding)

    def _probe_at(self, x: Tensor, seeds: list[int]) -> Tensor:
        """Numbers that depend on every weight, for fields x and made-up parameters."""
        u = seeds_.normal(seeds, (1, len(self.parameters)))
        return self.estimator.log_prob(u, self.estimator.features(x))


def check_time(deadline: float, asked: str, done: str) -> None:
    """Raise `TimeLimitError` if the time ran out."""
    if time.monotonic() > deadline:
        raise TimeLimitError(
            "sampling", expected=asked, got=done, fix="raise time_limit, or ask for fewer draws"
        )
