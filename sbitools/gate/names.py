"""A name that is not known: which one was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["or_else"]


def or_else(name: Any, known: Iterable[str], fix: str) -> str:
    """``did you mean 'npe'?`` if a known name is near, and `fix` if none is."""
    near = {one.lower(): one for one in known}
    found = difflib.get_close_matches(str(name).lower(), list(near), n=1)
    return f"did you mean {near[found[0]]!r}?" if found else fix
