"""Rerun every benchmark of the paper and write the tables: `python paper/benchmarks/run_all.py`.

Each benchmark is a script beside this one that writes `NAME.md` and `NAME.json`. They run one
after the other, each in a process of its own; one that fails does not stop the others. A table of
all verdicts, `README.md`, is written last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from _table import RESULTS, describe_machine

__all__ = ["benchmarks", "collect", "main", "run"]

HERE = Path(__file__).parent
OTHERS = {"run_all", "figures", "reionization_figure", "c2st"}  # scripts that measure nothing
# Scripts that write a table for each of several options; the others run once, without any.
CASES = {"reionization_emulator": [["--case", name] for name in ("planes", "four", "cubes")]}


def benchmarks() -> list[Path]:
    """The scripts of this folder, by name; helpers begin with an underscore."""
    scripts = sorted(HERE.glob("*.py"))
    return [p for p in scripts if not p.name.startswith("_") and p.stem not in OTHERS]


def run(script: Path, out: Path, quick: bool) -> bool:
    """Run one benchmark in all its cases, its output on the terminal; whether all ended well."""
    command = [sys.executable, str(script), "--out", str(out), *(["--quick"] if quick else [])]
    ended = [_run(command, case) for case in CASES.get(script.stem, [[]])]
    return all(ended)


def _run(command: list[str], case: list[str]) -> bool:
    name = " ".join([Path(command[1]).stem, *case])
    print(f"== {name}", flush=True)
    begun = time.perf_counter()
    code = subprocess.run([*command, *case], check=False).returncode
    ending = "done" if code == 0 else f"FAILED with exit status {code}"
    print(f"== {name} {ending} after {time.perf_counter() - begun:.0f} s\n", flush=True)
    return code == 0


def collect(out: Path, failed: Iterable[str] = ()) -> str:
    """Write `README.md`: one line per result in `out`, with its verdict, machine and date."""
    failed = set(failed)
    lines = ["# Benchmarks", "", "Written by `make benchmarks`; one line per table.", "",
             "| benchmark | required | verdict | date | machine |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for name in sorted({p.stem for p in out.glob("*.json")} | failed):
        path = out / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        lines.append(_line(name, content, name in failed))
    text = "\n".join(lines) + "\n"
    (out / "README.md").write_text(text, encoding="utf-8")
    return text


def _line(name: str, content: dict[str, Any], failed: bool) -> str:
    machine = content.get("machine", {})
    words = {True: "reached", False: "**not reached**", None: "measured only"}
    verdict = words[content.get("passed")]
    if content.get("quick"):
        verdict += " (quick run, smaller sizes)"
    if failed:
        verdict = "**did not finish**"
    where = f"{machine.get('cores', '?')} cores, {machine.get('processor', '?')}"
    cells = [f"[{content.get('title', name)}]({name}.md)", content.get("requirement") or "-",
             verdict, machine.get("date", "?"), where]  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 if a benchmark failed."""
    names = [p.stem for p in benchmarks()]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    parser.add_argument("--only", action="append", choices=names, help="repeat for more")
    parser.add_argument("--collect", action="store_true", help="run nothing, rebuild README.md")
    chosen = parser.parse_args(argv)
    chosen.out.mkdir(parents=True, exist_ok=True)
    scripts = [p for p in benchmarks() if chosen.only is None or p.stem in chosen.only]
    if chosen.collect:
        scripts = []
    else:
        print("\n".join(f"{key}: {value}" for key, value in describe_machine().items()) + "\n")
    failed = [p.stem for p in scripts if not run(p, chosen.out, chosen.quick)]
    print(collect(chosen.out, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
