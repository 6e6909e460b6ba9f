"""How the documentation is built: `make docs`.

The source folder is the root of the repository, so that cards, tables and notebooks are pages
where they stand, and the links between them lead on.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes

import sbitools

project = "sbitools"
author = "The sbitools developers"
project_copyright = author
version = release = sbitools.__version__

extensions = [
    "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design",
]  # fmt: skip
root_doc = "docs/index"
include_patterns = [
    "docs/**.md", "tutorials/*.ipynb", "emulators/**/card.md", "paper/benchmarks/results/*.md",
    "CHANGELOG.md", "CONTRIBUTING.md",
]  # fmt: skip
exclude_patterns = ["site", "**/.*", ".*"]
html_theme = "furo"
html_title = "sbitools"
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # outputs are those that notebooks were committed with

autodoc_typehints = "none"  # what is meant stands under Args, with shapes and units
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are no entries of their own: classes may list them, too
_SMALL = (
    "The outputs on this page are those of the small setting, which shows every step but learns "
    "almost nothing. Where the text says what there is to see, it means the full setting."
)
default_role = "code"  # docstrings put code into single backticks


def _plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Stars and bars of shapes and sizes, as in (B, *shape), are no markup; line blocks are."""
    for i, line in enumerate(lines):
        parts = re.split(r"(^\s*\| |:math:`[^`]*`|``[^`]*``|`[^`]*`)", line)
        parts[::2] = [re.sub(r"(?<![\\*])([*|])(?!\*)", r"\\\1", part) for part in parts[::2]]
        lines[i] = "".join(parts)


def _say_setting(app: Any, doctree: nodes.document) -> None:
    """Outputs of the small setting are not what the text of a tutorial speaks of."""
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix == ".ipynb":
        metadata = json.loads(source.read_text(encoding="utf-8"))["metadata"]
        if metadata.get("sbitools", {}).get("setting") == "small":
            note = nodes.note("", nodes.paragraph(text=_SMALL))
            next(doctree.findall(nodes.title)).parent.insert(1, note)  # below the title


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("doctree-read", _say_setting)
    app.connect("autodoc-process-docstring", _plain, priority=900)  # Google style was read by then
