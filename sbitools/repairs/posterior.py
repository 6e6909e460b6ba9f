"""What a repair makes: see `sbitools.inference.repaired`, where other posteriors are, too."""

from __future__ import annotations

from sbitools.inference.repaired.posterior import RepairedPosterior, unwarned
from sbitools.inference.repaired.saved import load_repaired

__all__ = ["RepairedPosterior", "load_repaired", "unwarned"]
