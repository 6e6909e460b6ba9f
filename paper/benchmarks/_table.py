"""What every benchmark shares: its options, the machine it ran on, and the table it writes.

A benchmark is a script `NAME.py --out DIR [--quick]` that prints one table and writes it twice:
`NAME.md` for people, `NAME.json` for machines, both with the machine and the date, because a
number without them is not a measurement.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "Table", "cpu_seconds", "describe_machine", "options", "peak_memory_mb", "say",
    "simulating_parser", "work_folder",
]  # fmt: skip

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("sbitools", "torch", "numpy", "scipy", "sbi", "zuko", "h5py", "numba")
_MISSING = "-"


def options(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options that all benchmarks have: `out` (a folder that exists now) and `quick`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    chosen = parser.parse_args(argv)
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen


def simulating_parser(description: str | None, default: int = 2) -> argparse.ArgumentParser:
    """Options of benchmarks that simulate for long: `work`, a folder that is kept, and `workers`.

    Args:
        description: whose first line is shown.
        default: number of workers.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the table")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    parser.add_argument("--work", type=Path, help="folder of all that is simulated and trained")
    parser.add_argument(
        "--workers", type=int, default=default, help="processes that simulate, threads that train"
    )
    return parser


@contextmanager
def work_folder(chosen: argparse.Namespace) -> Iterator[Path]:
    """`work` of the options, or a folder that is gone at the end."""
    with tempfile.TemporaryDirectory() as folder:
        work: Path = chosen.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        yield work


def say(text: str) -> None:
    """Progress of a long benchmark."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def describe_machine() -> dict[str, str]:
    """Processor, cores this process may use, memory, system, date and versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": str(_cores()),
        "memory": f"{_memory_gb():.0f} GB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
        "load": f"{os.getloadavg()[0]:.1f} at the end of the run",
        "versions": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    }


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes).

    Linux's own high-water mark is preferred: a child's `ru_maxrss` starts at that of its parent.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if platform.system() == "Darwin" else 1024) / 1e6


@dataclass
class Table:
    """One result: rows of numbers or text, the requirement they answer to, and the verdict.

    Args:
        name: of the benchmark; the files are `name.md` and `name.json`.
        title: one line.
        columns: the headings.
        requirement: what must be reached, in words; empty if nothing is required.
        quick: whether the sizes were cut down; the table then says so.
    """

    name: str
    title: str
    columns: Sequence[str]
    requirement: str = ""
    quick: bool = False
    rows: list[Sequence[object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passed: bool | None = None
    data: dict[str, object] = field(default_factory=dict)

    def add(self, *row: object) -> None:
        """Append one row, as long as `columns`."""
        if len(row) != len(self.columns):
            raise ValueError(f"expected {len(self.columns)} values; got {len(row)}")
        self.rows.append(row)

    def write(self, folder: Path) -> None:
        """Print the table and write both files into `folder`."""
        machine = describe_machine()
        text = self.markdown(machine)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.md").write_text(text, encoding="utf-8")
        content = {
            "name": self.name, "title": self.title, "quick": self.quick, "passed": self.passed,
            "requirement": self.requirement, "columns": list(self.columns),
            "rows": [list(row) for row in self.rows], "notes": self.notes, "data": self.data,
            "machine": machine,
        }  # fmt: skip
        encoded = json.dumps(content, indent=2, default=_plain, allow_nan=True)
        (folder / f"{self.name}.json").write_text(encoded + "\n", encoding="utf-8")
        print(text)

    def markdown(self, machine: Mapping[str, str]) -> str:
        """The table as text, with the machine below it."""
        lines = [f"# {self.title}", ""]
        if self.quick:
            lines += ["Quick run: sizes cut down, not the published numbers.", ""]
        if self.requirement:
            verdict = {True: "reached", False: "NOT reached", None: "not judged"}[self.passed]
            lines += [f"Required: {self.requirement} **{verdict}.**", ""]
        lines += [_row(self.columns), _row(["---"] * len(self.columns))]
        lines += [_row([_format(value) for value in row]) for row in self.rows]
        lines += ["", *[f"- {note}" for note in self.notes], ""]
        lines += [f"- {key}: {value}" for key, value in machine.items()]
        return "\n".join(lines) + "\n"


def _row(values: Sequence[str]) -> str:
    return "| " + " | ".join(values) + " |"


def _format(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    """JSON for numpy scalars and arrays, and for paths."""
    if hasattr(value, "tolist"):
        return value.tolist()  # type: ignore[attr-defined]
    return str(value)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _MISSING
