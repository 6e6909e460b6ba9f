"""What a simulator is: its code, what it closes over, its options; or the version it states."""

from __future__ import annotations

from .simulators import changes, identity, origin, values_changed

__all__ = ["changes", "identity", "origin", "values_changed"]
