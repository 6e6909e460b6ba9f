"""The instrument: thermal noise of SKA1-Low and the foreground wedge, as a step of an observation.

`thermal_noise` makes the step from a table; two tables are shipped, and `ska_low_table` calculates
others. Light cones, cubes and planes are taken.
"""

from .geometry import Background
from .ska_low import ska_low_table
from .table import NoiseTable, read_table, write_table
from .thermal import shipped_table, thermal_noise

__all__ = [
    "Background", "NoiseTable", "read_table", "shipped_table", "ska_low_table", "thermal_noise",
    "write_table",
]  # fmt: skip
