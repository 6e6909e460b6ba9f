"""What a posterior answers for every simulation of a store: streamed, limited in time, counted."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbitools.display.bars import counting, showing
from sbitools.errors import (
    ConfigError,
    MisspecificationWarning,
    PosteriorError,
    SbitoolsError,
    StoreError,
)
from sbitools.gate.plain import real, whole
from sbitools.seeds import check_seed, derive
from sbitools.store.access import as_store, chosen

from .stores import as_posterior, check_inside, check_specification

__all__ = ["Excluded", "answers"]

# Draws above this size are thinned to their first ones. Ranks are exact at any number of draws.
_MAX_BYTES = 1 << 30

# Keys of the seeds of observation noise and of posterior draws. Noise must not reuse the seed of
# the simulation itself: its random numbers may be the initial conditions.
_NOISE, _DRAWS, _LATENTS = 11, 12, 13

# Draws that show whether an observation can be drawn for at all.
_PROBES = 2

# Latents are kept within this: N(0, 1) does not come near it.
_FAR = 1e3


@dataclass(frozen=True)
class Excluded:
    """A test that could not be used, and why; it is counted in every report.

    Args:
        index: of the simulation in its store.
        reason: one line.
    """

    index: int
    reason: str


def answers(
    posterior: Any,
    store: Any,
    n_draws: int = 1000,
    *,
    seed: int = 0,
    indices: Sequence[int] | np.ndarray | None = None,
    batch_size: int = 64,
    time_limit: float | None = None,
    log_prob: bool = True,
    latent: bool = True,
    quantities: Mapping[str, Callable[..., Any]] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """What `CalibrationDraws` holds, by name; arguments and errors of `sampling.draw`."""
    n_draws = whole(n_draws, "n_draws", least=1)
    batch_size = whole(batch_size, "batch_size", least=1)
    seed = check_seed(seed)
    if time_limit is not None:
        time_limit = real(time_limit, "time_limit", above=0)
    posterior, store = as_posterior(posterior), as_store(store)
    check_specification(posterior, store)
    rows = chosen(store, indices)
    if not len(rows):
        raise StoreError(
            f"store {store.path}", expected="finished simulations to test with", got="none",
            fix="run the campaign first, or choose other indices",
        )  # fmt: skip
    names = posterior.parameters.names
    n_kept = max(1, min(n_draws, _MAX_BYTES // (8 * len(rows) * (len(names) + 1))))
    quantities = {} if quantities is None else quantities
    job = _Job(posterior, n_kept, seed, time_limit, log_prob, latent, quantities)
    with showing(progress), counting("posterior draws", len(rows)) as bar:
        for index, theta, x in store.batches(rows, batch_size):
            columns = store.parameters.inferred_columns
            truth = np.asarray(theta, dtype=np.float64)[:, columns]
            check_inside(posterior, store, truth)
            noise = [derive(int(s), _NOISE) for s in np.asarray(store.seeds)[index]]
            job.batch(np.asarray(index), truth, posterior.observe(x, _tensor(noise)))
            bar.add(len(index))
    return job.result(store)


class _Job:
    """Collects draws batch by batch."""

    def __init__(
        self, posterior: Any, n_draws: int, seed: int, time_limit: float | None, log_prob: bool,
        latent: bool, quantities: Mapping[str, Callable[..., Any]],
    ) -> None:  # fmt: skip
        self.posterior, self.n_draws, self.seed = posterior, n_draws, seed
        self.time_limit, self.log_prob, self.latent = time_limit, log_prob, latent
        _check_quantities(quantities)
        self.quantities = {
            name: (f, len(inspect.signature(f).parameters) > 1) for name, f in quantities.items()
        }
        self.parts: list[dict[str, np.ndarray]] = []
        self.excluded: list[Excluded] = []

    def batch(self, index: np.ndarray, theta: np.ndarray, x: Any) -> None:
        """Draw for one batch; take it apart if it fails."""
        try:
            with warnings.catch_warnings():
                # Among many tests some are unfamiliar; what comes of it is what is measured.
                warnings.simplefilter("ignore", MisspecificationWarning)
                part = self._ask(index, theta, x, self.n_draws)
        except SbitoolsError as error:
            if len(index) == 1:
                self.excluded.append(Excluded(int(index[0]), str(error).splitlines()[0]))
                return
            for rows in self._apart(index, theta, x):
                self.batch(index[rows], theta[rows], x[rows])
            return
        good = np.isfinite(part["draws"]).all((1, 2))
        for name, value in part.items():
            if name.startswith("log_prob"):
                good &= ~np.isnan(value).reshape(len(value), -1).any(1)
        self.excluded += [
            Excluded(int(i), "the posterior gave draws or densities that are not numbers")
            for i in index[~good]
        ]
        part |= {"index": index, "theta": theta}
        self.parts.append({name: value[good] for name, value in part.items()})

    def _apart(self, index: np.ndarray, theta: np.ndarray, x: Any) -> list[np.ndarray]:
        """Rows of a batch that failed, in pieces: those that fail alone, and the rest.

        They are found by halving with hardly any draws, so that one bad observation costs its
        batch a second try and not each of its neighbours a call.
        """

        def failing(rows: np.ndarray) -> list[int]:
            try:
                self._ask(index[rows], theta[rows], x[rows], _PROBES)
            except SbitoolsError:
                if len(rows) == 1:
                    return rows.tolist()
                return [bad for half in np.array_split(rows, 2) for bad in failing(half)]
            return []

        rows = np.arange(len(index))
        bad = failing(rows)
        if not bad or len(bad) == len(rows):  # it takes all the draws, or there is no rest
            return np.array_split(rows, 2)
        return [*(np.array([row]) for row in bad), np.delete(rows, bad)]

    def _ask(self, index: np.ndarray, theta: np.ndarray, x: Any, n: int) -> dict[str, np.ndarray]:
        """Everything kept of one batch, by the names of the fields of `CalibrationDraws`."""
        options: dict[str, Any] = {"seed": derive(self.seed, _DRAWS, int(index[0]))}
        if self.time_limit is not None:
            options["time_limit"] = self.time_limit * len(index)
        part = self._latents(index, theta, x) if self.latent else {}
        if self.log_prob:
            draws, density = self.posterior.sample_and_log_prob(x, n, **options)
            at_truth = self.posterior.log_prob(_tensor(theta), x)
            part |= {"draws": _array(draws), "log_prob_draws": _array(density)}
            part["log_prob_true"] = _array(at_truth).reshape(len(index))
        else:
            part |= {"draws": _array(self.posterior.sample(x, n, **options))}
        for i, (function, with_x) in enumerate(self.quantities.values()):
            more = (x,) if with_x else ()
            values = [
                _numbers(function(_tensor(points), *more))
                for points in (theta[:, None], part["draws"])
            ]
            part |= {f"true {i}": values[0].reshape(len(index)), f"drawn {i}": values[1]}
        return part

    def _latents(self, index: np.ndarray, theta: np.ndarray, x: Any) -> dict[str, np.ndarray]:
        """Latents of theta and features of x, where this kind of posterior has them."""
        if not hasattr(self.posterior, "latent") or not hasattr(self.posterior, "features"):
            self.latent = False
            return {}
        summary = _array(self.posterior.features(x)).reshape(len(index), -1)
        broken = np.flatnonzero(~np.isfinite(summary).all(1))
        if len(broken):  # before time is spent on draws
            raise PosteriorError(
                "features", expected="finite numbers",
                got=f"others for simulations {index[broken[:10]].tolist()}",
                fix="these fields are far from the training set: check their units and content",
            )  # fmt: skip
        try:
            seed = derive(self.seed, _LATENTS, int(index[0]))
            z = _array(self.posterior.latent(_tensor(theta), x, seed=seed))
        except PosteriorError:  # a method without latents
            self.latent = False
            return {}
        # A truth at the very end of the prior may be infinitely far out: far is what it must stay.
        z = np.nan_to_num(np.clip(z, -_FAR, _FAR), nan=_FAR)
        return {"latent": z, "summary": summary}

    def result(self, store: Any) -> dict[str, Any]:
        """Everything collected."""
        kept_index = [part["index"] for part in self.parts if len(part["index"])]
        if not kept_index:
            first = self.excluded[0]
            raise PosteriorError(
                "posterior in calibration", expected="draws for one simulation at least",
                got=f"{len(self.excluded)} failures; simulation {first.index}: {first.reason}",
                fix="sample for this simulation alone, or allow more time",
            )  # fmt: skip
        space, index = self.posterior.parameters, np.concatenate(kept_index)
        kept = {
            name: np.concatenate([p[name] for p in self.parts]) for name in self.parts[0]
            if all(name in p for p in self.parts)
        }  # fmt: skip
        quantities = {
            name: (kept.pop(f"true {i}"), kept.pop(f"drawn {i}"))
            for i, name in enumerate(self.quantities)
        }
        kept.pop("index")
        self.parts.clear()  # the draws are the largest thing in memory: hold them once
        return kept | {
            "quantities": quantities, "group": np.asarray(store.groups)[index],
            "independent": store.design == "random", "normalised": _normalised(self.posterior),
            "names": tuple(space.names), "labels": tuple(space.labels), "prior": space,
            "seed": self.seed, "excluded": tuple(self.excluded), "counts": dict(store.counts()),
        }  # fmt: skip


def _check_quantities(quantities: Any) -> None:
    table = isinstance(quantities, Mapping)
    if not table or not all(isinstance(k, str) and callable(f) for k, f in quantities.items()):
        raise ConfigError(
            "quantities", expected="functions of theta (and x) by name",
            got=type(quantities).__name__, fix='for example {"sum": lambda theta: theta.sum(-1)}',
        )  # fmt: skip


def _normalised(posterior: Any) -> bool:
    """Whether log densities are normalised: those of a likelihood or a ratio are not."""
    method = getattr(getattr(posterior, "options", None), "method", "npe")
    return bool(getattr(posterior, "normalised", method not in ("nle", "nre")))


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu(), dtype=np.float64)


def _numbers(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=np.float64)


def _tensor(values: Any) -> Any:
    import torch

    return torch.as_tensor(values)
