"""Any emulator against held-out reference simulations, by what the axes of its fields are.

Theta is the same on both sides and the seeds are not: nothing is asked of the emulator but that
its fields are distributed as those of the reference. What is measured is chosen by `by_axes`, how
it is compared is in `equal_theta`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.errors import ShapeError, StoreError, TrainingError
from sbitools.gate.plain import whole
from sbitools.seeds import check_seed, derive, mix, simulation_seeds

from .by_axes import AxesPlan, ByAxes, chosen, plan_axes
from .comparison_sets import Measured
from .comparison_shown import shown
from .nearest_training import nearest_training
from .theta_fit import ThetaFit

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sbitools.simulator import Simulator
    from sbitools.store import SimulationStore

__all__ = ["compare"]

_BATCH_BYTES, _BATCH = 2**25, 64  # of the fields that are in memory at once
_SAMPLE = 2**20  # cells of each channel that units and levels are taken from
_FEWEST = 8


def compare(
    emulator: Simulator,
    store: SimulationStore,
    *,
    n_fields: int | None = 128,
    seed: int = 0,
    training: SimulationStore | None = None,
) -> dict[str, Any]:
    """Emulated fields at the parameters of held-out simulations, and what differs.

    Two fields are emulated for each simulation. Memory does not grow with the number of
    simulations but for their statistics.

    Args:
        emulator: fitted; anything with ``parameters``, ``output`` and ``simulate``.
        store: simulations of the reference that it was not fitted to.
        n_fields: use so many, evenly spread over the store; None uses all.
        seed: of the emulated fields, which share none with the store, and of random halves.
        training: what the emulator was fitted to, to see whether it repeats it.

    Returns:
        Nested plain values, named as `sbitools.report.emulator_figures` draws them. ``errors``
        has for each quantity the number of the ``emulator``, what the ``reference against itself
        (floor)`` would have with as many simulations, what is above 19 of 20 such numbers, and
        the standard error of ratios; ``responses`` the slope of the statistics with each
        parameter.

    Raises:
        StoreError: for fewer than 8 finished simulations, or others than the emulator's.
        ShapeError: if the emulator gives another shape.
        TrainingError: if fewer than 8 of its fields are finite.
    """
    seed = check_seed(seed)
    rows = _rows(emulator, store, n_fields)
    if training is not None and training.output != store.output:
        raise StoreError(
            f"training store {training.path}", expected=f"{store.output.shape}, as held out",
            got=f"{training.output.name} {training.output.shape}",
            fix="pass the store that the emulator was fitted to, or None",
        )  # fmt: skip
    plan = plan_axes(store.output)
    measure = ByAxes(plan, _sample(store, rows, plan, derive(seed, 2)))
    seeds = [mix(_fresh(seed, i, len(rows)), 1) for i in (0, 1)]
    sets: dict[str, list[dict[str, np.ndarray]]] = {"reference": [], "emulator": [], "again": []}
    good: list[np.ndarray] = []
    fields: dict[str, np.ndarray] = {}
    kept: list[np.ndarray] = []
    for part in _parts(len(rows), store.output.nbytes):
        theta = store.theta[rows[part]]
        x = store.read(rows[part]).numpy()
        drawn = [_emulated(emulator, theta, s[part]) for s in seeds]
        finite = np.all([np.isfinite(d).reshape(len(d), -1).all(1) for d in drawn], axis=0)
        good.append(finite)
        for name, values in zip(sets, (x, *drawn), strict=True):
            if finite.any():
                sets[name].append(measure(values[finite]))
                fields.setdefault(name, values[finite][0])
        if training is not None and sum(map(len, kept)) < 16:
            kept.append(np.stack([x[finite], drawn[0][finite]], axis=1))
    used = rows[np.concatenate(good)]
    if len(used) < _FEWEST:
        raise TrainingError(
            "emulator", expected=f"finite fields for {_FEWEST} or more of {len(rows)} simulations",
            got=f"{len(used)}", fix="fit it again, with other options or another method",
        )  # fmt: skip
    measured = Measured(
        store.output, plan, measure,
        {name: {s: np.concatenate([p[s] for p in found]) for s in found[0]}
         for name, found in sets.items()},
        ThetaFit(store.theta[used].numpy(), store.parameters.names), _clusters(store, used),
        derive(seed, 3),
    )  # fmt: skip
    out = shown(measured, fields)
    if len(used) < len(rows):
        share = 1 - len(used) / len(rows)
        out["errors"]["fields that are not finite"] = {"emulator": share, "reference": 0.0}
    if training is not None:
        both = np.concatenate(kept)[:16]
        out["errors"] |= nearest_training(measure, both[:, 1], both[:, 0], training)
    return out


def _rows(emulator: Any, store: SimulationStore, n_fields: int | None) -> np.ndarray:
    if n_fields is not None:
        n_fields = whole(n_fields, "n_fields", least=_FEWEST)
    done, spec = store.done, getattr(emulator, "output", None)
    same = (
        spec is not None and (spec.dims, spec.shape) == (store.output.dims, store.output.shape)
        and list(emulator.parameters.names) == list(store.parameters.names)
    )  # fmt: skip
    if not same or len(done) < _FEWEST:
        what = "no output" if spec is None else f"those of {spec.name} {spec.shape}"
        raise StoreError(
            f"store {store.path}",
            expected=f"{_FEWEST} or more finished simulations of what the emulator was fitted to",
            got=f"{len(done)} of {store.output.name} {store.output.shape}; the emulator: {what}",
            fix="simulate more with the reference of the emulator",
        )  # fmt: skip
    return done if n_fields is None else done[chosen(len(done), n_fields)]


def _fresh(seed: int, which: int, n: int) -> torch.Tensor:
    import torch

    return torch.from_numpy(simulation_seeds(derive(seed, which), range(n)))


def _parts(n: int, nbytes: int) -> Iterator[slice]:
    step = max(1, min(_BATCH, _BATCH_BYTES // nbytes))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _emulated(emulator: Any, theta: Tensor, seeds: Tensor) -> np.ndarray:
    found = emulator.simulate(theta, seeds)
    found = found[0] if isinstance(found, tuple) else found  # the second one is its source
    values = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)
    if values.shape != (len(theta), *emulator.output.shape):
        raise ShapeError(
            "fields of the emulator", expected=f"shape {(len(theta), *emulator.output.shape)}",
            got=f"shape {values.shape}", fix="correct the emulator's simulate, or its output",
        )  # fmt: skip
    return values


def _sample(store: SimulationStore, rows: np.ndarray, plan: AxesPlan, seed: int) -> np.ndarray:
    """Cells of every channel of some simulations, (n_channels, n)."""
    rows = rows if plan.kind == "vector" else rows[chosen(len(rows), 64)]
    cells = math.prod(plan.shape)
    some = np.random.default_rng(seed).permutation(cells)[: max(1, _SAMPLE // len(rows))]
    found = [
        plan.cut(x.numpy()).reshape(len(x), len(plan.channels), cells)[..., some]
        for part in _parts(len(rows), store.output.nbytes)
        for x in (store.read(rows[part]),)
    ]  # fmt: skip
    return np.concatenate(found).swapaxes(0, 1).reshape(len(plan.channels), -1)


def _clusters(store: SimulationStore, rows: np.ndarray) -> np.ndarray:
    """Simulations that share their randomness: made together, or from one seed."""
    seeds = store.seeds.numpy()[rows]
    same = np.unique(seeds, return_inverse=True)[1].ravel()
    return store.groups[rows] if same.max() + 1 == len(rows) else same
