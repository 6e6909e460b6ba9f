"""Reading files that others wrote: fields of any format, tables of parameters, and their content.

Nothing is loaded that is not asked for, nothing is unpickled, and whatever is damaged or unclear
is a typed error that says what to do.
"""

from .describing import Axis, Seen, describe
from .describing_tables import Column, describe_table
from .fields import Fields
from .fingerprints import fingerprint
from .joining import rows_for
from .opening import open_array, open_fields
from .tables import Table, read_table
from .theta import read_theta

__all__ = [
    "Axis", "Column", "Fields", "Seen", "Table", "describe", "describe_table", "fingerprint",
    "open_array", "open_fields", "read_table", "read_theta", "rows_for",
]  # fmt: skip
