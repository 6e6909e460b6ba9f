"""What every part of a store agrees on, and how its fields and axes are called in a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sbitools.parameters import ParameterSpace, as_space
from sbitools.simulator import FieldSpec, as_spec

__all__ = ["COLUMNS", "Layout"]

# Arrays and axes every part has; a field or an axis that is called so gets a suffix.
COLUMNS = ("simulation", "theta", "seed", "state", "error", "sha256")
_RESERVED = (*COLUMNS, "parameter", "byte", "group")  # the last is one of `to_xarray`
_NO_NAME = re.compile(r"[/\0]|^\.+$")  # what HDF5 takes for a path, an end, or a folder


@dataclass(frozen=True)
class Layout:
    """What every part of a store must agree on.

    Args:
        parameters: the parameter space.
        output: what x is.
        source: what the source field is.
        origin: sha256 of who made the simulations, ``""`` if nobody says.
        stamps: `digests` as the first part has them, if texts (labels, units) were corrected
            since; those of the specifications if None.
    """

    parameters: ParameterSpace
    output: FieldSpec
    source: FieldSpec | None = None
    origin: str = ""
    stamps: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", as_space(self.parameters))
        as_spec(self.output, "output")
        if self.source is not None:
            as_spec(self.source, "source")

    @property
    def fields(self) -> dict[str, FieldSpec]:
        """``x`` and, if there is one, ``source``."""
        return {"x": self.output} | ({"source": self.source} if self.source else {})

    @property
    def variables(self) -> dict[str, str]:
        """Names in the file of ``x`` and ``source``: the names of the fields."""
        x = _clean(self.output.name, "_field", _RESERVED)
        if self.source is None:
            return {"x": x}
        return {"x": x, "source": _clean(self.source.name, "_source", (*_RESERVED, x))}

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """Names in the file of the axes; an axis of `source` that differs in length is renamed."""
        taken = (*_RESERVED, *self.variables.values())
        axes = {"x": tuple(_clean(d, "_axis", taken) for d in self.output.dims)}
        if self.source is not None:
            sizes = dict(zip(axes["x"], self.output.shape, strict=True))
            named = [_clean(d, "_axis", taken) for d in self.source.dims]
            axes["source"] = tuple(
                d if sizes.get(d, n) == n else f"source_{d}"
                for d, n in zip(named, self.source.shape, strict=True)
            )
        return axes

    @property
    def digests(self) -> dict[str, str]:
        """sha256 of each specification, as kept in the file."""
        own = {
            "parameters_sha256": self.parameters.digest(),
            "output_sha256": self.output.digest(),
            "source_sha256": self.source.digest() if self.source else "",
        }
        return own | {k: v for k, v in (self.stamps or {}).items() if k in own}


def _clean(name: str, suffix: str, taken: Sequence[str]) -> str:
    name = _NO_NAME.sub("_", name).encode("utf-8", "replace").decode() or "field"
    return name + suffix if name in taken else name
