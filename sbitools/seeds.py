"""Seeds are arguments: one 63-bit seed per simulation, one generator per seed.

Simulation *i* of a campaign draws from `SeedSequence(seed, spawn_key=(i,))`, so its randomness
does not depend on the batch, the worker or the order. No global random state is read or changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from .errors import ParameterError

__all__ = ["check_seed", "derive", "generator", "normal", "simulation_seeds"]

_MASK63 = (1 << 63) - 1


def check_seed(seed: int, name: str = "seed") -> int:
    """Return `seed` as an int.

    Raises:
        ParameterError: if it is not an integer in [0, 2^63).
    """
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= int(seed) <= _MASK63:
        raise ParameterError(
            name, expected="an integer in [0, 2^63)", got=repr(seed), fix=f"pass {name}=0, say"
        )
    return int(seed)


def derive(seed: int, *key: int) -> int:
    """A 63-bit seed that depends on `seed` and on every number of `key`."""
    words = np.random.SeedSequence(check_seed(seed), spawn_key=key).generate_state(1, np.uint64)
    return int(words[0]) & _MASK63


def simulation_seeds(seed: int, indices: Iterable[int]) -> np.ndarray:
    """Seeds of the simulations `indices` of the campaign `seed`, int64, shape (len(indices),)."""
    return np.array([derive(seed, int(i)) for i in indices], dtype=np.int64)


def generator(seed: int) -> torch.Generator:
    """A CPU generator for one seed (the CPU's, so that every device sees the same numbers)."""
    return torch.Generator().manual_seed(int(seed))  # allowed: a local generator, no global state


def normal(
    seeds: Tensor | Sequence[int], shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normal numbers, one generator per seed.

    Args:
        seeds: int64, shape (batch,).
        shape: shape of one draw.
        dtype: of the result.

    Returns:
        Tensor of shape (batch, *shape), bit-equal whatever the batch a seed is in.
    """
    out = torch.empty((len(seeds), *shape), dtype=dtype)
    for row, seed in zip(out, seeds, strict=True):
        row.normal_(generator=generator(int(seed)))
    return out
