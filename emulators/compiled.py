"""Compilation of inner loops with numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["compiled"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile once per machine if there is a place to keep the result, else once per process.

    The compiled function releases the interpreter's lock; sums may be reordered to run in vector
    registers, always in the same way.
    """
    options: dict[str, Any] = {
        "nogil": True, "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    }  # fmt: skip
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**options)(function)
