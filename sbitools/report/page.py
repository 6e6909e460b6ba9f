"""The part of the report that needs nothing but a calibration, as a page of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sbitools.calibration.sets import CheckSets

__all__ = ["write_calibration"]


def write_calibration(result: CheckSets, path: str | Path) -> Path:
    """Write the part of the report that needs nothing but a calibration.

    Args:
        result: of `sbitools.calibrate`.
        path: of the HTML file.
    """
    from sbitools.disk.files import write_result
    from sbitools.gate.plain import as_path

    from .html import render
    from .sections import calibration_sections
    from .verdict import verdicts

    date, sections = datetime.now(UTC).isoformat(timespec="seconds"), calibration_sections(result)
    title, counts = "Calibration of a posterior", result.counts["emulated"]
    subtitle = f"{counts['tests']} tests with {counts['draws']} draws each, {date[:10]}"
    text = render(title, subtitle, date, verdicts(result), sections)
    path = as_path(path)
    write_result(path, text.encode(), b'name="generator" content="sbitools')
    return path
