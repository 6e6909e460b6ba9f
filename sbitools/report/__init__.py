"""The report: one self-contained HTML file for people, one JSON file for machines.

Both are made from artifacts on disk alone, so that a report can be written again at any time.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .page import write_calibration

if TYPE_CHECKING:
    from sbitools.calibration.sets import CheckSets
    from sbitools.chain.run import Run

__all__ = ["write_calibration", "write_report"]


def write_report(run: Run) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` of a run.

    Args:
        run: all of whose other stages are done.

    Returns:
        The paths of both.

    Raises:
        StoreError: if an artifact is missing or damaged.
    """
    from sbitools.calibration.result import CalibrationResult
    from sbitools.chain.records import write_json
    from sbitools.disk.files import write_atomic

    from .html import render
    from .provenance import provenance
    from .sections import build_sections
    from .verdict import verdicts

    result = CalibrationResult.from_json(run.folder("calibration") / "result.json")
    facts, boxes = provenance(run), verdicts(result)
    names = ", ".join(run.reference.parameters.inferred.names)
    text = render(
        run.config.report.title or f"Calibrated posterior: {run.config.system}",
        f"{names} from {run.reference.output.name} fields of shape "
        f"{' × '.join(map(str, run.reference.output.shape))}, {facts['date'][:10]}",
        facts["date"], boxes, build_sections(run, result, facts),
    )  # fmt: skip
    folder = run.folder("report")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "report.html", text.encode())
    machine = {"verdicts": [asdict(box) for box in boxes], "checks": _checks(result), **facts}
    write_json(folder / "report.json", machine)
    return folder / "report.html", folder / "report.json"


def _checks(result: CheckSets) -> dict[str, list[dict[str, Any]]]:
    """The checks without the arrays behind their plots, which are in the calibration's result."""
    kinds = {"emulated": result.emulated, "reference": result.reference,
             "transfer": result.transfer}  # fmt: skip
    return {
        name: [{k: v for k, v in check.to_dict().items() if k != "details"} for check in checks]
        for name, checks in kinds.items()
        if checks is not None
    }
