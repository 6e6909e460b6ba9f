"""Marks of simulations: what two sets have in common shows, whatever the seeds they came with.

A mark is a number made of theta and of the hash that the store keeps of x. A sketch keeps the
smallest marks of a set: whether a mark below the largest of them is in the set, it knows for sure
(bottom-k sketches: Cohen & Kaplan 2007), so that it stays small and finds any large overlap.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np

from sbitools.seeds import mix

__all__ = ["in_sketches", "marks", "sketch"]

_KEPT = 2048  # of a sketch: a tenth of a set of 20,000, and one in fifty of one of 100,000
_KEY = "marks"


def marks(store: Any, rows: np.ndarray) -> np.ndarray:
    """A mark of each of the finished simulations `rows`, int64, (len(rows),).

    Theta count as float32, which survive text of a few digits more; seeds do not count. Without a
    continuous parameter there are none, shape (0,): equal simulations need not be the same.
    """
    digests = getattr(store, "row_digests", None)
    if digests is None or all(p.categories for p in store.parameters):
        return np.empty(0, np.int64)
    out = np.ascontiguousarray(digests(rows)[:, :8]).view("<i8")[:, 0]
    theta = np.asarray(store.theta)[rows].astype("<f4") + np.float32(0)  # without minus zero
    for column in theta.view("<i4").T:
        out = mix(out ^ column.astype(np.int64), _KEPT).numpy()  # pyright: ignore[reportArgumentType]
    return out


def sketch(store: Any, rows: np.ndarray) -> dict[str, str]:
    """The smallest marks of simulations as plain text, for the provenance of what they made."""
    kept = np.unique(marks(store, rows))[:_KEPT].astype("<i8")
    return {_KEY: base64.b64encode(kept.tobytes()).decode()} if len(kept) else {}


def in_sketches(store: Any, rows: np.ndarray, info: Any) -> np.ndarray:
    """Which of the simulations `rows` are known from the sketches in `info`, truth values.

    Args:
        store: of the simulations.
        rows: finished ones.
        info: provenance, with sketches anywhere in it.
    """
    known = [s for s in _sketches(info) if len(s)]
    if not known:
        return np.zeros(len(rows), bool)
    found = marks(store, rows)
    return np.isin(found, np.concatenate(known)) if len(found) else np.zeros(len(rows), bool)


def _sketches(info: Any) -> Iterator[np.ndarray]:
    if not isinstance(info, dict):
        return
    for key, value in info.items():
        if key == _KEY and isinstance(value, str):
            yield np.frombuffer(base64.b64decode(value), "<i8")
        else:
            yield from _sketches(value)
