"""The checks of a calibration, by set of tests: what verdicts, tables and figures are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sbitools.errors import ConfigError

from .check import Check

__all__ = ["CheckSets"]


@dataclass(frozen=True)
class CheckSets:
    """Checks on emulated tests, on reference tests, and of what differs between the two.

    Args:
        emulated: checks on tests of the simulator the posterior was trained on.
        reference: the same checks on reference tests; None if there were none.
        transfer: differences between the two; None without reference.
        false_alarm: probability that an exact posterior fails a set of checks, for each of the
            three sets. The level of each check, `Check.false_alarm`, is chosen so that the set
            has this rate (see `joint`).
        counts: for ``"emulated"`` and ``"reference"``: tests, draws, independent groups,
            excluded tests, and simulations by state.
        excluded: for the same, rows of index and reason.
        info: seed, digests of stores and other provenance.
        joint: p-value of each set: how often chance makes the most extreme of its checks as
            extreme. Below `false_alarm` exactly if a check of the set fails.
    """

    emulated: list[Check]
    reference: list[Check] | None
    transfer: list[Check] | None
    false_alarm: float
    counts: dict[str, dict[str, int]]
    excluded: dict[str, list[dict[str, Any]]]
    info: dict[str, Any] = field(default_factory=dict)
    joint: dict[str, float] = field(default_factory=dict)

    @property
    def no_emulator(self) -> bool:
        """Whether the posterior was trained on the reference itself, so that nothing transfers."""
        return self.info.get("emulator") == "none"

    @property
    def own_tests(self) -> str:
        """What the tests of the simulator the posterior was trained on are called."""
        return "held-out" if self.reference is None else "emulated"

    def sets(self) -> dict[str, list[Check]]:
        """The sets of checks there are, by name."""
        every = {"emulated": self.emulated, "reference": self.reference, "transfer": self.transfer}
        return {kind: checks for kind, checks in every.items() if checks is not None}

    def check(self, name: str, kind: str = "emulated") -> Check:
        """The check `name` of the set `kind`.

        Raises:
            ConfigError: if there is none.
        """
        known = {c.name: c for c in self.sets().get(kind, [])}
        if name not in known:
            raise ConfigError(
                f"check {name!r} of {kind!r}", expected=f"one of {sorted(known)}", got="none",
                fix="choose another name or set",
            )  # fmt: skip
        return known[name]
