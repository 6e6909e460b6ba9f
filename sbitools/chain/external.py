"""Stores that other programs fill: designs out, results and existing sets in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sbitools.errors import ConfigError
from sbitools.gate.plain import as_path

from .chain import run_stage, stage_inputs, working
from .records import record_work
from .stages import STAGES, store_section, store_simulator, store_size

if TYPE_CHECKING:
    from sbitools.simulator import Simulator
    from sbitools.store import SimulationStore

    from .run import Run

__all__ = ["Nonfinite", "export_store_design", "import_arrays", "import_results"]

Nonfinite = Literal["error", "fail"]


def export_store_design(run: Run, name: str, path: Path) -> None:
    """Plan a store and write its design, for a campaign that runs elsewhere.

    Args:
        run: configuration and folder.
        name: of a store, e.g. ``"reference/test"``.
        path: ``.csv`` or ``.npz`` with index, seed and theta.

    Raises:
        ConfigError: if the store's stage lacks its inputs, or there is a store of another design.
        StoreError: for another suffix.
    """
    from sbitools.campaign import plan
    from sbitools.store import SimulationStore

    stage_inputs(run, STAGES[name])
    path = as_path(path, "--export-design")
    if path.suffix not in (".csv", ".npz") or not path.parent.is_dir():
        raise ConfigError(
            "--export-design", expected="a .csv or .npz file in a folder that exists",
            got=str(path), fix="correct the path",
        )  # fmt: skip
    folder, size = run.folder(name), store_section(run, name).task_size
    simulator = store_simulator(run, name)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        plan(simulator, store_size(run, name), folder, seed=run.seed(name), task_size=size)
    store = SimulationStore.open(folder)
    _check_design(run, name, store, simulator)
    store.export_design(path)


def _check_design(run: Run, name: str, store: SimulationStore, simulator: Simulator) -> None:
    """Refuse a store that was planned with another configuration."""
    pairs = {
        "simulations": (len(store), store_size(run, name)),
        "seed": (store.seed, run.seed(name)),
        "parameters": (store.parameters.to_dict(), simulator.parameters.to_dict()),
        "output": (store.output.to_dict(), simulator.output.to_dict()),
    }
    changed = {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}
    if changed:
        raise ConfigError(
            str(store.path),
            expected=", ".join(f"{what} {now}" for what, (_, now) in changed.items()),
            got=", ".join(f"{what} {was}" for what, (was, _) in changed.items()),
            fix="undo the change, use another run_dir, or delete that folder if it is no longer "
            "needed",
        )


def import_results(
    run: Run, name: str, folder: Path, *, unit: str | None = None, nonfinite: Nonfinite = "error"
) -> str:
    """Add result files of a campaign whose design was exported; run it again as more come.

    Args:
        run: configuration and folder.
        name: of the store.
        folder: with one file per simulation, its index last in the name.
        unit: of the fields, checked if given.
        nonfinite: ``"error"``, or ``"fail"`` to record such simulations as failed.

    Returns:
        What was done, one line.

    Raises:
        StoreError: if no design was exported, or a file does not fit; others are added before.
    """
    from sbitools.store import SimulationStore
    from sbitools.store.imports import add_results

    store = SimulationStore.open(run.folder(name))
    added = add_results(store, folder, unit=unit, nonfinite=nonfinite)
    missing = store.counts()["pending"]
    if missing:
        return f"{name}: {added} added, {missing} of {len(store)} still missing"
    run_stage(run, STAGES[name])  # nothing is left to simulate: it records the finished store
    return f"{name}: {added} added, complete"


def import_arrays(
    run: Run, name: str, x: Path, theta: Path, *, source: Path | None = None,
    dataset: str | None = None, unit: str | None = None, nonfinite: Nonfinite = "error",
) -> str:  # fmt: skip
    """Make a store of existing simulations.

    Args:
        run: configuration and folder.
        name: of the store.
        x: file of fields, (n, *shape).
        theta: parameter table of n rows.
        source: file of source fields, if the store keeps them.
        dataset: name of x in an .npz or HDF5 file.
        unit: of the fields, checked if given.
        nonfinite: ``"error"``, or ``"fail"`` to record such simulations as failed.

    Returns:
        What was done, one line.

    Raises:
        ConfigError: if the run has this store already; for the store that validates the emulator,
            which is compared seed by seed; if source fields are missing or not wanted.
        StoreError: for damaged files, different lengths, NaN or Inf.
        ShapeError: for another shape, dtype or unit.
        ParameterError: for missing columns, or theta outside the priors.
    """
    stage, folder = STAGES[name], run.folder(name)
    if folder.exists():
        raise ConfigError(
            str(folder),
            expected="no store yet",
            got="one",
            fix="use another run_dir, or delete it",
        )
    if name == "reference/validation":
        raise ConfigError(
            f"import into {name}", expected="simulations of this run's seeds, with which the "
            "emulator repeats them one by one", got="arrays, whose seeds are not known",
            fix=f"run `sbitools simulate CONFIG --store {name}`, or make them elsewhere from "
            "--export-design and bring them in with --results",
        )  # fmt: skip
    inputs = stage_inputs(run, stage)
    simulator = store_simulator(run, name)
    _check_source(name, simulator, source)
    store: list[SimulationStore] = []

    def work() -> tuple[dict[str, Path], dict]:
        from sbitools.store.imports import import_files

        folder.parent.mkdir(parents=True, exist_ok=True)
        store.append(import_files(
            folder, x, theta, simulator.parameters, simulator.output, dataset=dataset,
            source=simulator.source, source_x=source, unit=unit,
            group_size=getattr(simulator, "group_size", 1), nonfinite=nonfinite,
        ))  # fmt: skip
        return {"store": folder}, {"imported": True, "counts": store[0].counts()}

    with working(run, stage):
        record_work(run.record_path(name), name, run.base, inputs, work)
    return f"{name}: {len(store[0])} imported"


def _check_source(name: str, simulator: Simulator, source: Path | None) -> None:
    spec = simulator.source
    if (spec is None) == (source is None):
        return
    raise ConfigError(
        "--source",
        expected="none, as this store keeps none" if spec is None
        else f"the file of {spec.name}, shape (n, {', '.join(map(str, spec.shape))})",
        got="nothing" if source is None else str(source),
        fix="leave it out" if spec is None else f"add --source FILE: {name} keeps these fields, "
        "and the emulator is fitted to them",
    )  # fmt: skip
