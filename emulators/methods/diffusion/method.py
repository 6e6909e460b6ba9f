"""The method ``"diffusion"``, as the entry-point group ``sbitools.emulators`` names it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sbitools.emulation import Fit, Task

if TYPE_CHECKING:
    from .emulator import DiffusionEmulator
    from .field_options import FieldOptions

__all__ = ["DiffusionMethod", "method"]


class DiffusionMethod:
    """See `sbitools.emulation.Method`."""

    name = "diffusion"

    @property
    def options(self) -> type[FieldOptions]:
        """What ``[emulator]`` of a configuration may hold."""
        from .field_options import FieldOptions

        return FieldOptions

    def suits(self, task: Task) -> Fit:
        """Real fields on a grid of one to three axes, from 16 simulations or more.

        They may follow from a source on the same grid or on a coarser one.
        """
        from .suits import FEWEST, refused

        why = refused(task.output, task.source)
        if why is not None:
            return Fit(None, f"it takes {why[0]}, not {why[1]}; {why[2]}")
        if task.n < FEWEST:
            return Fit(
                None, f"it takes {FEWEST} simulations or more, not {task.n}; simulate more, or "
                'train on them alone: method = "none"',
            )  # fmt: skip
        axes = len(task.output.space)
        following = "" if task.source is None else f" that follows from {task.source.name!r}"
        return Fit(
            1, f"a real field on a grid of {axes} {'axis' if axes == 1 else 'axes'}{following}"
        )

    def emulator(self, task: Task) -> DiffusionEmulator:
        """Not fitted yet."""
        from .emulator import DiffusionEmulator

        return DiffusionEmulator(task.parameters, task.output, task.source)

    def load(self, path: Path) -> DiffusionEmulator:
        """The fitted emulator in the folder `path`."""
        from .emulator import DiffusionEmulator

        return DiffusionEmulator.load(path)


method = DiffusionMethod()
