"""What a plot is made of: the numbers of a check, whichever it is."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Drawn"]


class Drawn(Protocol):
    """A check, as far as its plot knows it; plots lie below checks, which ask for them."""

    @property
    def name(self) -> str:
        """Of the check, the title."""
        ...

    @property
    def kind(self) -> str:
        """Which plot shows it."""
        ...

    @property
    def band(self) -> tuple[float, float] | None:
        """Interval around the effect."""
        ...

    @property
    def details(self) -> dict[str, Any]:
        """Arrays and numbers that are drawn."""
        ...
