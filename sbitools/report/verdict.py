"""The verdict in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sbitools.calibration.verdict import NOTHING_TO_TRANSFER, repeats_prior
from sbitools.calibration.verdict import verdict as judge

from .evidence import evidence, resolution

if TYPE_CHECKING:
    from sbitools.calibration.check import Check
    from sbitools.calibration.sets import CheckSets

__all__ = ["Verdict", "verdicts"]


@dataclass(frozen=True)
class Verdict:
    """One coloured box.

    Args:
        key: ``"self"`` or ``"transfer"``.
        passed: None if nothing was tested.
        title: one line.
        text: what follows from it, for a newcomer.
        evidence: the numbers, one sentence each.
        caution: nothing failed outright, but there is a reservation, which the text names.
    """

    key: str
    passed: bool | None
    title: str
    text: str
    evidence: list[str]
    caution: bool = False


def verdicts(result: CheckSets) -> list[Verdict]:
    """The verdicts of a calibration: transfer to the reference, which counts, comes first.

    Without a reference, self-consistency comes first, and the transfer is said not to be tested.
    """
    own = _self_consistency(result)
    if result.reference is None:
        return [own] if result.no_emulator else [own, _NOT_TESTED]
    return [_transfer(result, result.reference, result.transfer or []), own]


_NOT_TESTED = Verdict(
    "transfer", None, "Transfer to the reference simulator: not tested",
    "No fields of a reference simulator were given, so nothing is known about how this posterior "
    "does on any simulator but the one it was trained on. Give test simulations of the reference "
    "to find out.", [], caution=True,
)  # fmt: skip


def _self_consistency(result: CheckSets) -> Verdict:
    failed, n = _failed(result.emulated), result.counts["emulated"]["tests"]
    # The calibration judges: besides failed checks, it minds tests that gave no draws.
    alone = judge(replace(result, reference=None, transfer=None))
    passed, silent = alone.passed, alone.calibrated and repeats_prior(result.emulated)
    if result.no_emulator:
        return _on_reference(result, passed, silent, failed)
    if passed:
        text = (
            f"On {n} new fields of the emulator it was trained on, no miscalibration was found"
            f"{_unseen(result.emulated)}. This alone says nothing yet about the real simulator."
        )
    else:
        text = (
            f"On {n} new fields of the emulator it was trained on, the posterior is not "
            f"calibrated ({_reasons(failed)}). Train it longer or on more emulated fields before "
            "its intervals are used."
        )
    title = f"Self-consistency: {'passed' if passed else 'failed'}"
    if silent:
        title = "Self-consistency: calibrated, but almost nothing was learnt"
        text = (
            f"On {n} new fields of the emulator the posterior is calibrated, but only because it "
            "repeats the prior: it has learnt almost nothing from the fields. Train it longer, on "
            "more emulated fields or on fields with less noise."
        )
    return Verdict("self", passed, title, text, evidence(result.emulated), caution=silent)


def _on_reference(
    result: CheckSets, passed: bool, silent: bool, failed: Sequence[Check]
) -> Verdict:
    """The verdict on a posterior that was trained without an emulator."""
    n = result.counts["emulated"]["tests"]
    on = f"On {n} simulations of the reference that the posterior has not seen"
    title = f"Calibration on the reference: {'passed' if passed else 'failed'}"
    text = f"{on}, no miscalibration was found{_unseen(result.emulated)}."
    if silent:
        title = "Calibration on the reference: calibrated, but almost nothing was learnt"
        text = f"{on}, it is calibrated, but only because it repeats the prior."
    elif not passed:
        text = (
            f"{on}, it is not calibrated ({_reasons(failed)}). The sizes below say how far off "
            "it is. Train on more simulations, or have it repaired."
        )
    return Verdict("self", passed, title, text, evidence(result.emulated), caution=silent)


def _transfer(result: CheckSets, checks: Sequence[Check], differences: Sequence[Check]) -> Verdict:
    failed, changed = _failed(checks), _failed(differences)
    n = result.counts["reference"]["tests"]
    alone = replace(
        result, emulated=list(checks), reference=None, transfer=None,
                    counts={"emulated": result.counts["reference"]})  # fmt: skip
    calibrated = judge(alone).calibrated
    # A posterior that fails on emulated fields can pass here only for want of tests, or by luck.
    consistent = judge(replace(result, reference=None, transfer=None)).calibrated
    silent = calibrated and consistent and repeats_prior(checks)
    passed = calibrated and consistent and not changed and not silent
    if not consistent:
        title, text = _inconsistent(n, calibrated)
    elif not calibrated:
        title = "failed"
        text = (
            f"On {n} fields of the expensive reference simulator the posterior is not calibrated "
            f"({_reasons(failed)}). The sizes below say how far off it is. Its intervals need "
            "that correction, or the emulator needs more reference simulations."
        )
    elif silent:
        title, text = "nothing to transfer", NOTHING_TO_TRANSFER
    else:
        title, text = _calibrated(n, changed, _unseen(checks))
    return Verdict(
        "transfer", passed, f"Transfer to the reference simulator: {title}", text,
        evidence([*checks, *differences]), caution=calibrated and not passed,
    )  # fmt: skip


def _inconsistent(n: int, calibrated: bool) -> tuple[str, str]:
    """Title and text for a posterior that fails on emulated fields."""
    if calibrated:
        return "no failure seen, but not self-consistent", (
            f"On {n} fields of the expensive reference simulator no check fails. But on the "
            "emulator's own fields the posterior is not calibrated, so this is luck or too few "
            "tests."
        )
    return "failed", (
        f"On {n} fields of the expensive reference simulator the posterior is not calibrated here "
        "either. The inference itself fails on its own fields, so this says nothing about the "
        "emulator yet: mend that first."
    )


def _calibrated(n: int, changed: Sequence[Check], unseen: str) -> tuple[str, str]:
    """Title and text for a posterior that fails nowhere."""
    if changed:
        return "calibrated, but not as on emulated fields", (
            f"On {n} fields of the expensive reference simulator no miscalibration was found, "
            f"yet the posterior behaves measurably differently ({_reasons(changed)}): the "
            "emulator is not a perfect copy. The sizes below say by how much."
        )
    return "passed", (
        f"On {n} fields of the expensive reference simulator, which neither the emulator nor the "
        "posterior has seen, no miscalibration was found, and no difference to emulated fields "
        f"is larger than chance allows{unseen}."
    )


def _unseen(checks: Sequence[Check]) -> str:
    limit = resolution(checks)
    return f"; {limit}" if limit else ""


def _failed(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.passed is False]


# What a failed check found, for a reader who does not know its name.
_FOUND = {
    "sbc": "the truth's ranks among draws are not uniform (sbc)",
    "coverage": "credible regions hold the truth too rarely or too often (coverage)",
    "tarp": "balls around random points hold the truth too rarely or too often (tarp)",
    "contraction": "posteriors do not average to the prior (contraction)",
    "latent": "latents of the truth are not standard normal, or related to the field (latent)",
    "conditional": "bias or width follow what the field says (conditional)",
}


def _reasons(checks: Sequence[Check]) -> str:
    names = [check.name.removeprefix("transfer ") for check in checks]
    found = [_FOUND.get(check.name, name) for check, name in zip(checks, names, strict=True)]
    return "; ".join(found) if names else "too many tests gave no draws"
