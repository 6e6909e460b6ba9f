"""Six parameters from small light cones of 21cmFAST: recovery beside the published table.

The parameters, their ranges and the spin temperature are those of 21cmPIE-INN (arXiv:2401.04174),
whose public predictions give the row "published": about 4,000 cones of 140 x 140 x 2350 cells.
Here a cone has 16 x 16 x 224 cells of 8 Mpc, from redshift 6 to 14, and there are a few hundred:
the recovery says what the chain makes of them, not which network is better. Networks learn in the
three stages of that work: summary, flow on top of it, both. Needs 21cmFAST
(`sbitools[reionization]`); a cone costs about five CPU seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _table import Table, say, simulating_parser, work_folder

import sbitools
from emulators.reionization.simulator import ReionizationSimulator

NAME = "reionization_recovery"
PARAMETERS = ("m_wdm", "Omega_m", "log10_LX", "E0", "log10_Tvir", "zeta")
# R² of the public predictions for bare simulations, in the same order.
PUBLISHED = (0.613, 0.974, 0.986, 0.826, 0.776, 0.975)
TRAIN, TEST = 811, 812  # seeds
LIMIT = 300.0  # seconds for a cone, that one which hangs does not stop the others
DRAWS = 10_000
COMMON: dict[str, Any] = {
    "batch_size": 16, "symmetry": "sky", "flow_transforms": 4, "features": 16, "channels": 8,
    "optimizer": "muon", "learning_rate": 2e-3, "warmup_steps": 20, "patience": 6,
    "boundary": ("periodic", "periodic", "evolving"),
}  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "3-D CNN": {"embedding": "cnn", "patch": 2},
    "3-D transformer": {"embedding": "transformer", "patch": (4, 4, 16), "depth": 3},
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Of the sets, epochs of each stage, and networks whose posteriors are mixed.

    Of the epochs of a stage the best by held-out cones is kept. It comes early: a few hundred
    cones are soon known by heart.
    """

    train: int = 500
    test: int = 128
    pretrain: int = 20
    epochs: int = 15
    ensemble: int = 3


QUICK = Sizes(train=24, test=24, pretrain=1, epochs=1, ensemble=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = simulating_parser(__doc__)
    parser.add_argument("--cones", type=int, help="to train on, instead of 500")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = QUICK if chosen.quick else Sizes(train=chosen.cones or Sizes.train)
    with work_folder(chosen) as work:
        table = run(work, sizes, chosen.workers, chosen.quick)
    table.write(chosen.out)
    return 0


def simulator() -> ReionizationSimulator:
    """Small light cones with spin temperature, all six parameters."""
    return ReionizationSimulator(
        "lightcone", 16, 128.0, PARAMETERS, fixed={"redshift": 6.0}, n_los=224,
        spin_temperature=True,
    )  # fmt: skip


def run(work: Path, sizes: Sizes, workers: int, quick: bool) -> Table:
    """Simulate, train both networks, test both."""
    begun = time.monotonic()
    lessons, tests = (
        sbitools.simulate(
            simulator(), n, work / f"{name}-{n}", seed=seed, workers=workers, time_limit=LIMIT
        )
        for name, n, seed in (("train", sizes.train, TRAIN), ("test", sizes.test, TEST))
    )
    simulated = time.monotonic() - begun
    n, n_test = len(lessons.done), len(tests.done)
    title = f"R² of posterior means, six parameters from {n} light cones of 21cmFAST"
    table = Table(NAME, title, ("trained on", *PARAMETERS, "checks"), quick=quick)
    table.add("published: 21cmPIE-Net, about 4,000 large cones", *PUBLISHED, "")
    for name, network in NETWORKS.items():
        say(name)
        begun = time.process_time()
        posterior = sbitools.train(
            lessons, run_dir=work / f"{name.replace(' ', '-')}-{n}", resume=True,
            epochs=sizes.epochs, pretrain_epochs=sizes.pretrain, ensemble=sizes.ensemble,
            workers=workers, **COMMON, **network,
        )  # fmt: skip
        seconds = time.process_time() - begun
        result = sbitools.calibrate(posterior, tests, n_draws=1000, seed=1, progress=False)
        rows = result.check("recovery").details["parameters"]
        failed = [c.name for c in result.emulated if c.passed is False]
        table.add(f"{name}, {n} cones", *[row["r2"] for row in rows],
                  "failed: " + ", ".join(failed) if failed else "pass")  # fmt: skip
        table.data[name] = {"recovery": rows, "joint": result.joint, "seconds": seconds}
        errors = ", ".join(f"{row['r2_error']:.2f}" for row in rows)
        table.notes.append(
            f"{name}: standard errors of R² {errors}; {_weights(posterior):,} weights; training "
            f"{seconds:.0f} CPU s in this run; {speed(posterior, tests)}"
        )
    table.notes.append(
        f"{n_test} test cones; priors are those of the published table, without its limits on "
        "the optical depth and the end of reionization; checks: SBC, coverage, TARP, contraction "
        f"and latent space together at 1 %; simulating took {simulated:.0f} s in this run"
    )
    return table


def speed(posterior: Any, tests: sbitools.SimulationStore) -> str:
    """CPU seconds for the draws of one cone, with and without its summary."""
    x = tests.read(tests.done[:1])
    posterior.sample(x, DRAWS, seed=1)
    begun = time.process_time()
    posterior.sample(x, DRAWS, seed=2)
    both = time.process_time() - begun
    begun = time.process_time()
    posterior.features(x)
    return f"{DRAWS:,} draws for one cone {both:.3f} CPU s, " + (
        f"{time.process_time() - begun:.3f} of them its summary"
    )


def _weights(posterior: Any) -> int:
    return sum(p.numel() for p in posterior.estimator.parameters())


if __name__ == "__main__":
    sys.exit(main())
