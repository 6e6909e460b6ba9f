"""The system of a user's own simulations: what the chain needs to know about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .settings import OwnSettings

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

    from .simulator import OwnSimulator

__all__ = ["OwnSystem", "system"]


class OwnSystem:
    """See `sbitools.systems.System`; it has no emulator of its own."""

    name = "own"
    settings = OwnSettings

    def simulator(self, settings: OwnSettings) -> OwnSimulator:
        """What stands for the program that made the simulations."""
        from .simulator import OwnSimulator

        return OwnSimulator(settings)

    def provide(
        self, settings: OwnSettings, name: str, sizes: Mapping[str, int], path: Path
    ) -> SimulationStore:
        """The store `name` of some of the simulations; see `files.make_store`.

        Raises:
            ConfigError: if there are no files, and the store is not filled by other means.
        """
        from .files import filled_store, make_store

        if settings.x.file is None:
            return filled_store(settings.x.name, name, path)
        return make_store(settings, self.simulator(settings), name, sizes, path)

    def signature(self, settings: OwnSettings) -> str:
        """Text that changes with the content of the files."""
        from sbitools.formats import fingerprint

        fields = [f for f in (settings.x, settings.source) if f is not None]
        files = [*(f.file for f in fields), settings.theta]
        names = [*(f.dataset for f in fields), settings.theta_dataset]
        return " ".join(
            f"{fingerprint(file)}{':' + name if name else ''}"
            for file, name in zip(files, names, strict=True) if file is not None
        )  # fmt: skip

    def remarks(self, settings: OwnSettings) -> list[str]:
        """What a reader of the report has to know: priors that nobody has confirmed."""
        if settings.priors_confirmed or not settings.parameters:
            return []
        told = [f"{p.name}: {_words(p.prior)}" for p in settings.parameters if p.prior]
        told += [f"{', '.join(j['names'])}: {j['kind']}" for j in settings.joint]
        priors = "; ".join(told)
        return [
            f"The priors have not been confirmed ({priors}). A posterior is one for its prior: "
            "compare them with the distribution that the parameters were drawn from, and set "
            "priors_confirmed = true in [settings]."
        ]


def _words(prior: Mapping[str, object]) -> str:
    values = [f"{value:g}" if isinstance(value, float) else str(value)
              for key, value in prior.items() if key != "kind"]  # fmt: skip
    return f"{prior.get('kind')} {' to '.join(values)}"


system = OwnSystem()
