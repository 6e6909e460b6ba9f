"""Which simulations of a set train, validate and test: at random, whole groups at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sbitools.errors import ConfigError
from sbitools.seeds import derive

__all__ = ["split"]

_KEY = 71


def split(
    name: str, sizes: Mapping[str, int], n: int, group_size: int = 1, seed: int = 0
) -> np.ndarray:
    """Rows of the store `name`, ascending; other names never have the same.

    Args:
        name: of a store, a key of `sizes`.
        sizes: simulations that each store is to have.
        n: simulations that there are.
        group_size: consecutive rows that stay together.
        seed: of the order.

    Raises:
        ConfigError: if there are not as many, or if groups would have to be cut.
    """
    wanted = sum(sizes.values())
    if wanted > n or n % group_size or any(size % group_size for size in sizes.values()):
        table = ", ".join(f"n_{k.split('/')[-1]} = {v}" for k, v in sizes.items())
        groups = f", in whole groups of {group_size}" if group_size > 1 else ""
        raise ConfigError(
            "reference", expected=f"at most {n} simulations in all, as there are{groups}",
            got=f"{table}: {wanted}", fix="lower these numbers in [reference]",
        )  # fmt: skip
    order = np.random.default_rng(derive(seed, _KEY)).permutation(n // group_size)
    first = sum(size for other, size in sizes.items() if other < name) // group_size
    groups = order[first : first + sizes[name] // group_size]
    rows = groups[:, None] * group_size + np.arange(group_size)
    return np.sort(rows.ravel())
