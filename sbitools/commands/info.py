"""`sbitools info` and `sbitools systems`: what a folder or a file is, and what is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sbitools.checkpoint import MANIFEST, checkpoint_config, checkpoint_kind
from sbitools.errors import StoreError
from sbitools.gate.plain import as_path

__all__ = ["info_lines", "systems_lines"]

_RUN, _STORE = "stages", "store.json"


def info_lines(path: str | Path) -> list[str]:
    """What is at `path`: a run, a store, a checkpoint, or a file of fields; one fact a line.

    Raises:
        SbitoolsError: for nothing, something else, or damage.
    """
    path = as_path(path, "path of info")
    if not path.exists():
        raise StoreError(
            f"{path}", expected="a run, a store, a checkpoint or a file of fields", got="nothing",
            fix="check the path",
        )  # fmt: skip
    if (path / _RUN).is_dir():
        return _run(path)
    if (path / _STORE).is_file():
        return _store(path)
    if (path / MANIFEST).is_file():
        return _checkpoint(path)
    if path.is_dir() and (path / "checkpoint" / MANIFEST).is_file():  # a stage of a run
        return _checkpoint(path / "checkpoint")
    return _fields(path)


def systems_lines() -> list[str]:
    """Installed systems, methods of emulation and summary networks; nothing is imported."""
    from sbitools.emulation import GROUP as METHODS
    from sbitools.installed import names_installed
    from sbitools.systems import GROUP as SYSTEMS

    groups = {"systems": SYSTEMS, "methods of emulation": METHODS,
              "summary networks": "sbitools.embeddings"}  # fmt: skip
    return [
        f"{title}: {', '.join(names_installed(group)) or 'none'}   (entry points {group!r})"
        for title, group in groups.items()
    ]


def _run(path: Path) -> list[str]:
    from sbitools.chain.records import read_record

    out = [f"run {path}"]
    found = [read_record(file) for file in (path / _RUN).glob("*.json")]
    for record in sorted((r for r in found if r), key=lambda r: (r.started, r.name)):
        took = f"{record.seconds / 60:.1f} min" if record.state == "done" else "not finished"
        out.append(f"{record.name:<22}{record.state:<9}{took}")
    report = path / "report" / "report.html"
    return [*out, f"report: {report}" if report.is_file() else "no report yet: sbitools run"]


def _store(path: Path) -> list[str]:
    from sbitools.store import SimulationStore

    store = SimulationStore.open(path)
    counts = ", ".join(f"{n} {state}" for state, n in store.counts().items() if n)
    priors = [f"  {p.name}: {p.prior}" + (f" [{p.unit}]" if p.unit else "")
              for p in store.parameters]  # fmt: skip
    return [f"store {path}", f"simulations: {counts}, design {store.design!r}",
            f"x: {_spec(store.output)}", "parameters:", *priors]  # fmt: skip


def _checkpoint(path: Path) -> list[str]:
    config = checkpoint_config(path)
    size = sum(f.stat().st_size for f in path.iterdir() if f.is_file())
    out = [f"checkpoint {path}", f"kind: {checkpoint_kind(path)}, {size / 1e6:.1f} MB"]
    names = [p.get("name", "?") for p in config.get("parameters", []) if isinstance(p, dict)]
    options: Any = config.get("options")
    if names:
        out.append(f"parameters: {', '.join(map(str, names))}")
    if isinstance(options, dict):
        out += [f"  {key} = {value}" for key, value in options.items()]
    return out


def _fields(path: Path) -> list[str]:
    from sbitools.formats import describe, open_fields

    with open_fields(path) as fields:
        seen = describe(fields)
    out = [f"fields in {path}", f"{seen.shape[0]} of shape {seen.shape[1:]}, {seen.dtype}",
           f"values: {seen.minimum:.4g} to {seen.maximum:.4g} {seen.unit or ''}".rstrip(),
           "axes: " + ", ".join(f"{a.name} {a.length} ({a.kind})" for a in seen.axes)]  # fmt: skip
    out += [f"{seen.failed} with values that are not finite"] if seen.failed else []
    return out + ([f"{seen.duplicates} repeat an earlier one"] if seen.duplicates else [])


def _spec(spec: Any) -> str:
    sides = ", ".join(f"{d} {n}" for d, n in zip(spec.dims, spec.shape, strict=True))
    return f"{spec.name} ({sides}), {spec.dtype}" + (f", {spec.unit}" if spec.unit else "")
