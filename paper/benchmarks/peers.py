"""What other packages make, in our hands: one table for each set of `SETS`.

A set is a function of `quick` that gives a `Table`; its file is `_peers_NAME.py`, and its line in
`SETS` is all that another one needs. ``--set NAME`` runs one of them. Sets of `NEEDS_DATA` read
files of others, in the folder ``--data`` or that of the environment variable JLA_DATA; without
them they are skipped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _peers_correlated import correlated
from _peers_epidemic import epidemic
from _peers_evidence import evidence
from _peers_linear import linear
from _peers_models import models
from _peers_sampling import two_moons
from _peers_supernova import missing, supernova
from _table import RESULTS, Table

__all__ = ["NEEDS_DATA", "SETS", "main"]

SETS: dict[str, Callable[[bool], Table]] = {
    "evidence": evidence,  # of a linear Gaussian: exact likelihood, and a learned one
    "linear": linear,  # LtU-ILI's toy: 200 simulations, three parameters
    "models": models,  # two nested models: log score of their probabilities
    "two_moons": two_moons,  # two_moons posterior of sbi: verdict and sampling time
    "correlated": correlated,  # joint priors: calibration, normalisation, distance to the exact
    "epidemic": epidemic,  # influenza in a boarding school, 14 counts
}
# Tables of `quick` and a folder, and why a folder will not do.
NEEDS_DATA: dict[str, tuple[Callable[[bool, Path], Table], Callable[[Path | None], str]]] = {
    "supernova": (supernova, missing),  # cosmology from binned distances of JLA
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sets and write their tables; 1 if one misses what it requires."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    parser.add_argument("--set", choices=[*SETS, *NEEDS_DATA], action="append",
                        help="all if not given")  # fmt: skip
    data = os.environ.get("JLA_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None,
                        help="folder of jla_mub.txt and jla_mub_covmatrix.dat")  # fmt: skip
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    missed = False
    for name in chosen.set or [*SETS, *NEEDS_DATA]:
        if name in SETS:
            table = SETS[name](chosen.quick)
        else:
            make, why_not = NEEDS_DATA[name]
            if reason := why_not(chosen.data):
                print(f"{name} skipped: {reason}")
                continue
            table = make(chosen.quick, chosen.data)
        table.write(chosen.out)
        missed |= table.passed is False
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
