"""Names of parameters from headings of columns: ``H0 [km/s/Mpc]`` is H0, in km/s/Mpc."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["parameter_names", "unit_in"]

# In square brackets, or in round ones after a blank: log10(L) has no unit.
_UNIT = re.compile(r"(?:\s*\[\s*([^\[\]]+?)\s*\]|\s+\(\s*([^()]+?)\s*\))\s*$")


def unit_in(heading: str) -> str:
    """The unit in brackets at the end of a heading; empty if there is none."""
    found = _UNIT.search(heading)
    return (found[1] or found[2]) if found and found.start() > 0 else ""


def parameter_names(headings: Iterable[str]) -> dict[str, str]:
    """A different identifier for each heading, itself where it is one."""
    taken: dict[str, str] = {}
    for heading in headings:
        plain = heading
        if not heading.isidentifier():
            plain = re.sub(r"\W+", "_", _UNIT.sub("", heading)).strip("_") or "parameter"
            plain = plain if plain.isidentifier() else f"p_{plain}"
        name, count = plain, 2
        while name in taken.values():
            name, count = f"{plain}_{count}", count + 1
        taken[heading] = name
    return taken
