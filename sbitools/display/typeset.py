r"""LaTeX labels that matplotlib can set, or else plain text: no figure is lost to a label.

matplotlib knows a part of LaTeX only, and raises when a figure is drawn: hours after the label was
written. So a label is tried when it is asked for, and a text once more before a figure is saved.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

__all__ = ["settable", "settle", "tex_text", "typeset"]

_ESCAPED = "_%&#{}$"


def typeset(*labels: str) -> str:
    """The first of some labels that can be set; the last one without its dollar signs if none."""
    for label in labels:
        if settable(label):
            return label
    return labels[-1].replace("$", "")


@lru_cache(maxsize=4096)
def settable(label: str) -> bool:
    """Whether matplotlib can set a text."""
    if "$" not in label:
        return True
    from matplotlib.cbook import is_math_text
    from matplotlib.mathtext import MathTextParser

    try:
        for line in label.split("\n"):
            if is_math_text(line):
                MathTextParser("path").parse(line)
    except Exception:  # whatever its parser stumbles over
        return False
    return label.replace(r"\$", "").count("$") % 2 == 0


def settle(figure: Any) -> None:
    """Take the dollar signs out of the texts of a matplotlib figure that cannot be set."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(typeset(text.get_text()))


def tex_text(text: str) -> str:
    """Plain text as upright LaTeX, for programs that set everything as mathematics."""
    inside = "".join(rf"\{c}" if c in _ESCAPED else c for c in text if c not in "\\^~")
    return rf"\mathrm{{{inside.replace(' ', chr(92) + ' ')}}}"
