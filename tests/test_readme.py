"""What the README and its companions say exists, and the README's program runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "paper/paper.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)\)", text)
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:sbitools|emulators|tests|paper)/[\w./-]+\.(?:py|md|toml))`", text)
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_first_ten_lines_run_the_whole_chain():
    start = "\n".join(README.splitlines()[:10])
    assert "make demo" in start
    assert "make test" in start
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def test_every_citation_has_an_entry_and_every_entry_is_cited():
    paper = (ROOT / "paper" / "paper.md").read_text(encoding="utf-8")
    entries = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "paper" / "paper.bib").read_text(), re.M))
    cited = set(re.findall(r"@([a-z]+\d{4})\b", paper))
    assert cited == entries
