"""What several checks reckon with: bands, joint levels, bootstraps, coordinates, regressions."""

from __future__ import annotations

__all__: list[str] = []
