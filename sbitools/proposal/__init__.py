"""What `sbitools init` proposes for a folder of simulations: a configuration that runs."""

from __future__ import annotations

from .proposal import Proposal, propose
from .text import proposal_lines, proposal_text

__all__ = ["Proposal", "proposal_lines", "proposal_text", "propose"]
