"""An emulator of short data vectors: a closed form, and networks for what is left."""

from __future__ import annotations

# Bound here, at once, since importing the submodule of the same name would bind that instead.
from .method import method

__all__ = ["method"]
