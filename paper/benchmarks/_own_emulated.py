"""The emulator of a set beside all of its test simulations: run by `own_simulations`.

The report compares it with the few simulations that are kept for that, 25 here, which leave the
scatter of P between seeds uncertain by 0.12: too much to tell whether it is within a fifth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sbitools.chain.run import Run
from sbitools.config import load_config
from sbitools.statistics.comparison import compare
from sbitools.statistics.equal_theta import ERROR, FLOOR

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Write `emulated.json`, empty if nothing was emulated; run in the folder of a set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    run = Run(load_config(parser.parse_args(argv).config))
    found: dict[str, float] = {}
    if run.emulation is not None:
        store = run.store("reference/test")
        errors = compare(run.emulator(), store, n_fields=None)["errors"]
        of_entries = "entries [scatter], median"
        size = errors.get("ln P(k), median") or errors[of_entries]
        scatter = (
            errors.get("scatter of ln P, emulator / reference")
            or errors["scatter, emulator / reference"]
        )
        found = {
            "median": size["emulator"], "floor": size[FLOOR], "scatter": scatter["emulator"],
            "scatter_error": scatter[ERROR], "n": len(store.done),
        }  # fmt: skip
    Path("emulated.json").write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
