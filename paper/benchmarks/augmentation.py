"""What an emulator that saw 100 reference simulations is worth, in reference simulations.

A posterior is trained on fields of an emulator that was fitted to 100 particle-mesh simulations,
and repaired with the same 100. Posteriors with the same network are trained on 100, 300 and 1,000
of these simulations alone, with the cube's 48 symmetries and new noise at every step. All are
scored by the log density of the truths of held-out simulations. With `--work` the stores and
checkpoints are kept there, and an interrupted run is taken up.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _table import Table, options

from emulators.nbody import NBodyEmulator, system
from sbitools import Observation, Posterior, SimulationStore, simulate, train
from sbitools.repairs import augmentation_factor, judgement, learning_curve, repair
from sbitools.repairs.measure import held_out_log_prob, repair_curve
from sbitools.repairs.posterior import load_repaired
from sbitools.repairs.registry import METHODS

__all__ = ["main"]

N_REFERENCE = 100
OBSERVE = Observation.from_dict([
    {"kind": "smooth", "radius": 1.0}, {"kind": "coarsen", "factor": 2},
    {"kind": "noise", "sigma": 0.1},
])  # fmt: skip
# As in the demo run. 1,000 simulations alone get as many steps as the emulated fields; fewer get
# fewer, for they overfit before: schedules of 400 and 250 epochs were best at epochs 42 and 12.
# Nothing stops early, and the epoch of the best validation loss is kept.
NETWORK: dict[str, Any] = {
    "channels": 8, "precision": "bfloat16", "symmetry": "cube", "batch_size": 32,
    "learning_rate": 2e-3, "patience": None, "seed": 414,
}  # fmt: skip
FULL = {
    "settings": {"n": 32, "box_size": 100.0, "parameters": ("Omega_m", "sigma_8")},
    "fit": {"epochs": 5, "seed": 413}, "emulated": 6144, "test": 512, "folds": 5,
    "epochs": {100: 60, 300: 60, 1000: 120}, "epochs_emulated": 20, "curve": (20, 40, 80),
    "repair": {},
}  # fmt: skip
QUICK = {
    "settings": {"n": 16, "box_size": 100.0, "parameters": ("Omega_m", "sigma_8"), "steps": 6},
    "fit": {"epochs": 1, "passes": 1, "channels": (8, 12), "seed": 413}, "emulated": 256,
    "test": 64, "folds": 2, "epochs": {24: 6, 48: 4, 96: 3}, "epochs_emulated": 4,
    "curve": (6, 12), "repair": {"epochs": 2},
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--work", type=Path, help="folder for stores and checkpoints")
    own, rest = parser.parse_known_args(argv)
    chosen = options(f"{__doc__} --work DIR keeps stores and checkpoints.", rest)
    with tempfile.TemporaryDirectory() as folder:
        work = own.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        _Benchmark(work, QUICK if chosen.quick else FULL).run(chosen.quick).write(chosen.out)


class _Benchmark:
    """The stages; each is skipped if its result is in the work folder."""

    def __init__(self, work: Path, sizes: dict[str, Any]) -> None:
        self.work, self.sizes = work, sizes
        self.settings = system.settings(**sizes["settings"])
        self.n_reference = min(N_REFERENCE, min(sizes["epochs"]))
        self.seconds: dict[str, float] = {}

    def run(self, quick: bool) -> Table:
        """Everything, and the table."""
        few = self._stores()
        posterior = self._posterior(
            "emulated", self.emulated, len(self.emulated), self.sizes["epochs_emulated"]
        )
        alone = {
            n: self._posterior(str(n), self.reference, n, epochs)
            for n, epochs in self.sizes["epochs"].items()
        }
        scores = {n: held_out_log_prob(p, self.test) for n, p in alone.items()}
        combined = {"emulator": held_out_log_prob(posterior, self.test)}
        judged = {}
        for method in METHODS:
            repaired = self._repair(posterior, few, method)
            judged[method] = judgement(repaired)
            combined[f"emulator, {method}"] = held_out_log_prob(repaired, self.test)
        curve = repair_curve(
            posterior, few, "recalibrate", self.sizes["curve"], folds=self.sizes["folds"],
            run_dir=self.work / "curve", resume=True,
        )  # fmt: skip
        return self._table(quick, scores, combined, judged, curve)

    def _stores(self) -> SimulationStore:
        """Reference, test and emulated fields; the few reference simulations as a store."""
        simulator = system.simulator(self.settings)
        self.reference = self._simulate(simulator, max(self.sizes["epochs"]), "reference", 410)
        self.test = self._simulate(simulator, self.sizes["test"], "test", 411)
        # Of one seed, so these are the first of the reference's universes, and no others.
        few = self._simulate(simulator, self.n_reference, "few", 410)
        particles = self._simulate(
            system.training_simulator(self.settings), self.n_reference, "particles", 410
        )
        emulator = self._timed("emulator", lambda: self._emulator(particles))
        self.emulated = self._simulate(emulator, self.sizes["emulated"], "emulated", 412)
        return few

    def _simulate(self, simulator: Any, n: int, name: str, seed: int) -> SimulationStore:
        return self._timed(name, lambda: simulate(
            simulator, n, self.work / name, seed=seed, progress=False
        ))  # fmt: skip

    def _emulator(self, particles: SimulationStore) -> NBodyEmulator:
        path = self.work / "emulator" / "checkpoint"
        if path.is_dir():
            return NBodyEmulator.load(path)
        emulator = system.emulator(self.settings)
        emulator.fit(particles, self.sizes["fit"], run_dir=path.parent / "fit", resume=True)
        emulator.save(path)
        return emulator

    def _posterior(self, name: str, store: SimulationStore, n: int, epochs: int) -> Posterior:
        folder = self.work / f"posterior-{name}"
        if (folder / "checkpoint").is_dir():
            return Posterior.load(folder / "checkpoint")

        def work() -> Posterior:
            return train(
                store, observe=OBSERVE, run_dir=folder / "fit", resume=True,
                indices=np.arange(n), epochs=epochs, **NETWORK,
            )  # fmt: skip

        posterior = self._timed(folder.name, work)
        posterior.save(folder / "checkpoint")
        return posterior

    def _repair(self, posterior: Posterior, few: SimulationStore, method: str) -> Any:
        folder = self.work / f"repair-{method}"
        if (folder / "checkpoint").is_dir():
            load = Posterior.load if method == "fine_tune" else load_repaired
            return load(folder / "checkpoint")
        extra = self.sizes["repair"] if method == "fine_tune" else {}
        repaired = self._timed(folder.name, lambda: repair(
            posterior, few, method, folds=self.sizes["folds"], run_dir=folder / "fit",
            resume=True, seed=415, **extra,
        ))  # fmt: skip
        repaired.save(folder / "checkpoint")
        return repaired

    def _timed(self, name: str, work: Any) -> Any:
        begun = time.perf_counter()
        result = work()
        self.seconds[name] = round(time.perf_counter() - begun, 1)
        print(f"{name}: {self.seconds[name]} s", flush=True)
        return result

    def _table(
        self, quick: bool, scores: dict[int, np.ndarray], combined: dict[str, np.ndarray],
        judged: dict[str, Any], curve: tuple[np.ndarray, np.ndarray],
    ) -> Table:  # fmt: skip
        n, rows = np.array(list(scores)), np.stack(list(scores.values()))
        most = int(n.max())
        table = Table(
            "augmentation",
            f"Held-out log density of the truth: {self.n_reference} N-body simulations and an "
            f"emulator of them, against {most} simulations alone",
            ("posterior", "reference simulations", "log q(truth) [nats]", f"minus {most} alone",
             "error", "worth simulations alone", "factor", "95 %"),
            f"{self.n_reference} reference simulations and the emulator are not worse than {most} "
            "reference simulations alone by more than two standard errors of the paired "
            "difference.",
            quick,
        )  # fmt: skip
        for size, values in scores.items():
            table.add("reference alone", size, float(values.mean()),
                      *_difference(values, scores[most]), size, 1.0, "-")  # fmt: skip
        factors = {}
        for name, values in combined.items():
            f = augmentation_factor(n, rows, values, self.n_reference)
            factors[name] = f
            table.add(name, self.n_reference, float(values.mean()),
                      *_difference(values, scores[most]), _shown(f.equivalent), _shown(f.factor),
                      f"{_shown(f.low)} to {_shown(f.high)}")  # fmt: skip
        chosen = self._chosen(judged)
        gap, error = _difference(combined[chosen], scores[most])
        table.passed = gap > -2 * error
        table.notes += [f"chosen by the folds: {chosen}; {factors[chosen].summary}"]
        table.notes += [j.summary for j in judged.values()]
        table.notes += self._curves(n, rows, curve)
        table.notes += [
            f"{len(self.test)} held-out simulations, paired; errors are those of the test set; "
            "one training per row, so the scatter between trainings is not in them",
            f"{self.sizes['emulated']} emulated fields; the emulator, the repair and the smallest "
            f"set alone saw the same {self.n_reference} simulations",
            f"wall seconds of the stages that were run: {self.seconds}",
        ]
        table.data = {
            "scores": {str(k): v.tolist() for k, v in scores.items()},
            "combined": {k: v.tolist() for k, v in combined.items()},
            "judgements": {k: v.to_dict() for k, v in judged.items()},
        }
        return table

    @staticmethod
    def _chosen(judged: dict[str, Any]) -> str:
        """What `repair(..., "auto")` would return: by held-out folds, never by the test set."""
        best = max(judged, key=lambda name: judged[name].gain)
        p_value = min(1.0, len(judged) * judged[best].p_value)
        return f"emulator, {best}" if p_value < 0.05 else "emulator"

    @staticmethod
    def _curves(
        n: np.ndarray, rows: np.ndarray, curve: tuple[np.ndarray, np.ndarray]
    ) -> list[str]:
        alone = learning_curve(n, rows).next(100)
        gains = (curve[0] - curve[1]).mean(1)
        return [
            f"the next 100 simulations, alone, beyond {alone['n']:.0f}: {alone['gain']:+.3f} +- "
            f"{alone['error']:.3f} nats by the power law",
            "gain of recalibration against the simulations it is fitted to, cross-fitted: "
            + ", ".join(f"{value:+.3f}" for value in gains),
        ]


def _difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean paired difference and its standard error."""
    d = first - second
    return float(d.mean()), float(d.std() / np.sqrt(len(d)))


def _shown(value: float | None) -> object:
    return "beyond the curve" if value is None else round(value, 3 if value < 100 else 0)


if __name__ == "__main__":
    main()
