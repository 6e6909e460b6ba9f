"""The simulations of a store as the two tensors that `sbi` trains on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import StoreError
from sbitools.gate.plain import whole
from sbitools.observation import Observation
from sbitools.seeds import check_seed, derive, mix
from sbitools.store.access import as_store, chosen

from .rounding import to_single

__all__ = ["theta_and_x"]

_NOISE = 93  # key of the seeds of observation noise
_BATCH_BYTES = 1 << 26
_GIB = 1 << 30


def theta_and_x(
    store: Any,
    *,
    observe: Any = None,
    indices: Any = None,
    seed: int = 0,
    max_bytes: int = 4 * _GIB,
) -> tuple[Tensor, Tensor]:
    """Theta (N, P) and x (N, *shape) of finished simulations, float32, in memory.

    `sbi` holds all it trains on in memory; this package does not: `sbitools.train` streams.
    `sbi` then knows nothing of simulations that failed.

    Args:
        store: of simulations; its inferred parameters are the columns of theta.
        observe: steps that observe the fields: one, several, or an `Observation`. Their noise is
            drawn once, from the simulation's own seed and `seed`.
        indices: simulations, as numbers or as a mask over the whole store; all that are done if
            None.
        seed: of the noise.
        max_bytes: what both tensors may take together; 4 GiB unless you allow more.

    Raises:
        StoreError: if there are none, one is not finished, they take more than `max_bytes`, or x
            is complex or beyond float32.
        ObservationError: if a step does not fit.

    Example:
        >>> theta, x = theta_and_x(store, observe=[Noise(0.1)])  # doctest: +SKIP
        >>> NPE(prior_for_sbi(store.parameters)).append_simulations(theta, x)  # doctest: +SKIP
    """
    store, seed = as_store(store), check_seed(seed)
    max_bytes = whole(max_bytes, "max_bytes", least=1)
    observation = Observation.of(observe).bind(store.output)
    spec, columns = observation.output(store.output), store.parameters.inferred_columns
    rows = chosen(store, indices)
    if not len(rows) or not np.isin(rows, store.done).all() or spec.torch_dtype.is_complex:
        raise StoreError(
            f"store {store.path}", expected="finished simulations of real fields",
            got=f"{len(rows)}, {int((~np.isin(rows, store.done)).sum())} of them not finished, "
            f"dtype {spec.dtype}", fix="run the campaign first, or choose other indices",
        )  # fmt: skip
    needed = 4 * len(rows) * (math.prod(spec.shape) + len(columns))
    if needed > max_bytes:
        raise StoreError(
            f"store {store.path}", expected=f"at most {max_bytes / _GIB:.3g} GiB in memory",
            got=f"{len(rows)} simulations of {needed / _GIB:.3g} GiB",
            fix=f"pass max_bytes={needed} if there is room, fewer indices, or steps that coarsen; "
            "sbitools.train streams from the store",
        )  # fmt: skip
    theta = to_single(store.theta[torch.from_numpy(rows)][:, columns], store.parameters.inferred)
    x = torch.empty((len(rows), *spec.shape), dtype=torch.float32)
    per, done = max(1, _BATCH_BYTES // max(store.output.nbytes, 1)), 0
    for index, _, fields in store.batches(rows, per):
        noise = mix(store.seeds[torch.from_numpy(index)], derive(seed, _NOISE))
        x[done : done + len(index)] = observation(fields, noise)
        done += len(index)
    if not bool(torch.isfinite(x).all()):
        raise StoreError(
            f"x of store {store.path}", expected="values within float32, up to 3e38",
            got=f"others in {int((~torch.isfinite(x)).flatten(1).any(1).sum())} simulations",
            fix="change the unit of x: observe=[Scale(...)]",
        )  # fmt: skip
    return theta, x
