"""Posteriors of zeta and T_vir from 21cm planes: trained on emulated planes, on 21cmFAST, on both.

The demo (`sbitools demo --system reionization`) is run: planes by the shipped emulator, a
posterior trained on them, and the transfer check on 320 held-out planes of 21cmFAST. Every other
posterior is asked about the same planes, observed as the demo's. The emulator and the posteriors
that are trained on 21cmFAST alone have the same 256 cubes; the repairs have 200 planes of other
cubes. Beside them, `emcee` on the power spectrum of the same planes. Needs 21cmFAST
(`sbitools[reionization]`); `--work`, which may be that of `reionization_emulator.py`, keeps all.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _reionization import CASES, train_store
from _reionization_spectrum import SpectrumLikelihood, chains
from _table import Table, cpu_seconds, say, simulating_parser, work_folder

import sbitools
from sbitools.calibration import CalibrationResult
from sbitools.chain import Run, run_chain
from sbitools.commands.demo import demo_config
from sbitools.errors import ConvergenceWarning, MisspecificationWarning
from sbitools.observation import Observation
from sbitools.repairs import judgement

NAME = "reionization_posterior"
_STAGES = (
    "reference/train", "reference/test", "emulator", "emulated/train", "emulated/test",
    "posterior", "calibration",
)  # fmt: skip
_QUICK = (
    "reference.n_test=40", "emulated.n_train=128", "emulated.n_test=40", "train.epochs=2",
    "calibrate.n_draws=100",
)  # fmt: skip
REPAIR = 505  # seed
COLUMNS = (
    "posterior", "planes", "R² of zeta, T_vir", "information [nats]", "in 68 % region",
    "SBC p", "TARP p", "checks", "training [s]", "1,000 draws [CPU s]",
)  # fmt: skip
MEANING = (
    "R²: of posterior means, in the parameters' own units; information: mean of ln p(truth | x) - "
    "ln p(truth), what the posterior knows of it; ± is one standard error",
    "training: seconds on the clock, with other programs beside it; of fine-tuned posteriors the "
    "last stage alone",
    "region: of highest density; checks: whether SBC, coverage, TARP, contraction and latent "
    "space together pass at a false-alarm rate of 1 % (emcee has no latent space)",
)


@dataclass(frozen=True)
class Sizes:
    """Cubes to train on, a few of them, planes to repair with, draws of each test."""

    train: int = 256
    few: int = 48
    repair: int = 200
    draws: int = 1000


QUICK = Sizes(train=16, few=8, repair=24, draws=100)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = simulating_parser(__doc__)
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = QUICK if chosen.quick else Sizes()
    with work_folder(chosen) as work:
        bench = Bench(work, sizes, chosen.workers, chosen.quick)
        table = bench.run(chosen.quick)
    table.write(chosen.out)
    return 0


class Bench:
    """The stores, and every posterior in turn.

    Args:
        work: where everything is kept.
        sizes: of the sets.
        workers: processes that simulate.
        quick: cut the demo down.
    """

    def __init__(self, work: Path, sizes: Sizes, workers: int, quick: bool) -> None:
        self.sizes, self.root = sizes, work / "posterior"
        self.root.mkdir(parents=True, exist_ok=True)
        overrides = [f"run_dir={str(work / 'demo')!r}", f"workers={workers}"]
        self.demo = Run(demo_config("reionization", False, [*overrides, *(_QUICK * quick)]))
        run_chain(self.demo, _STAGES, lambda stage, what, _: say(f"{stage.title}: {what}"))
        self.observe = Observation.from_dict(self.demo.config.observe)
        self.reference: Any = self.demo.reference
        self.tests = self.demo.store("reference/test")
        cubes = train_store(CASES["planes"], work, sizes.train, workers)
        self.planes, self.few = self._planes(cubes, sizes.train), self._planes(cubes, sizes.few)
        say(f"{sizes.repair} planes for the repair")
        self.repairs = sbitools.simulate(
            self.reference, sizes.repair, self.root / "repair", seed=REPAIR, workers=workers,
            progress=False,
        )  # fmt: skip

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
        path, n = self.demo.folder("posterior") / "checkpoint", self.demo.config.emulated.n_train
        emulated = self._row(table, "trained on emulated planes", n,
                             lambda: sbitools.Posterior.load(path))  # fmt: skip
        for method in ("fine_tune", "recalibrate"):
            fixed = self._row(table, f"emulated, {method} with {self.sizes.repair} planes",
                              f"{n} + {self.sizes.repair}",
                              lambda m=method: self._repair(emulated, m))  # fmt: skip
            table.notes.append(judgement(fixed).summary)
        self._row(table, "emulated, then trained on all cubes", f"{n} + {len(self.planes.done)}",
                  lambda: self._go_on(emulated))  # fmt: skip
        told = CalibrationResult.from_json(self.demo.folder("calibration") / "result.json")
        table.notes.append(f"transfer check of the demo: {told.verdict}")
        table.notes += [*paired(table), *MEANING]
        return table

    def _row(self, table: Table, name: str, planes: object, make: Callable[[], Any]) -> Any:
        """Make a posterior, test it, and write down what came out."""
        say(name)
        posterior, tests = make(), self.tests
        with warnings.catch_warnings():
            # Reference planes may be unlike emulated ones: what comes of it is measured.
            warnings.simplefilter("ignore", MisspecificationWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            result = sbitools.calibrate(
                posterior, tests, n_draws=self.sizes.draws, seed=1, progress=False
            )
            told = dict(result.check("information").details["joint"])
            begun, x = cpu_seconds(), posterior.observe(tests.read(range(16)), tests.seeds[:16])
            posterior.sample(x, 1000, seed=1)
            drawn = (cpu_seconds() - begun) / 16
            x = posterior.observe(tests.read(tests.done), tests.seeds[tests.done])
            told["truth"] = posterior.log_prob(tests.theta[tests.done], x).tolist()
        found = {c.name: c for c in result.emulated}
        r2 = [p["r2"] for p in found["recovery"].details["parameters"]]
        level = min(found["coverage"].details["levels"], key=lambda v: abs(v["nominal"] - 0.68))
        failed = [c.name for c in result.emulated if c.passed is False]
        table.add(
            name, planes, ", ".join(f"{v:.3f}" for v in r2),
            f"{told['effect']:.3f} ± {told['error']:.3f}", f"{100 * level['actual']:.1f} %",
            found["sbc"].p_value, found["tarp"].p_value,
            "failed: " + ", ".join(failed) if failed else "pass", _seconds(posterior), drawn,
        )  # fmt: skip
        checks = {c.name: [c.p_value, c.effect] for c in result.emulated}
        told |= {"r2": r2, "joint": result.joint, "checks": checks}
        table.data[name] = told
        say(f"{table.rows[-1]}")
        return posterior

    def _chains(self, mean: bool) -> Any:
        store, case = self.planes, CASES["planes"]
        x = self.observe(store.read(store.done), store.seeds[store.done])
        likelihood = SpectrumLikelihood(
            store.theta[store.done], x, case.simulator.parameters, case.box_size, mean
        )
        return chains(likelihood, self.reference.output, self.observe)

    def _train(self, store: sbitools.SimulationStore, name: str) -> Any:
        return sbitools.train(
            store, observe=self.observe, run_dir=self.root / f"posterior-{name}", resume=True,
            seed=self.demo.seed("posterior"), **self.demo.config.train,
        )  # fmt: skip

    def _repair(self, posterior: Any, method: str) -> Any:
        return sbitools.repair(
            posterior, self.repairs, method, run_dir=self.root / f"repair-{method}",
            resume=True,
        )  # fmt: skip

    def _go_on(self, posterior: Any) -> Any:
        options = {k: v for k, v in self.demo.config.train.items() if k != "channels"}
        options |= {"learning_rate": options["learning_rate"] / 4}
        return sbitools.train(
            self.planes, start=posterior, run_dir=self.root / "posterior-both", resume=True,
            **options,
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


def paired(table: Table) -> list[str]:
    """What the network trained on emulated planes knows more than others, plane by plane."""
    data: dict[str, Any] = table.data
    truth = {name: np.array(told["truth"]) for name, told in data.items()}
    mine = truth["trained on emulated planes"]
    out = []
    for name, other in truth.items():
        more = mine - other
        if more.any():
            error = more.std(ddof=1) / len(more) ** 0.5
            out.append(f"{more.mean():+.3f} ± {error:.3f} against {name}")
    return [
        "ln p(truth) when trained on emulated planes, more than others for the same test planes: "
        f"{'; '.join(out)}. ± is of the tests; networks trained from other seeds differ, too"
    ]


def _seconds(posterior: Any) -> object:
    """On the clock, of the last training alone; nothing for what was not trained."""
    return getattr(posterior, "info", {}).get("history", {}).get("seconds", "")


if __name__ == "__main__":
    sys.exit(main())
