"""Posteriors of zeta and T_vir from 21cm planes: trained on emulated planes, on 21cmFAST, on both.

Every posterior is asked about the same held-out planes of 21cmFAST, as the demo observes them (one
cell of smoothing, 2 mK of noise per cell). The emulator and the posterior that is trained on
21cmFAST alone have the same 256 cubes; the repair has 200 planes of other cubes. Beside them,
`emcee` on the power spectrum of the same planes. Needs 21cmFAST (`sbitools[reionization]`);
`--work`, which may be that of `reionization_emulator.py`, keeps everything.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _reionization import CASES, train_store
from _reionization_spectrum import SpectrumLikelihood, chains
from _table import RESULTS, Table

import sbitools
from emulators.reionization import shipped
from emulators.reionization.emulator import ReionizationEmulator
from sbitools.errors import ConvergenceWarning, MisspecificationWarning
from sbitools.observation import Noise, Observation, Smooth
from sbitools.repairs import judgement

NAME = "reionization_posterior"
OBSERVE = Observation([Smooth(1.0), Noise(2.0)])
TRAIN = {
    "epochs": 25, "batch_size": 64, "learning_rate": 2e-3, "channels": 8, "symmetry": "cube",
}  # fmt: skip
REPAIR, EMULATED, TEST = 505, 606, 707  # seeds
COLUMNS = (
    "posterior", "planes", "R² of zeta, T_vir", "information [nats]", "in 68 % region",
    "SBC p", "TARP p", "checks", "training [CPU s]", "1,000 draws [CPU s]",
)  # fmt: skip
MEANING = (
    "R²: of posterior means, in the parameters' own units; information: mean of ln p(truth | x) - "
    "ln p(truth), what the posterior knows of it; ± is one standard error",
    "region: of highest density; checks: whether SBC, coverage, TARP, contraction and latent "
    "space together pass at a false-alarm rate of 1 % (emcee has no latent space)",
)


@dataclass(frozen=True)
class Sizes:
    """Of the sets."""

    train: int = 256
    few: int = 48
    emulated: int = 6144
    test: int = 320
    repair: int = 200
    epochs: int = 25
    draws: int = 1000


QUICK = Sizes(train=16, few=8, emulated=128, test=32, repair=24, epochs=2, draws=100)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the table")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    parser.add_argument("--work", type=Path, help="folder of simulations and posteriors, kept")
    parser.add_argument("--workers", type=int, default=2, help="processes that simulate")
    parser.add_argument("--weights", type=Path, help="an emulator instead of the shipped one")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = QUICK if chosen.quick else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(chosen.work or Path(folder), sizes, chosen.workers, chosen.weights)
        table = bench.run(chosen.quick)
    table.write(chosen.out)
    return 0


class Bench:
    """The stores, and every posterior in turn.

    Args:
        work: where everything is kept.
        sizes: of the sets.
        workers: processes that simulate.
        weights: of the emulator; None for the shipped ones.
    """

    def __init__(self, work: Path, sizes: Sizes, workers: int, weights: Path | None) -> None:
        self.work, self.sizes, self.root = work, sizes, work / "posterior"
        self.root.mkdir(parents=True, exist_ok=True)
        emulator = ReionizationEmulator.load(weights) if weights else shipped.emulator()
        self.reference = emulator.simulator
        cubes = train_store(CASES["planes"], work, sizes.train, workers)
        self.planes = self._planes(cubes, sizes.train)
        self.few = self._planes(cubes, sizes.few)
        sets = {"test": (self.reference, sizes.test, TEST),
                "repair": (self.reference, sizes.repair, REPAIR),
                "emulated": (emulator, sizes.emulated, EMULATED)}  # fmt: skip
        self.stores = {}
        for name, (simulator, n, seed) in sets.items():
            say(f"{n} planes: {name}")
            self.stores[name] = sbitools.simulate(
                simulator, n, self.root / name, seed=seed, workers=workers, progress=False
            )

    def run(self, quick: bool) -> Table:
        """Every row of the table."""
        table = Table(
            NAME, "Posteriors from 21cm planes, tested on 21cmFAST", COLUMNS, quick=quick
        )
        for mean in (False, True):
            name = f"P(k){' and mean' * mean}, emcee"
            self._row(table, name, len(self.planes.done), lambda mean=mean: self._chains(mean))
        n = f"{self.sizes.few} cubes"
        self._row(table, f"trained on 21cmFAST, {n}", len(self.few.done),
                  lambda: self._train(self.few, "few"))  # fmt: skip
        self._row(table, "trained on 21cmFAST, all cubes", len(self.planes.done),
                  lambda: self._train(self.planes, "reference"))  # fmt: skip
        emulated = self._row(table, "trained on emulated planes", self.sizes.emulated,
                             lambda: self._train(self.stores["emulated"], "emulated"))  # fmt: skip
        more = f"{self.sizes.emulated} + {self.sizes.repair}"
        for method in ("fine_tune", "recalibrate"):
            fixed = self._row(table, f"emulated, {method} with {self.sizes.repair} planes", more,
                              lambda m=method: self._repair(emulated, m))  # fmt: skip
            table.notes.append(judgement(fixed).summary)
        self._row(table, "emulated, then trained on all cubes", f"{self.sizes.emulated} + "
                  f"{len(self.planes.done)}", lambda: self._go_on(emulated))  # fmt: skip
        table.notes += MEANING
        return table

    def _row(self, table: Table, name: str, planes: object, make: Callable[[], Any]) -> Any:
        """Make a posterior, test it, and write down what came out."""
        say(name)
        begun = cpu_seconds()
        posterior = make()
        made, tests = cpu_seconds() - begun, self.stores["test"]
        with warnings.catch_warnings():
            # Reference planes may be unlike emulated ones: what comes of it is measured.
            warnings.simplefilter("ignore", MisspecificationWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            result = sbitools.calibrate(
                posterior, tests, n_draws=self.sizes.draws, seed=1, progress=False
            )
            begun, x = cpu_seconds(), posterior.observe(tests.read(range(16)), tests.seeds[:16])
            posterior.sample(x, 1000, seed=1)
        drawn = (cpu_seconds() - begun) / 16
        found = {c.name: c for c in result.emulated}
        r2 = [p["r2"] for p in found["recovery"].details["parameters"]]
        told = found["information"].details["joint"]
        level = min(found["coverage"].details["levels"], key=lambda v: abs(v["nominal"] - 0.68))
        failed = [c.name for c in result.emulated if c.passed is False]
        table.add(
            name, planes, ", ".join(f"{v:.3f}" for v in r2),
            f"{told['effect']:.3f} ± {told['error']:.3f}", f"{100 * level['actual']:.1f} %",
            found["sbc"].p_value, found["tarp"].p_value,
            "failed: " + ", ".join(failed) if failed else "pass", made, drawn,
        )  # fmt: skip
        checks = {c.name: [c.p_value, c.effect] for c in result.emulated}
        told |= {"r2": r2, "joint": result.joint, "checks": checks}
        table.data[name] = told
        say(f"{table.rows[-1]}")
        return posterior

    def _chains(self, mean: bool) -> Any:
        store, case = self.planes, CASES["planes"]
        x = OBSERVE(store.read(store.done), store.seeds[store.done])
        likelihood = SpectrumLikelihood(
            store.theta[store.done], x, case.simulator.parameters, case.box_size, mean
        )
        return chains(likelihood, self.reference.output, OBSERVE)

    def _train(self, store: sbitools.SimulationStore, name: str) -> Any:
        options: dict[str, Any] = TRAIN | {"epochs": self.sizes.epochs}
        return sbitools.train(
            store, observe=OBSERVE, run_dir=self.root / f"posterior-{name}", resume=True, **options
        )

    def _repair(self, posterior: Any, method: str) -> Any:
        return sbitools.repair(
            posterior, self.stores["repair"], method, run_dir=self.root / f"repair-{method}",
            resume=True,
        )  # fmt: skip

    def _go_on(self, posterior: Any) -> Any:
        options: dict[str, Any] = TRAIN | {"epochs": self.sizes.epochs, "learning_rate": 5e-4}
        return sbitools.train(
            self.planes, start=posterior, run_dir=self.root / "posterior-both", resume=True,
            **{k: v for k, v in options.items() if k != "channels"},
        )  # fmt: skip

    def _planes(self, cubes: sbitools.SimulationStore, n: int) -> sbitools.SimulationStore:
        """All planes of the first n cubes, each a simulation, those of a cube one group."""
        path = self.root / f"planes-{n}"
        if path.exists():
            return sbitools.SimulationStore.open(path)
        x = cubes.read(range(n))
        per = x.shape[1]
        return sbitools.SimulationStore.from_arrays(
            path, cubes.theta[:n].repeat_interleave(per, 0), x.flatten(0, 1),
            self.reference.parameters, self.reference.output, group_size=per,
        )  # fmt: skip


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
