"""What one makes of a posterior: its peak, its table, its figure, its slices, weights, evidence.

Every function takes anything that can be asked like a posterior (see `asked`); the methods of
`sbitools.Posterior` of the same names call them.
"""

from __future__ import annotations

from .evidence import Evidence
from .figure import plot
from .peak import peak
from .slices import ConditionalDensity, conditional
from .table import summary
from .weights import ImportanceSample, reweight

__all__ = [
    "ConditionalDensity", "Evidence", "ImportanceSample", "conditional", "peak", "plot",
    "reweight", "summary",
]  # fmt: skip
