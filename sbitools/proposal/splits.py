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


def propose_splits(n: int, n_parameters: int, group_size: int = 1, emulate: bool = True) -> Splits:
    """Half for tests, up to 512; a few to validate an emulator with; the others to learn from.

    Args:
        n: simulations that can be used.
        n_parameters: that are inferred.
        group_size: simulations that stay together.
        emulate: whether there is an emulator to be validated.
    """
    groups = n // group_size
    test = min(max(1, groups // 2), max(1, _MOST_TESTS // group_size))
    low, high = _VALIDATION
    validation = min(high, max(low, groups // 20)) if emulate and groups >= 4 * low else 0
    train = max(1, groups - test - validation)
    return Splits(
        train * group_size, validation * group_size, test * group_size, _power(test, n_parameters)
    )


def _power(n_tests: int, n_parameters: int) -> str:
    level = equal_level(_FALSE_ALARM)
    levels: dict[str, float] = {name: level for name in ("sbc", "coverage", "tarp", "contraction")}
    found = power(n_tests, _DRAWS, levels, n_parameters=max(1, n_parameters))["any"]
    shares = ", ".join(f"{kind} in {100 * found[kind]:.0f} %" for kind in ALTERNATIVES)
    needed = needed_tests(n_parameters=max(1, n_parameters))
    more = "" if n_tests >= needed else f"; {needed} tests would catch each of them in 95 %"
    return f"{n_tests} independent tests catch a posterior that is {shares} of cases{more}"
