"""The method ``"vector"``, as the entry-point group ``sbitools.emulators`` names it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sbitools.emulation import Fit, Task

if TYPE_CHECKING:
    from .emulator import VectorEmulator
    from .options import VectorOptions

__all__ = ["VectorMethod", "method"]


class VectorMethod:
    """See `sbitools.emulation.Method`."""

    name = "vector"

    @property
    def options(self) -> type[VectorOptions]:
        """What ``[emulator]`` of a configuration may hold."""
        from .options import VectorOptions

        return VectorOptions

    def suits(self, task: Task) -> Fit:
        """Up to 128 real numbers, from 32 simulations or more."""
        from .suits import FEWEST, rank, refused

        why = refused(task.output, task.source)
        if why is not None:
            return Fit(None, f"it takes {why[0]}, not {why[1]}; {why[2]}")
        if task.n < FEWEST:
            return Fit(
                None, f"it takes {FEWEST} simulations or more, not {task.n}; simulate more, or "
                'train on them alone: method = "none"',
            )  # fmt: skip
        return Fit(*rank(task.output))

    def emulator(self, task: Task) -> VectorEmulator:
        """Not fitted yet."""
        from .emulator import VectorEmulator

        return VectorEmulator(task.parameters, task.output, task.source)

    def load(self, path: Path) -> VectorEmulator:
        """The fitted emulator in the folder `path`."""
        from .emulator import VectorEmulator

        return VectorEmulator.load(path)


method = VectorMethod()
