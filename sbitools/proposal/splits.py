"""How many simulations to learn from, and how many to test with."""

from __future__ import annotations

from typing import NamedTuple

from sbitools.calibration.power import ALTERNATIVES, needed_tests, power
from sbitools.calibration.statistics.joint import equal_level

__all__ = ["Splits", "propose_splits"]

_MOST_TESTS = 512
_VALIDATION = (4, 32)
_DRAWS, _FALSE_ALARM = 1000, 0.01


class Splits(NamedTuple):
    """Numbers of simulations, and what the tests can see.

    Attributes:
        train: to learn from.
        validation: to compare the emulator with.
        test: for the transfer check.
        sentence: the power of the transfer check with so many tests.
    """

    train: int
    validation: int
    test: int
    sentence: str


def propose_splits(n: int, n_parameters: int, emulate: bool = True) -> Splits:
    """Half for tests, up to 512; a few to validate an emulator with; the others to learn from.

    Args:
        n: simulations that can be used.
        n_parameters: that are inferred.
        emulate: whether there is an emulator to be validated.
    """
    test = min(max(1, n // 2), _MOST_TESTS)
    low, high = _VALIDATION
    validation = min(high, max(low, n // 20)) if emulate and n >= 4 * low else 0
    train = max(1, n - test - validation)
    return Splits(train, validation, test, _power(test, n_parameters))


def _power(n_tests: int, n_parameters: int) -> str:
    level = equal_level(_FALSE_ALARM)
    levels: dict[str, float] = {name: level for name in ("sbc", "coverage", "tarp", "contraction")}
    found = power(n_tests, _DRAWS, levels, n_parameters=max(1, n_parameters))["any"]
    shares = ", ".join(f"{kind} in {100 * found[kind]:.0f} %" for kind in ALTERNATIVES)
    needed = needed_tests(n_parameters=max(1, n_parameters))
    more = "" if n_tests >= needed else f"; {needed} tests would catch each of them in 95 %"
    return f"{n_tests} independent tests catch a posterior that is {shares} of cases{more}"
