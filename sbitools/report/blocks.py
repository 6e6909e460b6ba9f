"""What a report is made of: sections of paragraphs, figures and tables, as plain text.

Nothing here is HTML; the template escapes every string.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "Block",
    "CheckLine",
    "CheckTable",
    "Code",
    "Figure",
    "Paragraph",
    "Row",
    "Section",
    "Table",
]


@dataclass(frozen=True)
class Paragraph:
    """Text.

    Args:
        text: plain.
        kind: ``"text"``, or ``"note"`` for small print.
    """

    text: str
    kind: str = "text"
    block: str = "paragraph"


@dataclass(frozen=True)
class Figure:
    """A picture inside the file.

    Args:
        source: data URI.
        alt: what it shows, for those who cannot see it.
        caption: what to look for.
        wide: use the whole width.
    """

    source: str
    alt: str
    caption: str
    wide: bool = True
    block: str = "figure"


@dataclass(frozen=True)
class Row:
    """Figures side by side, as many as fit."""

    figures: list[Figure]
    block: str = "row"


@dataclass(frozen=True)
class Code:
    """Text in a fixed-width font, line by line."""

    text: str
    block: str = "code"


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Args:
        headings: one per column.
        rows: cells as text; ``"pass"``, ``"fail"`` and ``"not tested"`` are coloured.
        caption: what it says.
        numeric: columns that are right-aligned.
    """

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    caption: str = ""
    numeric: frozenset[int] = frozenset()
    block: str = "table"


@dataclass(frozen=True)
class CheckLine:
    """One check on one kind of tests, all as text.

    Args:
        tests: ``"emulated"`` or ``"reference"``.
        effect: size of the deviation.
        band: its interval.
        p_value: or a dash.
        level: p below which the line fails, or a dash.
        power: lowest and highest probability to catch posteriors wrong by stated amounts, or a
            dash.
        result: pass, fail or not tested.
    """

    tests: str
    effect: str
    band: str
    p_value: str
    level: str
    power: str
    result: str


@dataclass(frozen=True)
class CheckTable:
    """Checks with what each asks: emulated and reference tests in neighbouring lines.

    Args:
        checks: name, one sentence, and the lines.
        caption: how to read it.
    """

    checks: list[tuple[str, str, list[CheckLine]]]
    caption: str
    block: str = "checks"


Block = Paragraph | Figure | Row | Code | CheckTable | Table


@dataclass(frozen=True)
class Section:
    """One entry of the navigation.

    Args:
        key: anchor.
        title: heading.
        lead: one or two sentences for a newcomer.
        blocks: in order.
    """

    key: str
    title: str
    lead: str
    blocks: list[Block] = field(default_factory=list)
