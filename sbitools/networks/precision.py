"""Networks compute in float32, whatever default dtype the user's session has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["single_precision"]

_lock = threading.Lock()
_depth, _users = 0, torch.float32


@contextmanager
def single_precision() -> Iterator[None]:
    """Inside, new tensors are float32; also a decorator. The user's default comes back at the end.

    ``torch.set_default_dtype(torch.float64)`` is the first line of many scripts, and holds for
    every layer and every number that is made without a dtype. The default belongs to the process:
    the first thread that enters changes it, the last that leaves puts it back.
    """
    global _depth, _users
    with _lock:
        if not _depth:
            _users = torch.get_default_dtype()
            if _users != torch.float32:
                torch.set_default_dtype(torch.float32)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth and torch.get_default_dtype() != _users:
                torch.set_default_dtype(_users)
