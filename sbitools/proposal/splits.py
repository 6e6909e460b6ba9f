"""How many simulations to learn from, and how many to test with."""

from __future__ import annotations

from typing import NamedTuple

from sbitools.calibration.power import ALTERNATIVES, needed_tests, power
from sbitools.calibration.statistics.joint import equal_level

__all__ = ["Splits", "propose_emulated", "propose_splits"]

_MOST_TESTS = 512
_VALIDATION = (4, 32)
_DRAWS, _FALSE_ALARM = 1000, 0.01
_EMULATED, _NUMBERS = (4096, 40_000), 1 << 21
_FEW_EMULATED, _CELLS = 1024, 1 << 26


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


def propose_emulated(numbers: int) -> int:
    """Simulations to emulate: 4,096; of short fields two million numbers, if that is more.

    Networks that learn from few vectors know them by heart long before they know the posterior:
    of 40 numbers, 40,000 vectors are worth 0.9 nats more than 4,096, and cost minutes. Of large
    fields there are fewer, as many cells as a network makes in a quarter of an hour on two cores.

    Args:
        numbers: of one field.
    """
    (usual, most), numbers = _EMULATED, max(numbers, 1)
    if numbers * usual > _CELLS:
        return max(_CELLS // numbers, _FEW_EMULATED)
    return min(max(_NUMBERS // numbers, usual), most)


def _power(n_tests: int, n_parameters: int) -> str:
    level = equal_level(_FALSE_ALARM)
    levels: dict[str, float] = {name: level for name in ("sbc", "coverage", "tarp", "contraction")}
    found = power(n_tests, _DRAWS, levels, n_parameters=max(1, n_parameters))["any"]
    shares = ", ".join(f"{kind} in {100 * found[kind]:.0f} %" for kind in ALTERNATIVES)
    needed = needed_tests(n_parameters=max(1, n_parameters))
    more = "" if n_tests >= needed else f"; {needed} tests would catch each of them in 95 %"
    return f"{n_tests} independent tests catch a posterior that is {shares} of cases{more}"
