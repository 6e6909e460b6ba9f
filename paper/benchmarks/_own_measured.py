"""What the folder of a finished set says: the numbers of one row of the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _own_exact import EXACT
from _own_run import Ended
from _own_sets import OwnSet

__all__ = ["COLUMNS", "ahead", "measured", "reached", "row"]

COLUMNS = (
    "set", "init s", "run min", "peak GB", "method", "with", "fine-tuned", "without", "chosen",
    "sbi default", "sbi NSF", "above sbi's best", "below the exact one", "median ln P", "floor",
    "scatter of P", "ln P in the report", "its floor", "transfer check", "repair", "reached",
)  # fmt: skip
_RIVALS = ("sbi default", "sbi NSF")
_KINDS = {"with": "emulated simulations", "fine-tuned": "emulated, then reference simulations",
          "without": "reference simulations alone"}  # fmt: skip
MOST_GB, LN_P, FLOORS, SCATTER = 4.0, 0.10, 1.5, 0.20


def measured(one: OwnSet, folder: Path, ended: Mapping[str, Ended]) -> dict[str, Any]:
    """All numbers of a set, plain values; densities in nats, of theta in its own units."""
    results = folder / "run-results"
    scores = dict(np.load(folder / "scores.npz"))
    rivals = _json(folder / "rivals.json")
    best = max(_RIVALS, key=lambda name: scores[name].mean())
    stages = [_json(path) for path in sorted((results / "stages").glob("*.json"))]
    peak = max(s["peak_memory_mb"] for s in stages) * 1024**2 / 1e6
    out: dict[str, Any] = {
        "set": one.key, "title": one.title, "n_test": len(scores["ours"]),
        "n_train": rivals["n"], "embedding": rivals["embedding"],
        "init_seconds": ended["init"].seconds, "run_minutes": ended["run"].seconds / 60,
        "peak_gb": max(peak, ended["run"].megabytes) / 1e3,
        "sbi_minutes": rivals["minutes"], "best_rival": best,
        "stages_minutes": {s["name"]: s["seconds"] / 60 for s in stages},
        "scores": {name: _mean(scores[name]) for name in ("ours", *_RIVALS)},
        "above": _mean(scores["ours"] - scores[best]),
    }  # fmt: skip
    if one.key in EXACT:
        exact, errors = EXACT[one.key](scores["theta"], scores["x"])
        out["exact"] = _mean(exact)
        out["below_exact"] = _mean(exact - scores["ours"])
        out["exact_sampling_error"] = float(np.sqrt((errors**2).mean() / len(errors)))
    return out | _run_results(results)


def _run_results(results: Path) -> dict[str, Any]:
    """What the run itself has found."""
    verdicts = _json(results / "report" / "report.json")["verdicts"]
    repair = _json(results / "repair" / "result.json")
    out: dict[str, Any] = {
        "method": "none", "choice": {},
        "verdict": {key: verdicts[0][key] for key in ("title", "passed", "text", "evidence")},
        "repair": {
            "chosen": repair["chosen"],
            "tried": {name: {k: t[k] for k in ("before", "after", "gain", "error", "helps")}
                      for name, t in repair["tried"].items()},
        },
    }  # fmt: skip
    fit = results / "stages" / "emulator.json"
    if fit.is_file():
        out["method"] = _json(fit)["settings"]["options"].get("method", "?")
        out["spectra"] = _spectra(results / "validation" / "statistics.npz")
        out["emulated"] = _json(results.parent / "emulated.json")
    if (results / "choice" / "result.json").is_file():
        found = _json(results / "choice" / "result.json")
        out["choice"] = {
            "chosen": found["chosen"], "cross_fitted": found.get("cross_fitted"),
            "failed": found["failed"], "gain": [found.get("gain"), found.get("gain_error")],
            "scores": {s["name"]: [s["mean"], s["error"]] for s in found.get("scores", [])},
        }  # fmt: skip
    return out


def _spectra(path: Path) -> dict[str, float]:
    """Median of |ln P| and its floor, as in the report: of vectors, of their entries."""
    from sbitools.report.artifacts import load_statistics
    from sbitools.statistics.equal_theta import FLOOR

    errors = load_statistics(path)["errors"]
    size = next(errors[k] for k in ("ln P(k), median", "entries [scatter], median") if k in errors)
    return {"median": size["emulator"], "floor": size[FLOOR]}


def reached(one: OwnSet, m: Mapping[str, Any]) -> dict[str, bool]:
    """By requirement, whether a set meets it; those that do not apply are left out.

    That the density is above sbi's by two errors is asked of four of five sets: see `ahead`.
    """
    out = {
        "time": max(m["init_seconds"] / 60, m["run_minutes"]) <= one.minutes,
        "memory": m["peak_gb"] <= MOST_GB,
        "not below sbi": m["above"][0] >= 0,
        "transfer or repair": m["verdict"]["passed"] is True or _repaired(m["repair"]),
    }
    if one.field and (s := m.get("emulated")):
        out["ln P"] = s["median"] <= max(LN_P, FLOORS * s["floor"])
        out["scatter of P"] = abs(s["scatter"] - 1) <= SCATTER
    return out


def _repaired(repair: Mapping[str, Any]) -> bool:
    """Whether the posterior that was repaired is not worse; one that none helps stays as it is."""
    return repair["chosen"] is None or repair["tried"][repair["chosen"]]["gain"] >= 0


def ahead(m: Mapping[str, Any]) -> bool:
    """Whether our density of the truth is above sbi's by more than two standard errors."""
    mean, error = m["above"]
    return mean > 2 * error


def row(one: OwnSet, m: Mapping[str, Any]) -> list[object]:
    """One line of the table."""
    choice, s, e = m["choice"].get("scores", {}), m.get("spectra"), m.get("emulated", {})
    chosen = m["choice"].get("chosen", _KINDS["without"])
    kinds = {key: _with_error(choice[name]) if name in choice else "-"
             for key, name in _KINDS.items()}  # fmt: skip
    tried = m["repair"]["tried"].get(m["repair"]["chosen"] or "", None)
    unmet = [name for name, met in reached(one, m).items() if not met]
    rivals = [_with_error(m["scores"][name]) for name in _RIVALS]
    return [
        f"({one.key}) {one.title}", m["init_seconds"], m["run_minutes"], m["peak_gb"],
        m["method"], *kinds.values(),
        f"{next(k for k, name in _KINDS.items() if name == chosen)}: "
        f"{_with_error(m['scores']['ours'])}",
        *rivals, _with_error(m["above"], "+"),
        _with_error(m["below_exact"], "+") if "below_exact" in m else "-",
        *((e["median"], e["floor"], f"{e['scatter']:.3f} ± {e['scatter_error']:.2g}",
           s["median"], s["floor"]) if s else ("-",) * 5),
        {True: "passed", False: "failed", None: "not tested"}[m["verdict"]["passed"]],
        f"{m['repair']['chosen']}: {tried['gain']:+.3f} ± {tried['error']:.2g}" if tried
        else "none",
        "yes" if not unmet else "NO: " + ", ".join(unmet),
    ]  # fmt: skip


def _with_error(value: Any, sign: str = "") -> str:
    return f"{value[0]:{sign}.3f} ± {value[1]:.2g}"


def _mean(values: np.ndarray) -> list[float]:
    """Mean and its standard error."""
    return [float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
