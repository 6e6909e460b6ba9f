"""What checks look at: a posterior's draws for simulations that it was not trained on."""

from __future__ import annotations

__all__: list[str] = []
