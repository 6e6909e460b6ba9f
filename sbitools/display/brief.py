"""Short representations: what a notebook shows of a result that holds arrays."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Brief", "BriefDict", "brief", "cut", "names_in_brief", "table_html"]

_MOST = 900  # characters
_ITEMS = 8
_TEXT = 80


class Brief:
    """A dataclass (with ``repr=False``) that shows its fields, and of arrays their shapes."""

    def __repr__(self) -> str:
        shown = [
            f"{f.name}={brief(getattr(self, f.name))}"
            for f in dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
            if f.repr and getattr(self, f.name) is not None
        ]
        return cut(f"{type(self).__name__}({', '.join(shown)})")

    def _repr_html_(self) -> str:
        pairs = [
            (f.name, getattr(self, f.name))
            for f in dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
            if f.repr
        ]
        rows = [(name, brief(value)) for name, value in pairs if value is not None]
        return table_html(type(self).__name__, rows, ("field", "value"))


class BriefDict(dict[str, Any]):
    """A dictionary that shows its names, and of long values their kinds alone."""

    def __repr__(self) -> str:
        return cut("{" + ", ".join(f"{k!r}: {_kind(v)}" for k, v in self.items()) + "}")


def _kind(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _TEXT else f"<{type(value).__name__} of {len(value)}>" if hasattr(
        value, "__len__") and not isinstance(value, str) else cut(text, _TEXT)  # fmt: skip


def brief(value: Any) -> str:
    """One value in a few characters."""
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "dtype") and np.ndim(value):
        return f"<{'x'.join(map(str, shape))} {str(value.dtype).removeprefix('torch.')}>"
    if isinstance(value, str):
        return repr(cut(value, _TEXT))
    if isinstance(value, Mapping):
        return f"<{len(value)} by name>" if len(value) > _ITEMS // 2 else cut(
            "{" + ", ".join(f"{k!r}: {brief(v)}" for k, v in value.items()) + "}", 3 * _TEXT
        )  # fmt: skip
    if isinstance(value, Sequence) and len(value) > _ITEMS:
        return f"<{len(value)} of {type(value[0]).__name__}>"
    if type(value) in (list, tuple):
        inside = ", ".join(map(brief, value)) + ("," if type(value) is tuple and value else "")
        return cut(f"[{inside}]" if type(value) is list else f"({inside})", 3 * _TEXT)
    return cut(repr(value), 3 * _TEXT)


def cut(text: str, most: int = _MOST) -> str:
    """At most so many characters of a text."""
    return text if len(text) <= most else text[: most - 3] + "..."


def names_in_brief(names: Sequence[str]) -> str:
    """Names with commas: the first few, and how many more there are."""
    shown = ", ".join(cut(name, _TEXT) for name in names[:_ITEMS])
    return shown + (f", ... ({len(names)} in all)" if len(names) > _ITEMS else "")


def table_html(title: str, rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """A plain table for a notebook; all text is escaped."""
    cells = [("th", head), *(("td", row) for row in rows)]
    lines = [
        "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row) + "</tr>"
        for tag, row in cells
    ]
    return f"<p>{html.escape(title)}</p><table>{''.join(lines)}</table>"
