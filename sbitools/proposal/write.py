"""What `sbitools init` prints and writes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from sbitools.disk.files import typed, write_atomic
from sbitools.errors import ConfigError
from sbitools.gate.plain import as_path, text

from .proposal import Proposal
from .text import proposal_lines, proposal_text

__all__ = ["write_proposal"]


def write_proposal(proposal: Proposal, out: Path) -> None:
    """Print what was seen and write the configuration; a file that is there is never replaced.

    Raises:
        ConfigError: if `out` is taken, or is no .toml file.
    """
    out = as_path(out, "--out")
    if out.suffix != ".toml" or out.exists():
        raise ConfigError(
            "--out", expected="the name of a new .toml file",
            got=f"{out}, which exists" if out.exists() else str(out), fix="choose another name",
        )  # fmt: skip
    run_dir = text(f"{out.stem}-results", "--out")
    console = Console(highlight=False, soft_wrap=True)
    for line in proposal_lines(proposal):
        what, _, rest = line.partition(":")
        console.print(Text.assemble((f"{what}:", "bold"), rest) if rest else Text(line))
    with typed(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, proposal_text(proposal, run_dir).encode())
    console.print(Text.assemble("\nwrote ", (str(out), "bold"), "; confirm what is marked in it, "
                                "then run: ", (f"sbitools run {out}", "bold")))  # fmt: skip
