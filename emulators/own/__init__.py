"""The system of a user's own simulations: files of fields and a table of parameters."""

from __future__ import annotations

from .system import system

__all__ = ["system"]
