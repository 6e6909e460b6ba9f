"""Work that compiled code does beside other compiled code."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["for_each"]


def for_each(task: Callable[[int], None], n: int) -> None:
    """Run `task(i)` for i < n on as many threads as torch may use; results do not depend on it."""
    workers = min(torch.get_num_threads(), n)
    if workers <= 1:
        for i in range(n):
            task(i)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(task, range(n)))
