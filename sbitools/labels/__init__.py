"""What arrays say of themselves: names of columns and axes, units, masks. Used, or refused.

pandas, xarray, astropy and other makers of labels are never imported: an object is known by what
it has. What comes out has no label left that could matter, in the order of the parameters or of
the field; arrays on disk stay there until they are sliced.
"""

from .fields import FieldLabels, field_values, scale_names, unlabelled
from .kinds import axis_names
from .missing import is_missing
from .parameters import table_values
from .rows import require_same_rows
from .units import same_unit, stated_unit

__all__ = [
    "FieldLabels", "axis_names", "field_values", "is_missing", "require_same_rows",
    "same_unit", "scale_names", "stated_unit", "table_values", "unlabelled",
]  # fmt: skip
