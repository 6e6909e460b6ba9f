"""What other packages make, in our hands: one table for each set of `SETS`.

A set is a function of `quick` that gives a `Table`; its file is `_peers_NAME.py`, and its line in
`SETS` is all that another one needs. ``--set NAME`` runs one of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _peers_evidence import evidence
from _peers_linear import linear
from _peers_models import models
from _peers_sampling import two_moons
from _table import RESULTS, Table

__all__ = ["SETS", "main"]

SETS: dict[str, Callable[[bool], Table]] = {
    "evidence": evidence,  # of a linear Gaussian: exact likelihood, and a learned one
    "linear": linear,  # LtU-ILI's toy: 200 simulations, three parameters
    "models": models,  # two nested models: log score of their probabilities
    "two_moons": two_moons,  # two_moons posterior of sbi: verdict and sampling time
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sets and write their tables; 1 if one misses what it requires."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    parser.add_argument("--set", choices=list(SETS), action="append", help="all if not given")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    missed = False
    for name in chosen.set or SETS:
        table = SETS[name](chosen.quick)
        table.write(chosen.out)
        missed |= table.passed is False
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
