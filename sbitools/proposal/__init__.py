"""What `sbitools init` proposes for a folder of simulations: a configuration that runs."""

from __future__ import annotations

from .proposal import Files, Proposal, propose
from .text import proposal_lines, proposal_text

__all__ = ["Files", "Proposal", "proposal_lines", "proposal_text", "propose"]
