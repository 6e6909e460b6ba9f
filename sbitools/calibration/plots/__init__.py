"""How checks look. Plots lie below checks: they know names, kinds and numbers alone."""

from __future__ import annotations

from .kinds import COLORS, draw, draw_pair, latent_quantiles

__all__ = ["COLORS", "draw", "draw_pair", "latent_quantiles"]
