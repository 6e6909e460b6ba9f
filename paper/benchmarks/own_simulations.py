"""From files of one's own simulations to a posterior, by two commands, against sbi.

Five sets by small simulators that know nothing of sbitools (`_own_sets.py`): 512 simulations of
each are written to `fields.npy` and `params.csv`. `sbitools init` and `sbitools run` do the rest,
defaults throughout; the one thing that is edited are the priors, which are set to those that the
simulator has drawn from, and confirmed. `init` keeps half of the simulations for tests. sbi's NPE
(its default flow, and its spline flow) is trained on the other half, those that validate our
emulator included, and all are scored by the log density of the truth of the test simulations, in
nats, of theta in its own units (`_own_rivals.py`). Of sets a and e the exact posterior is known.

`--work DIR` keeps everything; what is finished there is not run again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from _own_measured import COLUMNS, FLOORS, LN_P, MOST_GB, SCATTER, ahead, measured, reached, row
from _own_run import run_set
from _own_sets import SETS
from _table import Table, say, simulating_parser, work_folder

__all__ = ["main"]

N, N_QUICK = 512, 96
AHEAD = 4  # sets of five
# Of a quick run: so little of everything that the numbers mean nothing.
QUICK = (
    "emulated.n_train=64", "emulated.n_test=32", "train.epochs=1", "calibrate.n_draws=50",
    "repair.n_draws=50", "repair.folds=2", "report.examples=1",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate; 1 if a requirement is not met."""
    parser = simulating_parser(__doc__)
    parser.add_argument("--sets", default=None, help=f"some of {','.join(SETS)}; default: all")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE",
        help="of `sbitools run`: the table then is not one of the defaults, and says so",
    )  # fmt: skip
    chosen = parser.parse_args(argv)
    keys = (chosen.sets or ("e" if chosen.quick else ",".join(SETS))).split(",")
    if unknown := {*keys} - {*SETS}:
        parser.error(f"unknown sets: {', '.join(sorted(unknown))}")
    table = Table(
        "own_simulations",
        "One's own simulations, from files to a posterior by two commands, against sbi",
        COLUMNS,
        f"each command within 60 minutes (e: 10), at most {MOST_GB:g} GB; the log density of the "
        "truth not below that of sbi's best on any set, and above it by more than two standard "
        f"errors on at least {AHEAD} of 5; on a to d the median |ln P| of the emulator at most "
        f"{LN_P:g} or {FLOORS:g} times the floor, and the scatter of P within {100 * SCATTER:g} "
        "%; the transfer check passed, or the repaired posterior not worse.",
        chosen.quick,
    )  # fmt: skip
    found: list[dict[str, Any]] = []
    overrides = [*(QUICK if chosen.quick else ()), *chosen.overrides]
    with work_folder(chosen) as work:
        for key in keys:
            one, n = SETS[key], N_QUICK if chosen.quick else N
            ended = run_set(one, work / key, n, overrides, epochs=2 if chosen.quick else None)
            found.append(measured(one, work / key, ended))
            table.add(*row(one, found[-1]))
            say(f"{key}: {table.rows[-1]}")
    _finish(table, found, chosen.quick or bool(chosen.overrides), overrides)
    table.write(chosen.out)
    return 1 if table.passed is False else 0


def _finish(
    table: Table, found: list[dict[str, Any]], changed: bool, overrides: Sequence[str]
) -> None:
    """Verdict and notes."""
    each = [all(reached(SETS[m["set"]], m).values()) for m in found]
    in_front = sum(map(ahead, found))
    if not changed and not all(each):
        table.passed = False
    elif not changed and len(found) == len(SETS):
        table.passed = in_front >= AHEAD
    if overrides:
        table.notes.append(f"not the defaults: {', '.join(overrides)}")
    table.notes += [
        f"above sbi's best by more than two standard errors on {in_front} of {len(found)} sets",
        "with, fine-tuned, without: log density of the truth, in nats, of our posterior trained "
        "on emulated simulations, on these and then the reference ones, on the reference ones "
        "alone; chosen: the best of them, chosen by the same test simulations "
        + _cross_fitted(found),
        "sbi: NPE with its default flow and with its spline flow, the better one counts; where "
        "ours has an embedding it has the same network with fresh weights "
        f"({', '.join(m['set'] + ': ' + m['embedding'] for m in found)}); its densities are "
        "divided by the share of 2,000 draws that lie within the prior, for each test simulation",
        "errors are standard errors of means over the test simulations, paired for differences; "
        "below the exact one: by quadrature (a), by importance sampling (e"
        + "".join(f", error of the mean {m['exact_sampling_error']:.2g} nats" for m in found
                  if m["set"] == "e") + ")",
        "median ln P: of emulated over reference at equal theta, median over wavenumbers; of "
        "vectors, of the entries in units of their scatter; floor: reference against itself; with "
        "all test simulations, which no emulator has seen. The report has the 25 that validate: "
        "they leave ln P and the scatter of P between seeds uncertain by as much as is asked",
        "peak GB: the larger of the largest process and of the sum of all of a stage; run min: "
        "wall time on a machine that others may have used as well",
        *[f"{m['set']}: {m['verdict']['title']}. {' '.join(m['verdict']['evidence'])}"
          for m in found if not m["verdict"]["passed"]],
    ]  # fmt: skip
    table.data = {"sets": found}


def _cross_fitted(found: list[dict[str, Any]]) -> str:
    values = [f"{m['set']}: {m['choice']['cross_fitted']:.3f}" for m in found
              if m["choice"].get("cross_fitted") is not None]  # fmt: skip
    return f"(the choice cross-fitted: {', '.join(values)})" if values else ""


if __name__ == "__main__":
    sys.exit(main())
