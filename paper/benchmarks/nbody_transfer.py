"""What the emulator does to the N-body demo's posterior, seen on many more reference fields.

The demo (`sbitools demo`) keeps 512 reference fields for its transfer check. Here 2,048 new ones
are simulated, and as many emulated ones, which are the noise floor: latents of the truth say how
large the bias is, and parts of 512 say how often the demo's check would have seen it.

`--demo DIR` is a finished run of the demo; without it the demo is run first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _table import RESULTS, Table

import sbitools
from sbitools.calibration import CalibrationDraws, latent
from sbitools.calibration.latent import latent_rows
from sbitools.calibration.sampling import draw
from sbitools.chain import STAGES, Run, run_chain
from sbitools.demo import demo_config
from sbitools.seeds import derive

__all__ = ["main"]

_SEED = 1  # of the new fields
_DRAWS = 10  # latents need none
_LEVEL = 0.01


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--demo", type=Path, default=None, help="a finished run of the demo")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    chosen = parser.parse_args(argv)
    n, part = (100, 50) if chosen.quick else (2048, 512)
    table = Table(
        "nbody_transfer", f"Posterior of the N-body demo on {n} new fields",
        ("fields", "mean latent", "± s.e.", "bias that depends on x [sigma, rms]",
         "width error [rms]", "p of the check", f"p of parts of {part}"), quick=chosen.quick,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run = Run(demo_config("nbody", chosen.quick,
                              [f"run_dir={str(chosen.demo or root / 'demo')!r}"]))  # fmt: skip
        run_chain(run, STAGES)
        posterior = sbitools.Posterior.load(run.folder("posterior") / "checkpoint")
        simulators = {"emulated": run.emulator(), "reference": run.reference}
        for i, (name, simulator) in enumerate(simulators.items()):
            store = sbitools.simulate(
                simulator, n, root / name, seed=derive(_SEED, i), workers=2, progress=False
            )
            table.add(name, *_row(draw(posterior, store, _DRAWS, seed=_SEED), part))
    table.notes += [
        "mean latent: of each dimension; 0 for an exact posterior, in posterior sigmas",
        "bias and width error: without what chance adds; 0 for an exact posterior",
        f"p: of the latent check as a whole, which fails below {_LEVEL:g}",
    ]
    table.write(chosen.out)
    return 0


def _row(d: CalibrationDraws, part: int) -> tuple[object, ...]:
    check = latent(d)
    assert d.latent is not None  # noqa: S101  (latent() has said so)
    assert d.summary is not None  # noqa: S101
    size = {row["name"]: row["effect"] for row in check.details["parameters"]}
    p_parts = []
    for first in range(0, d.n_tests - part + 1, part):
        rows = latent_rows(d.latent[first : first + part], d.summary[first : first + part])
        p_parts.append(min(1.0, len(rows) * min(row["p_value"] for row in rows)))
    return (
        ", ".join(f"{value:+.3f}" for value in d.latent.mean(0)),
        float(np.sqrt(1 / d.n_tests)), size["mean and summaries"], size["width and summaries"],
        check.p_value, ", ".join(f"{p:.2g}" for p in p_parts),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
