"""calibrate(): draw once, run every check, on emulated and on reference simulations."""

from __future__ import annotations

import logging
import reprlib
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from sbitools.errors import ConfigError
from sbitools.gate.names import or_else
from sbitools.gate.plain import flag, real, whole
from sbitools.seeds import check_seed, derive
from sbitools.store.access import as_store

from .check import Check
from .checks.conditional import FEWEST, conditional
from .checks.contraction import contraction
from .checks.coverage import coverage
from .checks.gate import probability
from .checks.information import information
from .checks.latent import latent
from .checks.ranks import sbc
from .checks.recovery import recovery
from .checks.tarp import tarp
from .checks.transfer import transfer
from .drawing.draws import CalibrationDraws
from .drawing.stores import as_posterior, check_specification, check_unseen
from .power import check_size, power
from .result import CalibrationResult
from .sampling import draw
from .statistics.joint import joint_null

__all__ = ["CHECKS", "calibrate", "calibrate_draws"]

_LOG = logging.getLogger(__name__)

# Those that test something share the false-alarm rate; the others measure.
_TESTED: dict[str, Callable[..., Check]] = {
    "sbc": sbc, "coverage": coverage, "tarp": tarp, "contraction": contraction,
    "latent": latent, "conditional": conditional,
}  # fmt: skip
_MEASURED: dict[str, Callable[..., Check]] = {"recovery": recovery, "information": information}

CHECKS = (*_TESTED, *_MEASURED)

# With fewer draws a posterior has no mean and width to speak of.
_FEWEST = 2

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
    quantities: Mapping[str, Callable[..., Any]] | None = None,
    required_power: float | None = None,
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
        checks: names out of `CHECKS`; those that need what the posterior does not have (a
            density, a latent space) are left out.
        false_alarm: probability that an exact posterior fails one check or more, in each set,
            from the joint null of all of them (see `joint`).
        batch_size: simulations in memory at a time.
        time_limit: seconds one observation may take before it is excluded and counted.
        quantities: further test quantities for `sbc`: name -> function of theta (B, n, P), and of
            x if it takes two arguments, that gives (B, n).
        required_power: refuse test sets too small to catch a posterior 1.25 times too narrow or
            wide, or shifted by 0.2 sigma, with this probability.
        progress: show bars.

    Returns:
        The result, with checks, verdict and everything its plots need.

    Raises:
        StoreError: if a store does not fit the posterior, shares simulations with its training
            set, is empty, or is too small for `required_power`.
        PosteriorError: if the posterior failed for every simulation.
        ConfigError: for an unknown check, no draws, or a false-alarm rate outside (0, 1).

    Example:
        >>> result = calibrate(posterior, tests, n_draws=100, progress=False)
        >>> result.passed
        True
        >>> print(result.verdict)
        Self-consistent: on 200 held-out tests all 6 checks pass ...
    """
    start = time.monotonic()
    checks, false_alarm = _check_options(checks, false_alarm)
    n_draws, seed = whole(n_draws, "n_draws", least=_FEWEST), check_seed(seed)
    if required_power is not None:
        required_power = real(required_power, "required_power", above=0, most=0.999)
    progress = flag(progress, "progress")
    posterior, test_store = as_posterior(posterior), as_store(test_store, "test_store")
    reference = None if reference is None else as_store(reference, "reference")
    stores = {"emulated": (test_store, _EMULATED), "reference": (reference, _REFERENCE)}
    stores = {kind: pair for kind, pair in stores.items() if pair[0] is not None}
    digests = {kind: store.digest() for kind, (store, _) in stores.items()}
    for kind, (store, _) in stores.items():
        check_specification(posterior, store)
        check_unseen(posterior, store, digests[kind])
        check_size(store, required_power, false_alarm, len(posterior.parameters), n_draws)
    sets = {
        kind: draw(
            posterior, store, n_draws, seed=derive(seed, key), batch_size=batch_size,
            time_limit=time_limit, quantities=quantities, latent="latent" in checks,
            log_prob=not {"coverage", "information"}.isdisjoint(checks), progress=progress,
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
    with_power: bool = True,
    info: dict[str, Any] | None = None,
) -> CalibrationResult:
    """`calibrate` for draws that exist already.

    Args:
        emulated: draws on tests of the simulator the posterior was trained on.
        reference: draws on reference tests.
        checks: names out of `CHECKS`.
        false_alarm: see `calibrate`.
        with_power: also state the power of each check: `Check.details`, ``"power"``.
        info: provenance to keep with the result.

    Raises:
        ConfigError: for an unknown check or a false-alarm rate outside (0, 1).
    """
    checks, false_alarm = _check_options(checks, false_alarm)
    for name, draws in (("emulated", emulated), ("reference", reference)):
        if not isinstance(draws, CalibrationDraws) and not (draws is None and name == "reference"):
            raise ConfigError(
                name, expected="CalibrationDraws", got=type(draws).__name__,
                fix="make them with CalibrationDraws(theta, draws), or from_posterior",
            )  # fmt: skip
    sets = {"emulated": emulated} | ({"reference": reference} if reference else {})
    done, joint = {}, {}
    for kind, d in sets.items():
        done[kind], joint[kind] = _run(d, checks, false_alarm)
        if with_power:
            done[kind] = _with_power(d, done[kind])
    differences = None
    if reference is not None:
        n_transfer = 6 if _has_densities(emulated) and _has_densities(reference) else 4
        differences = transfer(emulated, reference, false_alarm=false_alarm / n_transfer)
        joint["transfer"] = _bonferroni(differences)
    return CalibrationResult(
        emulated=done["emulated"], reference=done.get("reference"), transfer=differences,
        false_alarm=false_alarm, counts={kind: _counts(d) for kind, d in sets.items()},
        excluded={
            kind: [{"index": e.index, "reason": e.reason} for e in d.excluded]
            for kind, d in sets.items()
        },
        info=info or {}, joint=joint,
    )  # fmt: skip


def _run(
    d: CalibrationDraws, checks: Sequence[str], false_alarm: float
) -> tuple[list[Check], float]:
    """The checks in the order of `CHECKS`, and the joint p-value of those that test something."""
    names = [name for name in CHECKS if name in checks and _possible(name, d)]
    if left_out := [name for name in CHECKS if name in checks and name not in names]:
        _LOG.info("checks left out, which need what the draws do not have: %s", left_out)
    if d.excluded:
        _LOG.warning("%d simulations could not be tested; the first: %s", len(d.excluded),
                     d.excluded[0].reason)  # fmt: skip
    tested = [n for n in names if n in _TESTED and (n != "contraction" or d.prior is not None)]
    null = joint_null(d, tested)
    levels = null.levels(false_alarm)
    done = [
        _TESTED[n](d, false_alarm=levels.get(n, false_alarm)) if n in _TESTED else _MEASURED[n](d)
        for n in names
    ]
    p_values = {c.name: c.p_value for c in done if c.p_value is not None}
    return done, null.p_value(p_values)


def _with_power(d: CalibrationDraws, checks: list[Check]) -> list[Check]:
    """The checks with their power against posteriors wrong by a stated amount."""
    levels = {c.name: c.false_alarm for c in checks if c.false_alarm is not None}
    learnt = [c.effect for c in checks if c.name == "contraction"]
    found = power(
        len(d.members), d.n_draws, levels, n_parameters=d.theta.shape[1],
        contraction=learnt[0] if learnt else 0.8,
    )  # fmt: skip
    return [
        replace(c, details=c.details | {"power": found[c.name], "power of the set": found["any"]})
        if c.name in found else c
        for c in checks
    ]  # fmt: skip


def _possible(name: str, d: CalibrationDraws) -> bool:
    """Whether the draws have what the check needs."""
    needs = {
        "coverage": _has_densities(d), "latent": d.latent is not None,
        "conditional": len(d.members) >= FEWEST,
        "information": d.prior is not None and d.log_prob_true is not None and d.normalised,
    }  # fmt: skip
    return needs.get(name, True)


def _bonferroni(checks: Sequence[Check]) -> float:
    p_values = [c.p_value for c in checks if c.p_value is not None]
    return min(1.0, len(p_values) * min(p_values, default=1.0))


def _has_densities(d: CalibrationDraws) -> bool:
    return d.log_prob_true is not None and d.log_prob_draws is not None


def _counts(d: CalibrationDraws) -> dict[str, int]:
    counts = {
        "tests": d.n_tests, "draws": d.n_draws, "independent": len(d.members),
        "excluded": len(d.excluded),
    }  # fmt: skip
    return counts | {f"simulations {k}": int(v) for k, v in (d.counts or {}).items()}


def _check_options(checks: Any, false_alarm: Any) -> tuple[Sequence[str], float]:
    if isinstance(checks, str):
        checks = (checks,)
    listed = isinstance(checks, Sequence | Set)
    unknown = [c for c in checks if c not in CHECKS] if listed else []
    if not listed or not checks or unknown:
        raise ConfigError(
            "checks", expected=f"names out of {CHECKS}", got=reprlib.repr(checks),
            fix=or_else(unknown[0] if unknown else "", CHECKS, "remove the unknown names"),
        )  # fmt: skip
    return tuple(checks), probability(false_alarm)
