"""What the emulator does to the N-body demo's posterior, seen on many more reference fields.

The demo (`sbitools demo`) keeps 512 reference fields for its transfer check. Here 2,048 new ones
are simulated, and as many emulated ones, which are the noise floor: latents of the truth say how
large the bias is, and parts of 512 how often the default set of checks, at the demo's rate of
false alarms, would have seen it.

`--demo DIR` is a finished run of the demo; without it, what is needed of the demo is run first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _table import RESULTS, Table

import sbitools
from sbitools.calibration import calibrate_draws, latent
from sbitools.calibration.sampling import draw
from sbitools.chain import Run, finished_record, run_chain
from sbitools.commands.demo import demo_config
from sbitools.seeds import derive

__all__ = ["main"]

_SEED = 1  # of the new fields and of the draws
_NEEDED = ("reference/train", "emulator", "emulated/train", "posterior")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--demo", type=Path, default=None, help="a finished run of the demo")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    chosen = parser.parse_args(argv)
    n, part, n_draws = (100, 50, 50) if chosen.quick else (2048, 512, 200)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run_dir = chosen.demo or root / "demo"
        run = Run(demo_config("nbody", chosen.quick, [f"run_dir={str(run_dir)!r}"]))
        if chosen.demo is None:
            run_chain(run, _NEEDED)
        finished_record(run, "posterior")
        level = run.config.calibrate.false_alarm
        table = Table(
            "nbody_transfer", f"Posterior of the N-body demo on {n} new fields",
            ("fields", "mean latent", "± s.e.", "bias that depends on x [sigma, rms]",
             "error of width [rms]", "p of the latent check", f"sets of {part} that fail"),
            quick=chosen.quick,
        )  # fmt: skip
        posterior = sbitools.Posterior.load(run.folder("posterior") / "checkpoint")
        simulators = {"emulated": run.emulator(), "reference": run.reference}
        for i, (name, simulator) in enumerate(simulators.items()):
            store = sbitools.simulate(
                simulator, n, root / name, seed=derive(_SEED, i), workers=2, progress=False
            )
            table.add(name, *_row(posterior, store, part, n_draws, level))
    table.notes += [
        "mean latent: of each dimension, in posterior sigmas; 0 for an exact posterior",
        "bias, error of width: without what chance adds, ± s.e.; 0 for an exact posterior",
        f"fail: by the default set of checks, of which {100 * level:g} % of exact posteriors fail "
        f"one or more; {n_draws} draws",
    ]
    table.write(chosen.out)
    return 0


def _row(posterior: Any, store: Any, part: int, n_draws: int, level: float) -> tuple[Any, ...]:
    d = draw(posterior, store, 1, seed=_SEED)  # latents need no draws
    assert d.latent is not None  # noqa: S101  (latent() would have said so)
    check = latent(d)
    row = {row["name"]: row for row in check.details["parameters"]}
    joint = []
    for first in range(0, len(store) - part + 1, part):
        rows = np.arange(first, first + part)
        drawn = draw(posterior, store, n_draws, seed=_SEED, indices=rows)
        result = calibrate_draws(drawn, with_power=False, false_alarm=level)
        joint.append(result.joint["emulated"])
    return (
        ", ".join(f"{value:+.3f}" for value in d.latent.mean(0)), d.n_tests**-0.5,
        _size(row["mean and summaries"]), _size(row["width and summaries"]), check.p_value,
        f"{sum(p < level for p in joint)} of {len(joint)} "
        f"(p {', '.join(f'{p:.2g}' for p in joint)})",
    )  # fmt: skip


def _size(row: dict[str, Any]) -> str:
    error = row["error"]
    return f"{row['effect']:.3f}" + ("" if error is None else f" ± {error:.3f}")


if __name__ == "__main__":
    sys.exit(main())
