"""Checks, one to a file: from draws and true parameters to a `Check`."""

from __future__ import annotations

__all__: list[str] = []
