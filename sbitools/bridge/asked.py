"""An object with `sample` and `log_prob` in the manner of `sbi`, asked for many observations.

`sbi` draws from torch's global generator, and its chains from numpy's: both are seeded for the
time of a call, and put back. Where there is a method for many observations (`sample_batched`,
`log_prob_batched`) it is used, else they are asked for one by one.
"""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sbitools.errors import PosteriorError, SbitoolsError, TimeLimitError
from sbitools.inference.pieces import assemble, pieces
from sbitools.networks.precision import single_precision
from sbitools.seeds import derive, seeded_globals

__all__ = ["Asked"]

# Classes of sbi whose log_prob is the density up to a constant of x.
_UNNORMALISED = ("MCMCPosterior", "RejectionPosterior")
# Notes of sbi on how it cuts a batch, and on draws that are rejected here instead of there.
_NOTES = (
    r"(Capping max_sampling_batch_size|Note that for batched sampling|[\d.]+% of samples drawn)"
)


class Asked:
    """Asks a foreign posterior.

    Args:
        posterior: with ``sample(sample_shape, x=...)`` and ``log_prob(theta, x=...)``.

    Attributes:
        leaks: draws may lie outside the prior, and `log_prob` integrates to one over all theta.
            So it is for any object but those of `sbi`, which reject such draws; of these,
            `DirectPosterior` is asked for all its draws, because it would draw for all
            observations of a batch, without end, as long as one of them lacks some.
        normalised: `log_prob` is a normalised density.

    Raises:
        PosteriorError: for an object without `sample` and `log_prob`.
    """

    def __init__(self, posterior: Any) -> None:
        lacking = [n for n in ("sample", "log_prob") if not callable(getattr(posterior, n, None))]
        if lacking or isinstance(posterior, type):
            raise PosteriorError(
                "foreign posterior", expected="an object with methods sample and log_prob",
                got=getattr(posterior, "__name__", type(posterior).__name__),
                fix="pass what inference.build_posterior() of sbi gave",
            )  # fmt: skip
        self.posterior = posterior
        kind, own = type(posterior).__name__, type(posterior).__module__.split(".")[0] == "sbi"
        self._direct = own and kind == "DirectPosterior"
        self.leaks = self._direct or not own
        self.normalised = not (own and kind in _UNNORMALISED)
        self._together = _paired(posterior, "sample", "sample_batched")
        self._densities_together = _paired(posterior, "log_prob", "log_prob_batched")
        device = getattr(posterior, "_device", None) or getattr(posterior, "device", None)
        self._device = torch.device(device or "cpu")

    def draws(self, x: Tensor, n: int, seed: int, time_limit: float | None = None) -> Tensor:
        """Draws (B, n, P) float64 on the CPU for x (B, ...), in the order of its own theta.

        Raises:
            PosteriorError: if it raises, or gives draws of another shape.
            TimeLimitError: if the time ran out.
        """
        deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        # Samplers of sbi may climb gradients; a network that draws needs none.
        with torch.set_grad_enabled(not self.leaks):
            return self._draws(x.to(self._device), n, seed, deadline).detach()

    def _draws(self, x: Tensor, n: int, seed: int, deadline: float) -> Tensor:
        if self._together is not None:
            try:
                with _asking("sampling", seed):
                    return self._all(self._together, x, n, deadline)
            except NotImplementedError:  # of sbi's RejectionPosterior, for one
                self._together = None
        rows = []
        for i in range(len(x)):
            with _asking("sampling", derive(seed, i)):
                more = self._keywords(self.posterior.sample, _left(deadline, i, len(x)))
                row = self.posterior.sample((n,), x=x[i : i + 1], **more)
                rows.append(_shaped(row, n, None).double().cpu())
        return torch.stack(rows)

    def _all(self, sample: Callable[..., Any], x: Tensor, n: int, deadline: float) -> Tensor:
        """Draws by one method for many observations; of a network, a piece at a time."""
        parts = []
        cut = pieces(len(x), n) if self._direct else [(slice(0, len(x)), 0, n)]
        for rows, start, stop in cut:
            more = self._keywords(sample, _left(deadline, rows.start, len(x)))
            part = sample((stop - start,), x=x[rows], **more)
            parts.append(_shaped(part, stop - start, len(x[rows])).transpose(0, 1))
        if not self._direct:
            return parts[0].double().cpu()
        return assemble(parts, len(x), n, parts[0].shape[-1])

    def _keywords(self, sample: Callable[..., Any], left: float) -> dict[str, Any]:
        """Those of sbi's options that a method has."""
        known: dict[str, Any] = {"show_progress_bars": False}
        if math.isfinite(left):
            known["max_sampling_time"] = left
        if self._direct:
            known["reject_outside_prior"] = False
        return {k: v for k, v in known.items() if k in self._names(sample)}

    def _names(self, method: Callable[..., Any]) -> set[str]:
        """Names of arguments; of an ensemble, which passes them on, those of its members."""
        found = inspect.signature(method).parameters
        members = getattr(self.posterior, "posteriors", None)
        if members and any(p.kind is p.VAR_KEYWORD for p in found.values()):
            return self._names(getattr(members[0], method.__name__))
        return set(found)

    @torch.no_grad()
    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log densities (B, n) float64 of theta (B, n, P) float32, in its own order.

        Those of `DirectPosterior` are densities of its network: not divided by what of it lies
        inside the prior.

        Raises:
            PosteriorError: if it raises, or gives densities of another shape.
        """
        theta, x = theta.to(self._device), x.to(self._device)
        more = {"norm_posterior": False} if self._direct else {}
        together = self._densities_together
        with _asking("log_prob", 0):
            if together is not None:
                parts = []
                for rows, start, stop in pieces(*theta.shape[:2]):
                    part = together(theta[rows, start:stop].transpose(0, 1), x[rows], **more)
                    parts.append(_density(part, (stop - start, len(x[rows]))).T)
                return assemble(parts, *theta.shape[:2])
            rows = [
                _density(self.posterior.log_prob(t, x=x[i : i + 1], **more), (theta.shape[1],))
                for i, t in enumerate(theta)
            ]
        return torch.stack(rows).double().cpu() if rows else theta[..., 0].double().cpu()

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """What the network's embedding makes of x (B, ...), or x itself: (B, F) on the CPU."""
        network = getattr(self.posterior, "posterior_estimator", None)
        embed = getattr(network, "embedding_net", None)
        with _asking("embedding", 0):
            values = x if embed is None else embed(x.to(self._device))
        return values.flatten(1).float().cpu()


def _paired(posterior: Any, single: str, many: str) -> Callable[..., Any] | None:
    """The method for many observations, unless a subclass changed the other one alone."""
    order = type(posterior).__mro__
    owner = {n: [i for i, c in enumerate(order) if n in vars(c)] for n in (single, many)}
    if not owner[many] or (owner[single] and owner[single][0] < owner[many][0]):
        return None
    method = getattr(posterior, many)
    return None if getattr(method, "__isabstractmethod__", False) else method


@contextmanager
def _asking(what: str, seed: int) -> Iterator[None]:
    """Foreign code runs inside: seeded, in float32, and its errors are typed."""
    try:
        with single_precision(), seeded_globals(seed), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_NOTES)
            yield
    except (SbitoolsError, NotImplementedError):
        raise
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "max_sampling_time" in str(error):
            raise TimeLimitError(
                f"{what} of the foreign posterior", expected="draws in the time they were given",
                got=first, fix="raise time_limit, or ask for fewer draws",
            ) from error  # fmt: skip
        raise PosteriorError(
            f"{what} of the foreign posterior", expected="an answer",
            got=f"{type(error).__name__}: {first}",
            fix="ask it alone; if x must be reshaped or scaled for it, pass prepare=...",
        ) from error  # fmt: skip


def _left(deadline: float, done: int, n: int) -> float:
    left = deadline - time.monotonic()
    if left < 0:
        raise TimeLimitError(
            "sampling of the foreign posterior", expected=f"draws for {n} observations in time",
            got=f"{done} of them", fix="raise time_limit, or ask for fewer draws",
        )  # fmt: skip
    return left


def _shaped(draws: Any, n: int, batch: int | None) -> Tensor:
    """Draws as they must be: (n, P) of one observation, (n, batch, P) of many."""
    want = (n,) if batch is None else (n, batch)
    if isinstance(draws, Tensor) and draws.ndim == len(want) + 1 and draws.shape[:-1] == want:
        return draws
    raise PosteriorError(
        "draws of the foreign posterior", expected=f"a tensor of shape {(*want, 'parameters')}",
        got=f"shape {tuple(draws.shape)}" if hasattr(draws, "shape") else type(draws).__name__,
        fix="sample((n,), x=x) gives one row per draw, sample_batched((n,), x=x) one per draw and "
        "observation",
    )  # fmt: skip


def _density(values: Any, shape: tuple[int, ...]) -> Tensor:
    if isinstance(values, Tensor) and values.shape == shape:
        return values
    raise PosteriorError(
        "log_prob of the foreign posterior", expected=f"a tensor of shape {shape}",
        got=f"shape {tuple(values.shape)}" if hasattr(values, "shape") else type(values).__name__,
        fix="log_prob(theta, x=x) gives one number for each row of theta",
    )  # fmt: skip
