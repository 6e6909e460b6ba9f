"""A posterior that another package trained, behind the interface of `sbitools.Posterior`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.display.brief import names_in_brief
from sbitools.errors import ObservationError, PosteriorError
from sbitools.gate.arrays import real_tensor
from sbitools.inference.one_or_many import one_or_many
from sbitools.inference.repaired.posterior import inside_support
from sbitools.inference.request import checked_fields, checked_request
from sbitools.labels import require_same_rows
from sbitools.observation import Observation
from sbitools.parameters import ParameterSpace, as_space
from sbitools.results.methods import ResultMethods
from sbitools.seeds import derive
from sbitools.simulator import FieldSpec, as_spec
from sbitools.store.access import as_store
from sbitools.store.marks import sketch

from .asked import Asked
from .checks import check_prior, check_shapes, order_of
from .rounding import ends, from_single, in_order, to_single

__all__ = ["ForeignPosterior"]

_AGAIN, _MASS = 91, 92  # keys of the seeds of draws that replace others, and of counted ones
# Draws outside the prior are drawn again, so many at a time. After this many, less than one in
# twenty of them inside is hopeless.
_FEWEST, _LARGEST, _ENOUGH, _LEAST = 64, 1 << 12, 1 << 10, 0.05
# Draws that show whether anything lies outside the prior, and those that say how much.
_LOOK, _MEASURE = 128, 1 << 10
# More numbers of x than this are no use as features: as many, evenly spaced, stand for them.
_FEATURES = 1 << 12


class ForeignPosterior(ResultMethods):
    """A posterior of `sbi`, or anything that samples like one, for calibrate, repair and report.

    `calibrate` runs all its checks but the one of the latent space, which only our networks have.
    `repair` recalibrates and reweights it; the network itself is not trained further.

    - Draws outside the prior are drawn again, as `sbi` does, and densities are divided by the
      share inside: counted among 128 draws of each observation, and among 1,152 if one of them is
      outside: an error of 0.03 where half of them are. With less than about a twentieth inside
      it raises.
    - Draws depend on the seed and on the other observations of the call; global generators are
      left as they were. Densities depend on theta and x (the share, within its error, also on the
      other observations).
    - `sbi` computes in float32: a draw that rounding alone put beyond the support is at its end.
    - An `EnsemblePosterior`, and all that has no `log_prob_batched`, gives densities one
      observation at a time, which is slow: ``calibrate(..., checks=("sbc", "tarp"))`` needs none.

    Args:
        posterior: a `DirectPosterior`, `MCMCPosterior`, `EnsemblePosterior`, ... of `sbi`, or any
            object with ``sample(sample_shape, x=...)`` and ``log_prob(theta, x=...)``. x is passed
            as float32 (1, *shape). ``sample_batched(sample_shape, x=...)`` and
            ``log_prob_batched(theta, x)`` are used if there.
        parameters: the prior it was trained with; those inferred are the columns of its theta.
        output: what a simulated field is.
        observe: observation model it was trained with: one step or several, or an `Observation`.
        prepare: what was done to observed fields (B, *shape) before it got them: scaling,
            flattening, a summary; None for nothing.
        order: names of its columns of theta, where they are in another order than `parameters`.
        normalised: whether its `log_prob` is a normalised density; None for what its class says:
            not for a `MCMCPosterior` or `RejectionPosterior`.
        trained_on: store of the simulations it was trained on, which `calibrate` then refuses.

    Attributes:
        parameters: the inferred parameters, columns of the draws.
        output: the simulated field.
        observation: the observation model.
        observed: what x is: `output` after the observation model.
        info: provenance.
        training_seeds: of the simulations of `trained_on`.

    Raises:
        PosteriorError: for an object that cannot sample.
        ParameterError: if its own prior (attribute `prior`) is another one, or its parameters are
            more or fewer.
        ObservationError: if it wants fields of another shape.

    Example:
        >>> from sbi.inference import NPE
        >>> from sbitools import bridge
        >>> with seeds.seeded_globals(1):
        ...     theirs = NPE(bridge.prior_for_sbi(space), "mdn", show_progress_bars=False)
        ...     network = theirs.append_simulations(*bridge.theta_and_x(store)).train()
        ...     trained = theirs.build_posterior()
        Neural network successfully converged after ... epochs.
        >>> foreign = ForeignPosterior(trained, space, field, trained_on=store)
        >>> foreign.sample(x_observed, 1000, seed=1).shape
        torch.Size([1000, 1])
    """

    familiarity = None

    def __init__(
        self,
        posterior: Any,
        parameters: ParameterSpace,
        output: FieldSpec,
        *,
        observe: Any = None,
        prepare: Callable[[Tensor], Tensor] | None = None,
        order: Sequence[str] | None = None,
        normalised: bool | None = None,
        trained_on: Any = None,
    ) -> None:
        self._asked = Asked(posterior)
        self.parameters, self.output = as_space(parameters).inferred, as_spec(output)
        self.observation = Observation.of(observe).bind(self.output)
        self.observed = self.observation.output(self.output)
        self._prepare = prepare
        self._to_ours, self._to_theirs = order_of(order, self.parameters)
        self.normalised = self._asked.normalised if normalised is None else bool(normalised)
        self.info: dict[str, Any] = {"method": "foreign", "class": type(posterior).__qualname__}
        self.training_seeds = torch.empty(0, dtype=torch.int64)
        if trained_on is not None:
            self._learnt(as_store(trained_on, "trained_on"))
        ones = torch.ones((1, *self.observed.shape)).to(self.observed.torch_dtype)
        check_shapes(posterior, self.parameters, self._given(ones))
        check_prior(posterior, self.parameters, self._to_theirs)
        bounded = bool(torch.stack(ends(self.parameters)).isfinite().any())
        self._bounded = bounded or in_order(self.parameters)
        self._known: tuple[Tensor, Tensor] | None = None

    def __repr__(self) -> str:
        names = names_in_brief(self.parameters.names)
        return f"ForeignPosterior({self.info['class']}: {names} | {self.observed.name})"

    def _learnt(self, store: Any) -> None:
        rows = store.done
        self.training_seeds = store.seeds[torch.from_numpy(rows)].unique()
        self.info |= {"store": store.digest(), "simulations": sketch(store, rows)}

    def observe(self, x: Tensor | np.ndarray, seeds: Tensor) -> Tensor:
        """See `sbitools.Posterior.observe`."""
        x = real_tensor(x, "simulated x", ObservationError, self.output)
        self.output.check(x, what="simulated x")
        return self.observation(x, seeds)

    @one_or_many
    def sample(
        self,
        x: Tensor | np.ndarray,
        n: int,
        seed: int | None = None,
        time_limit: float | None = None,
    ) -> Tensor:
        """Draws (B, n, P) float64 inside the prior, for observed fields (B, *observed.shape).

        Args:
            x: observed fields, or one without a batch axis, whose draws have none either.
            n: draws per observation.
            seed: of the global generators while the foreign posterior draws; None: new draws.
            time_limit: seconds.

        Raises:
            ObservationError: if x has another shape or dtype or is not finite.
            PosteriorError: if the posterior raises, or nearly all its draws are outside the prior.
            TimeLimitError: if the time ran out, as far as the foreign posterior minds it.
        """
        n, seed, time_limit = checked_request(n, seed, time_limit)
        x = checked_fields(x, self.observed)
        if not len(x) or not n:
            return torch.empty(len(x), n, len(self.parameters), dtype=torch.float64)
        return self._inside(self._given(x), n, seed, time_limit)

    @one_or_many
    def sample_and_log_prob(
        self,
        x: Tensor | np.ndarray,
        n: int,
        seed: int | None = None,
        time_limit: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `sample`, with the log density of each draw, shape (B, n)."""
        theta = self.sample(x, n, seed, time_limit)
        return theta, self.log_prob(theta, x)

    @one_or_many
    def log_prob(self, theta: Tensor | np.ndarray, x: Tensor | np.ndarray) -> Tensor:
        """log p(theta | x), natural log, in theta's own units; see `normalised`.

        Args:
            theta: shape (B, P) or (B, n, P); one row of x for each of the B.
            x: observed fields, shape (B, *observed.shape).

        Returns:
            float64 of shape (B,) or (B, n); minus infinity outside the prior.

        Raises:
            ObservationError: if x has another shape or dtype or is not finite.
            PosteriorError: if theta does not fit, or a density is no number.
        """
        names = (*self.parameters.names, *self.observed.dims)
        require_same_rows({"theta": theta, "x": x}, PosteriorError, names)
        x, values = checked_fields(x, self.observed), self.parameters.table(
            theta, error=PosteriorError)  # fmt: skip
        flat, inside, flatten = inside_support(values, x, self.parameters)
        if not flat.numel():
            return flatten(flat.sum(-1))
        given = self._given(x)
        log_q = self._asked.log_prob(
            to_single(flat, self.parameters)[..., self._to_theirs], given
        ) - self._log_mass(given)  # fmt: skip
        bad = (log_q.isnan() & inside).any(1).nonzero()[:, 0]
        if len(bad):
            raise PosteriorError(
                "log_prob of the foreign posterior", expected="numbers",
                got=f"NaN for observations {bad.tolist()[:10]}",
                fix="these fields are far from the training set: check their units and content",
            )  # fmt: skip
        return flatten(log_q.where(inside, torch.tensor(-torch.inf, dtype=torch.float64)))

    def features(self, x: Tensor | np.ndarray) -> Tensor:
        """What the posterior's embedding makes of x, or x itself, shape (B, F) float32.

        `repair` looks for what truths have in common with them. Of more than 4,096 numbers,
        evenly spaced ones are taken.

        Raises:
            ObservationError: if x has another shape or dtype or is not finite.
        """
        values = self._asked.features(self._given(checked_fields(x, self.observed)))
        step = -(-values.shape[1] // _FEATURES)
        return values[:, ::step] if step > 1 else values

    def save(self, path: str | Path) -> Path:
        """Raise: no file of ours can hold the code of another package.

        Raises:
            PosteriorError: always.
        """
        raise PosteriorError(
            f"saving to {path}", expected="a posterior of sbitools.train, whose parts have names",
            got=f"{self!r}, whose code is foreign",
            fix="save it by its own package, and wrap it again when it is loaded",
        )  # fmt: skip

    def _given(self, x: Tensor) -> Tensor:
        """Observed fields as the foreign posterior takes them."""
        given = x if self._prepare is None else self._prepare(x)
        if not isinstance(given, Tensor) or given.is_complex() or given.shape[:1] != x.shape[:1]:
            got = type(given).__name__ if not isinstance(given, Tensor) else (
                f"{given.dtype} of shape {tuple(given.shape)}")  # fmt: skip
            raise ObservationError(
                "prepare(x)", expected=f"a tensor of real numbers with {len(x)} rows", got=got,
                fix="keep the batch axis first",
            )  # fmt: skip
        return given.float()

    def _ask(self, given: Tensor, n: int, seed: int, limit: float | None = None) -> Tensor:
        """Draws (B, n, P) in our order, some of them outside the prior."""
        theirs = self._asked.draws(given, n, seed, limit)
        if theirs.shape[-1] != len(self.parameters):
            raise PosteriorError(
                "draws of the foreign posterior", got=f"{theirs.shape[-1]} columns",
                expected=f"{len(self.parameters)} columns, {self.parameters.names}",
                fix="name the parameters that it infers, and no others",
            )  # fmt: skip
        return from_single(theirs[..., self._to_ours], self.parameters)

    def _is_inside(self, theta: Tensor) -> Tensor:
        return torch.isfinite(self.parameters.log_prob(theta))

    def _inside(self, given: Tensor, n: int, seed: int, limit: float | None) -> Tensor:
        """Draws inside the prior: those outside are replaced by the next ones inside."""
        deadline = math.inf if limit is None else time.monotonic() + limit
        theta = self._ask(given, n, seed, limit)
        outside = ~self._is_inside(theta)
        found, asked, size = (~outside).sum(1), n, max(n, _FEWEST)
        while len(rows := outside.any(1).nonzero()[:, 0]):
            self._require_inside(rows, found[rows], asked)
            left = None if limit is None else max(deadline - time.monotonic(), 0.0)
            more = self._ask(given[rows], size, derive(seed, _AGAIN, asked), left)
            good = self._is_inside(more)
            for k, row in enumerate(rows.tolist()):
                new = more[k, good[k]]
                place = outside[row].nonzero()[: len(new), 0]
                theta[row, place] = new[: len(place)]
                outside[row, place] = False
            found[rows] += good.sum(1)
            asked, size = asked + size, min(2 * size, max(n, _LARGEST))
        return theta

    @staticmethod
    def _require_inside(rows: Tensor, found: Tensor, asked: int) -> None:
        """Raise if hardly any of the `asked` draws are inside for one of these observations."""
        hopeless = (found < _LEAST * asked).nonzero()[:, 0]
        if asked >= _ENOUGH and len(hopeless):
            first = int(hopeless[0])
            raise PosteriorError(
                "draws of the foreign posterior", expected="draws inside the prior",
                got=f"{int(found[first])} of {asked} inside for observation {int(rows[first])}, "
                f"and as few for {len(hopeless) - 1} others",
                fix="check x and the ParameterSpace: is it the prior of its training?",
            )  # fmt: skip

    def _log_mass(self, given: Tensor) -> Tensor:
        """log of the share of draws inside the prior, (B, 1): densities lack it."""
        if not (self.normalised and self._asked.leaks and self._bounded):
            return torch.zeros(1, 1, dtype=torch.float64)
        if self._known is None or not torch.equal(self._known[0], given):
            seed = derive(0, _MASS)
            share = self._is_inside(self._ask(given, _LOOK, seed)).double().mean(1)
            rows = (share < 1).nonzero()[:, 0]
            if len(rows):
                more = self._is_inside(self._ask(given[rows], _MEASURE, derive(seed, 1)))
                counted = share[rows] * _LOOK + more.double().sum(1)
                share[rows] = counted.clamp(min=0.5) / (_LOOK + _MEASURE)
            self._known = given.clone(), share.log()[:, None]
        return self._known[1]
