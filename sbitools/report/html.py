"""From sections to one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sbitools.version import __version__

if TYPE_CHECKING:
    from jinja2 import Template

    from .blocks import Section
    from .verdict import Verdict

__all__ = ["render"]


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    # Everything that is not part of the template itself is escaped: names come from users.
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    text = (files("sbitools.report") / "template.html").read_text(encoding="utf-8")
    return environment.from_string(text)


def render(
    title: str, subtitle: str, date: str, verdicts: Sequence[Verdict], sections: Sequence[Section]
) -> str:
    """The report as HTML: inline figures, no scripts, nothing loaded from elsewhere.

    Args:
        title: heading.
        subtitle: one line below it.
        date: for the footer.
        verdicts: coloured boxes at the top.
        sections: in order, each an entry of the navigation.
    """
    boxes: list[dict[str, Any]] = [{"tone": tone(v), **vars(v)} for v in verdicts]
    return _template().render(
        title=title, subtitle=subtitle, date=date, verdicts=boxes, sections=sections,
        version=__version__,
    )  # fmt: skip


def tone(verdict: Verdict) -> str:
    """Class of the box: pass, mixed or fail."""
    if verdict.caution:
        return "mixed"
    return "pass" if verdict.passed else "fail"
