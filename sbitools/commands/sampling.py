"""`sbitools sample`: the posterior of a user's own field, printed and written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sbitools.chain import finished_record
from sbitools.chain.choosing import best_trained, compares
from sbitools.chain.observing import repaired
from sbitools.errors import ConfigError
from sbitools.gate.plain import as_path
from sbitools.observation.observed import posterior_draws, read_field, summarise, write_draws

if TYPE_CHECKING:
    from sbitools.chain import Run
    from sbitools.parameters import ParameterSpace

__all__ = ["print_summary", "sample_file"]


def sample_file(
    run: Run, file: Path, *, n: int, seed: int, simulated: bool, dataset: str | None,
    unit: str | None, out: Path | None, as_trained: bool = False,
) -> None:  # fmt: skip
    """Draw from the posterior of the field in `file`, print a summary, write the draws.

    Args:
        run: whose posterior is used: the repaired one, where the repair helps.
        file: .npy, .npz or .h5 with one field, with or without a batch axis of length 1.
        n: draws.
        seed: of the draws, and of the noise of a simulated field.
        simulated: apply the observation model to the field first.
        dataset: array inside the file.
        unit: of the field; checked if given.
        out: .csv or .npz.
        as_trained: the posterior before any repair.

    Raises:
        ConfigError: if no posterior has been trained with this configuration, or `out` has
            another ending or cannot be written.
        ObservationError: if the field does not fit the posterior.
    """
    from sbitools.inference import Posterior

    if out is not None:
        out = as_path(out, "--out")
        _check_out(out)
    checkpoint, told = _best_posterior(run, as_trained)
    posterior = Posterior.load(checkpoint)
    spec = posterior.output if simulated else posterior.observed
    array, found_unit = read_field(file, dataset, spec)
    draws = posterior_draws(posterior, array, n, seed, simulated, unit or found_unit)
    print_summary(posterior.parameters, draws, file.name)
    if told:
        _print_line(f"repair: {told}")
    _print_calibration(run, "before the repair, " if checkpoint.parent.name == "repair" else "")
    if out is not None:
        write_draws(out, posterior.parameters.names, draws)


def _check_out(out: Path) -> None:
    """Find out before the work whether its result can be written."""
    if out.suffix not in (".csv", ".npz"):
        raise ConfigError(
            "--out", expected="a file that ends in .csv or .npz", got=str(out), fix="rename it"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        problem = "a folder" if out.is_dir() else ""
    except OSError as error:
        problem = error.strerror or str(error)
    if not problem and not os.access(out if out.exists() else out.parent, os.W_OK):
        problem = "no permission to write it"
    if problem:
        raise ConfigError(
            "--out", expected="a file that can be written", got=f"{out}: {problem}",
            fix="choose another path",
        )  # fmt: skip


def _best_posterior(run: Run, as_trained: bool) -> tuple[Path, str]:
    """Checkpoint of the posterior to use, and what to say about the repair, if one is wanted."""
    finished_record(run, "choice" if compares(run) else "posterior")
    if as_trained or run.config.repair.method == "none":
        return best_trained(run), ""
    try:
        finished_record(run, "repair")
    except ConfigError:
        told = "asked for, and not up to date; run `sbitools repair CONFIG`"
        return best_trained(run), told
    return repaired(run)


def _print_line(text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False, soft_wrap=True).print(Text(text))


def _print_calibration(run: Run, which: str) -> None:
    """What the calibration says about these draws, one line."""
    from sbitools.calibration import CalibrationResult

    try:
        finished_record(run, "calibration")
    except ConfigError:
        verdict = "not calibrated yet with this configuration; run `sbitools calibrate CONFIG`"
    else:
        result = CalibrationResult.from_json(run.folder("calibration") / "result.json")
        verdict = result.verdict
    _print_line(f"calibration: {which}{verdict}")


def print_summary(parameters: ParameterSpace, draws: np.ndarray, name: str) -> None:
    """A table of the draws of one field, (n, P)."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"posterior for {escape(name)}, {len(draws)} draws")
    for heading in ("parameter", "mean", "sd", "68 %", "95 %", "unit"):
        table.add_column(heading, justify="left" if heading == "parameter" else "right")
    for p, row in zip(parameters, summarise(draws), strict=True):
        mean, sd, low95, low68, high68, high95 = (f"{v:.4g}" for v in row)
        table.add_row(
            escape(p.name), mean, sd, f"{low68} .. {high68}", f"{low95} .. {high95}",
            escape(p.unit),
        )  # fmt: skip
    Console().print(table)
