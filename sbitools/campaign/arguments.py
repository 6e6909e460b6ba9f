"""The arguments of a campaign, checked where they enter."""

from __future__ import annotations

from typing import Any

from sbitools.errors import CampaignError
from sbitools.gate.plain import flag, real, whole

__all__ = ["checked_numbers", "checked_simulator"]

_MOST = 1 << 40  # simulations: more than any disk has bytes for


def checked_simulator(simulator: Any) -> Any:
    """`simulator` if it is one.

    Raises:
        CampaignError: naming what it lacks.
    """
    lacks = [k for k in ("parameters", "output", "simulate") if not hasattr(simulator, k)]
    if lacks or isinstance(simulator, type) or not callable(simulator.simulate):
        kind = "class" if isinstance(simulator, type) else type(simulator).__name__
        raise CampaignError(
            "simulator", expected="an object with parameters, output and simulate(theta, seeds)",
            got=f"{kind} without {', '.join(lacks)}" if lacks else f"{kind}",
            fix="make one of a function: FunctionSimulator(function, parameters, output)",
        )  # fmt: skip
    return simulator


def checked_numbers(
    n: Any, workers: Any, task_size: Any, time_limit: Any, **switches: Any
) -> tuple[int, int, int | None, float | None]:
    """The numbers of a campaign as Python's; `switches` must be truth values.

    Raises:
        CampaignError: for anything else.
    """
    for name, value in switches.items():
        flag(value, name, error=CampaignError)
    return (
        whole(n, "n of simulate", least=1, most=_MOST, error=CampaignError),
        whole(workers, "workers of simulate", least=1, most=4096, error=CampaignError),
        None if task_size is None
        else whole(task_size, "task_size of simulate", least=1, error=CampaignError),
        None if time_limit is None
        else real(time_limit, "time_limit of simulate", above=0, error=CampaignError),
    )  # fmt: skip
