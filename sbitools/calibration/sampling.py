"""Draw from a posterior for every simulation of a store: streamed, limited in time, counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sbitools.errors import PosteriorError, SbitoolsError, StoreError
from sbitools.seeds import derive

from .draws import CalibrationDraws, Excluded

__all__ = ["draw"]

# Draws above this size are thinned to their first ones. Ranks are exact at any number of draws.
_MAX_BYTES = 1 << 30

# Keys of the seeds of observation noise and of posterior draws. Noise must not reuse the seed of
# the simulation itself: its random numbers may be the initial conditions.
_NOISE, _DRAWS = 11, 12


def draw(
    posterior: Any,
    store: Any,
    n_draws: int = 1000,
    *,
    seed: int = 0,
    indices: Sequence[int] | np.ndarray | None = None,
    batch_size: int = 64,
    time_limit: float | None = None,
    log_prob: bool = True,
    progress: bool = False,
) -> CalibrationDraws:
    """Posterior draws for the simulations of a store.

    Each x passes through the posterior's own observation model, with noise seeds derived from the
    simulation's seed. A batch that fails or exceeds its time is taken apart, and an observation
    that fails alone is recorded in `excluded`: it neither stalls nor ends the rest.

    Args:
        posterior: with sample, sample_and_log_prob, log_prob and observe.
        store: test simulations, of the posterior's output and parameters.
        n_draws: per simulation; fewer if all together would exceed 1 GiB.
        seed: of draws, noise, and everything the checks draw.
        indices: simulations to use; all that are done if None.
        batch_size: simulations in memory at a time.
        time_limit: seconds one observation may take.
        log_prob: also keep densities, which `coverage` needs.
        progress: show a bar.

    Returns:
        The draws, float64, with densities, groups and everything excluded.

    Raises:
        StoreError: if the store does not fit the posterior, or has no finished simulation.
        PosteriorError: if the posterior failed for every simulation.
    """
    check_specification(posterior, store)
    chosen = np.asarray(store.done if indices is None else indices, dtype=np.int64)
    if not len(chosen):
        raise StoreError(
            f"store {store.path}", expected="finished simulations to test with", got="none",
            fix="run the campaign first, or choose other indices",
        )  # fmt: skip
    names = posterior.parameters.names
    n_kept = max(1, min(n_draws, _MAX_BYTES // (8 * len(chosen) * (len(names) + 1))))
    job = _Job(posterior, n_kept, seed, time_limit, log_prob)
    for index, theta, x in _progress(store.batches(chosen, batch_size), len(chosen), progress):
        columns = store.parameters.inferred_columns
        truth = np.asarray(theta, dtype=np.float64)[:, columns]
        noise = [derive(int(s), _NOISE) for s in np.asarray(store.seeds)[index]]
        job.batch(np.asarray(index), truth, posterior.observe(x, _tensor(noise)))
    return job.result(store)


def check_specification(posterior: Any, store: Any) -> None:
    """Raise `StoreError` unless the store holds what the posterior was trained for."""
    pairs = (
        ("output", posterior.output.to_dict(), store.output.to_dict()),
        (
            "inferred parameters",
            posterior.parameters.to_dict(),
            store.parameters.inferred.to_dict(),
        ),
    )
    for what, expected, got in pairs:
        if expected != got:
            raise StoreError(
                f"{what} of store {store.path}", expected=f"{expected}", got=f"{got}",
                fix="calibrate with simulations of the specification the posterior was trained on",
            )  # fmt: skip


class _Job:
    """Collects draws batch by batch."""

    def __init__(
        self, posterior: Any, n_draws: int, seed: int, time_limit: float | None, log_prob: bool
    ) -> None:
        self.posterior, self.n_draws, self.seed = posterior, n_draws, seed
        self.time_limit, self.log_prob = time_limit, log_prob
        self.index: list[np.ndarray] = []
        self.theta: list[np.ndarray] = []
        self.draws: list[np.ndarray] = []
        self.densities: list[tuple[np.ndarray, np.ndarray]] = []
        self.excluded: list[Excluded] = []

    def batch(self, index: np.ndarray, theta: np.ndarray, x: Any) -> None:
        """Draw for one batch; take it apart if it fails."""
        try:
            draws, at_draws, at_truth = self._ask(index, theta, x)
        except SbitoolsError as error:
            if len(index) == 1:
                self.excluded.append(Excluded(int(index[0]), str(error).splitlines()[0]))
                return
            for i in range(len(index)):
                self.batch(index[i : i + 1], theta[i : i + 1], x[i : i + 1])
            return
        good = np.isfinite(draws).all((1, 2))
        if self.log_prob:
            good &= ~np.isnan(at_draws).any(1) & ~np.isnan(at_truth)
        self.excluded += [
            Excluded(int(i), "the posterior gave draws or densities that are not numbers")
            for i in index[~good]
        ]
        self.index.append(index[good])
        self.theta.append(theta[good])
        self.draws.append(draws[good])
        self.densities.append((at_truth[good], at_draws[good]))

    def _ask(
        self, index: np.ndarray, theta: np.ndarray, x: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(draws, log densities at the draws, log density at the truth)."""
        options: dict[str, Any] = {"seed": derive(self.seed, _DRAWS, int(index[0]))}
        if self.time_limit is not None:
            options["time_limit"] = self.time_limit * len(index)
        if not self.log_prob:
            draws = _array(self.posterior.sample(x, self.n_draws, **options))
            return draws, np.empty((len(index), 0)), np.empty(len(index))
        draws, density = self.posterior.sample_and_log_prob(x, self.n_draws, **options)
        at_truth = self.posterior.log_prob(_tensor(theta), x)
        return _array(draws), _array(density), _array(at_truth).reshape(len(index))

    def result(self, store: Any) -> CalibrationDraws:
        """Everything collected."""
        index = np.concatenate(self.index) if self.index else np.empty(0, dtype=np.int64)
        if not len(index):
            first = self.excluded[0]
            raise PosteriorError(
                "posterior in calibration", expected="draws for one simulation at least",
                got=f"{len(self.excluded)} failures; simulation {first.index}: {first.reason}",
                fix="sample for this simulation alone, or allow more time",
            )  # fmt: skip
        space, counts = self.posterior.parameters, dict(store.counts())
        densities = [np.concatenate(d) for d in zip(*self.densities, strict=True)]
        return CalibrationDraws(
            np.concatenate(self.theta), np.concatenate(self.draws),
            log_prob_true=densities[0] if self.log_prob else None,
            log_prob_draws=densities[1] if self.log_prob else None,
            group=np.asarray(store.groups)[index],
            independent=store.design == "random",
            names=tuple(space.names), labels=tuple(space.labels), prior=space, seed=self.seed,
            excluded=tuple(self.excluded), counts=counts,
        )  # fmt: skip


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu(), dtype=np.float64)


def _tensor(values: Any) -> Any:
    import torch

    return torch.as_tensor(values)


def _progress(batches: Iterator[Any], total: int, show: bool) -> Iterator[Any]:
    """The batches, with a bar that counts simulations."""
    if not show:
        yield from batches
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("posterior draws", total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch[0]))
