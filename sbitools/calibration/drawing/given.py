"""An observation as the checks take it from the user."""

from __future__ import annotations

from typing import Any

from sbitools.errors import ObservationError

__all__ = ["observed_field"]


def observed_field(posterior: Any, x: Any) -> Any:
    """Observed fields (B, *observed.shape), without labels; see `sbitools.labels.field_values`.

    Args:
        posterior: whose `observed`, if it has one, says what they must be.
        x: shape (B, *observed.shape), or one field, or with named axes.

    Raises:
        ObservationError: for labels that do not fit, and what are no real numbers.
    """
    from sbitools.gate.arrays import real_tensor
    from sbitools.observation.entry import several_fields

    spec = getattr(posterior, "observed", None)
    if spec is None:
        return real_tensor(x, "observation", ObservationError)
    return several_fields(x, spec)
