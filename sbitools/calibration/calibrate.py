"""calibrate(): draw once, run every check, on emulated and on reference simulations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from sbitools.errors import ConfigError, StoreError
from sbitools.seeds import derive

from .check import Check
from .contraction import contraction
from .coverage import coverage
from .draws import CalibrationDraws
from .ranks import sbc
from .recovery import recovery
from .result import CalibrationResult
from .sampling import check_specification, draw
from .tarp import tarp
from .transfer import transfer

__all__ = ["CHECKS", "calibrate", "calibrate_draws"]

# Name -> (function, does it test something and so share the false-alarm rate).
_TESTED: dict[str, Callable[..., Check]] = {
    "sbc": sbc, "coverage": coverage, "tarp": tarp, "contraction": contraction,
}  # fmt: skip

CHECKS = (*_TESTED, "recovery")

# Keys of the seeds of the two sets of tests.
_EMULATED, _REFERENCE = 21, 22


def calibrate(
    posterior: Any,
    test_store: Any,
    *,
    reference: Any = None,
    n_draws: int = 1000,
    seed: int = 0,
    checks: Sequence[str] = CHECKS,
    false_alarm: float = 0.01,
    batch_size: int = 64,
    time_limit: float | None = None,
    progress: bool = True,
) -> CalibrationResult:
    """Test a posterior on simulations it was not trained on, and on the reference simulator.

    Args:
        posterior: from `sbitools.train`.
        test_store: simulations like those of training, but others.
        reference: store of reference simulations; None leaves the transfer untested.
        n_draws: posterior draws per simulation; ranks are exact at any number.
        seed: of draws, observation noise, ties, references and bootstraps. Draws also depend on
            `batch_size`.
        checks: names out of `CHECKS`.
        false_alarm: probability that an exact posterior fails one check or more, in each set.
        batch_size: simulations in memory at a time.
        time_limit: seconds one observation may take before it is excluded and counted.
        progress: show bars.

    Returns:
        The result, with checks, verdict and everything its plots need.

    Raises:
        StoreError: if a store does not fit the posterior, holds its training set, or is empty.
        PosteriorError: if the posterior failed for every simulation.
        ConfigError: for an unknown check or a false-alarm rate outside (0, 1).
    """
    start = time.monotonic()
    _check_options(checks, false_alarm)
    stores = {"emulated": (test_store, _EMULATED), "reference": (reference, _REFERENCE)}
    stores = {kind: pair for kind, pair in stores.items() if pair[0] is not None}
    digests = {kind: store.digest() for kind, (store, _) in stores.items()}
    for kind, (store, _) in stores.items():
        check_specification(posterior, store)
        _check_unseen(posterior, store, digests[kind])
    sets = {
        kind: draw(
            posterior, store, n_draws, seed=derive(seed, key), batch_size=batch_size,
            time_limit=time_limit, log_prob="coverage" in checks, progress=progress,
        )
        for kind, (store, key) in stores.items()
    }  # fmt: skip
    info = {"seed": seed, "stores": digests, "seconds": round(time.monotonic() - start, 3)}
    return calibrate_draws(
        sets["emulated"], sets.get("reference"), checks=checks, false_alarm=false_alarm, info=info
    )


def calibrate_draws(
    emulated: CalibrationDraws,
    reference: CalibrationDraws | None = None,
    *,
    checks: Sequence[str] = CHECKS,
    false_alarm: float = 0.01,
    info: dict[str, Any] | None = None,
) -> CalibrationResult:
    """`calibrate` for draws that exist already.

    Args:
        emulated: draws on tests of the simulator the posterior was trained on.
        reference: draws on reference tests.
        checks: names out of `CHECKS`.
        false_alarm: see `calibrate`.
        info: provenance to keep with the result.

    Raises:
        ConfigError: for an unknown check or a false-alarm rate outside (0, 1).
    """
    _check_options(checks, false_alarm)
    sets = {"emulated": emulated} | ({"reference": reference} if reference else {})
    done = {kind: _run(d, checks, false_alarm) for kind, d in sets.items()}
    differences = None
    if reference is not None:
        n_transfer = 6 if _has_densities(emulated) and _has_densities(reference) else 4
        differences = transfer(emulated, reference, false_alarm=false_alarm / n_transfer)
    return CalibrationResult(
        emulated=done["emulated"], reference=done.get("reference"), transfer=differences,
        false_alarm=false_alarm, counts={kind: _counts(d) for kind, d in sets.items()},
        excluded={
            kind: [{"index": e.index, "reason": e.reason} for e in d.excluded]
            for kind, d in sets.items()
        },
        info=info or {},
    )  # fmt: skip


def _run(d: CalibrationDraws, checks: Sequence[str], false_alarm: float) -> list[Check]:
    """The checks in the order of `CHECKS`; those that test share the false-alarm rate equally."""
    names = [name for name in CHECKS if name in checks]
    names = [n for n in names if n != "coverage" or _has_densities(d)]
    tested = [n for n in names if n in _TESTED and (n != "contraction" or d.prior is not None)]
    level = false_alarm / max(1, len(tested))
    return [_TESTED[n](d, false_alarm=level) if n in _TESTED else recovery(d) for n in names]


def _has_densities(d: CalibrationDraws) -> bool:
    return d.log_prob_true is not None and d.log_prob_draws is not None


def _counts(d: CalibrationDraws) -> dict[str, int]:
    counts = {
        "tests": d.n_tests, "draws": d.n_draws, "independent": len(d.members),
        "excluded": len(d.excluded),
    }  # fmt: skip
    return counts | {f"simulations {k}": int(v) for k, v in (d.counts or {}).items()}


def _check_options(checks: Sequence[str], false_alarm: float) -> None:
    unknown = sorted(set(checks) - set(CHECKS))
    if unknown or not checks:
        raise ConfigError(
            "checks", expected=f"names out of {CHECKS}", got=f"{tuple(checks)}",
            fix="remove the unknown names",
        )  # fmt: skip
    if not 0 < false_alarm < 1:
        raise ConfigError(
            "false_alarm",
            expected="a probability in (0, 1)",
            got=repr(false_alarm),
            fix="0.01 is the default",
        )


def _check_unseen(posterior: Any, store: Any, digest: str) -> None:
    """Raise if the posterior was trained on this very store: it would look better than it is."""
    if digest in str(getattr(posterior, "info", {})):
        raise StoreError(
            f"store {store.path}", expected="simulations the posterior was not trained on",
            got="the training store", fix="simulate a test store with another seed",
        )  # fmt: skip
