"""Posteriors of gain errors from sky maps: trained on emulated maps, on reference maps, exact.

The demo of the sky maps (`sbitools demo --system scattering`) is run: a few reference maps, an
emulator fitted to them, a posterior trained on emulated maps and the transfer check. Beside it the
same network is trained on as many reference maps: what it loses against the exact posterior is the
network's own. The exact posterior is known, because maps are linear in Gaussian gain errors
(`emulators.survey.instrument.likelihood`): by quadrature for all held-out reference maps, and by
`emcee` for the first of them.

`--work DIR` keeps everything that is simulated and trained, and goes on from what is there; it may
be a finished run of the demo.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _scattering_posterior import (
    Tests,
    ask_chains,
    ask_grid,
    ask_network,
    compare,
    lost,
    thirds,
)
from _table import Table, cpu_seconds, say, simulating_parser

import sbitools
from emulators.survey.instrument.likelihood import TOLERANCE, GainLikelihood
from emulators.survey.simulator import TodSimulator
from sbitools.calibration import CalibrationResult
from sbitools.chain import Run, run_chain
from sbitools.commands.demo import demo_config
from sbitools.seeds import derive

__all__ = ["main"]

NAME = "scattering_posterior"
_STAGES = (
    "reference/train", "reference/test", "emulator", "emulated/train", "emulated/test",
    "posterior", "calibration",
)  # fmt: skip
_MAPS, _CHAINS = 101, 102  # keys of seeds that the chain does not use
_VISIBLE = 1e-3  # of the brightest mode
_QUICK = (
    "settings.nside=8", "reference.n_train=48", "reference.n_test=96", "emulated.n_train=384",
    "emulated.n_test=96", "train.epochs=10", "emulator.steps=5", "calibrate.n_draws=200",
)  # fmt: skip
_COLUMNS = (
    "posterior", "maps", "ln p(truth) [nats]", "lost against exact [nats]",
    "shift of the mean: rms [sigma]", "bias [sigma]", "width / exact",
    "truth in 68 % interval", "in 68 % region", "CPU s per map",
)  # fmt: skip
_MEANING = [
    "pairs: gain_rms, correlation_time; all of ln theta, in which the priors are uniform; ± is "
    "one standard error",
    "ln p(truth): mean log density of the posterior at the truth; that of the exact posterior is "
    "the most that any can have",
    "shift: posterior mean minus that of the exact posterior, in sigmas of the latter; width: "
    "geometric mean of ratios of standard deviations",
    "interval: central, of one parameter; region: of highest density, of both",
]


@dataclass(frozen=True)
class Sizes:
    """How many maps `emcee` is run for, and draws for each map."""

    chains: int
    draws: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    parser = simulating_parser(__doc__, default=1)
    parser.add_argument("--nside", type=int, help="of the maps, instead of the demo's")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = Sizes(16, 200) if chosen.quick else Sizes(128, 1000)
    with tempfile.TemporaryDirectory() as folder:
        root = chosen.work or Path(folder) / "run"
        overrides = [f"run_dir={str(root)!r}", f"workers={chosen.workers}"]
        overrides += [f"settings.nside={chosen.nside}"] if chosen.nside else []
        config = demo_config(NAME.split("_")[0], False, [*overrides, *(_QUICK * chosen.quick)])
        table = measure(Run(config), sizes, chosen.quick)
    table.write(chosen.out)
    return 0


def measure(run: Run, sizes: Sizes, quick: bool) -> Table:
    """Run what is not there yet, ask every posterior, and tabulate."""
    run_chain(run, _STAGES, lambda stage, what, _: say(f"{stage.title}: {what}"))
    emulated = sbitools.Posterior.load(run.folder("posterior") / "checkpoint")
    trained = {"reference": on_reference(run), "emulated": emulated}
    store, seed = run.store("reference/test"), derive(run.config.seed, _CHAINS)
    tests = Tests(store.theta[store.done], store.read(store.done))
    say(f"exact posteriors of {len(tests.theta)} maps")
    begun, reference = cpu_seconds(), run.reference
    assert isinstance(reference, TodSimulator)  # noqa: S101  (the system's)
    likelihood, visible = GainLikelihood(reference), GainLikelihood(reference, _VISIBLE)
    told = {"build": (cpu_seconds() - begun) / 2}
    exact, seen = ask_grid(likelihood, tests)[0], ask_grid(visible, tests)[0]
    say(f"emcee for {sizes.chains} maps")
    chains = ask_chains(likelihood, tests.first(sizes.chains), sizes.draws, seed, told)
    say("networks")
    networks = {
        f"trained on {kind} maps": ask_network(p, tests, sizes.draws, seed)
        for kind, p in trained.items()
    }
    answers = {
        f"exact, {likelihood.n_modes} modes, quadrature": exact,
        f"exact, {likelihood.n_modes} modes, emcee": chains,
        f"exact, {visible.n_modes} visible modes": seen,
    } | networks
    table = Table(NAME, title(run), _COLUMNS, quick=quick)
    found = {name: compare(a, exact) for name, a in answers.items()}
    for name, numbers in found.items():
        table.add(name, *cells(numbers))
    rival, mine = networks.values()
    parts = thirds(mine, rival, exact, tests)
    fair = {name: compare(a, seen) for name, a in networks.items()}
    table.data = {
        "found": found, "against the visible modes": fair, "chains": told, "thirds": parts,
        "more lost": lost(mine, rival), "verdict": verdict(run),
        "training": {k: p.info["seconds"] for k, p in trained.items()},
    }  # fmt: skip
    table.notes += [*_MEANING, *notes(table.data), costs(run)]
    return table


def on_reference(run: Run) -> sbitools.Posterior:
    """The demo's network, trained on as many reference maps as it has emulated ones."""
    n = run.config.emulated.n_train
    say(f"{n} reference maps, and training on them")
    store = sbitools.simulate(
        run.reference, n, run.root / "reference-many", seed=derive(run.config.seed, _MAPS),
        workers=run.config.workers, progress=False,
    )  # fmt: skip
    options: dict[str, Any] = {"seed": run.seed("posterior")} | run.config.train
    return sbitools.train(store, run_dir=run.root / "on-reference", resume=True, **options)


def title(run: Run) -> str:
    """What was trained on what."""
    config = run.config
    return (
        f"Gain errors from sky maps at Nside {getattr(run.settings, 'nside', '?')}: networks "
        f"trained on {config.emulated.n_train} maps, against the exact posterior"
    )


def cells(found: Mapping[str, Any]) -> list[object]:
    """One row of the table, but for its name."""
    known = "score" in found
    bias = [f"{b:+.3f} ± {e:.3f}" for b, e in zip(found["bias"], found["bias_error"], strict=True)]
    return [
        found["n"],
        f"{found['score']:.3f} ± {found['score_error']:.3f}" if known else "",
        f"{found['lost']:.3f} ± {found['lost_error']:.3f}" if known else "",
        pair(found["rms"], ".3f"), ", ".join(bias), pair(found["width"], ".3f"),
        pair(found["inside"], ".3f"), f"{found['joint']:.3f}" if "joint" in found else "",
        found["seconds"],
    ]  # fmt: skip


def pair(values: Sequence[float], how: str) -> str:
    """Two numbers in one cell."""
    return ", ".join(format(v, how) for v in values)


def notes(data: Mapping[str, Any]) -> list[str]:
    """What the table has no room for."""
    chains, out = data["chains"], []
    out.append(
        f"emcee: {100 * chains['converged']:.0f} % of maps converged (R-hat up to "
        f"{chains['r_hat']:.4f}, {chains['effective']:.0f} effective draws or more); "
        f"{chains['evaluations']:.0f} likelihoods per map out of a table; without it each would "
        f"take {chains['direct']:.2g} CPU s, {chains['direct'] * chains['evaluations']:.3g} s per "
        f"map; one decomposition for all maps, not counted: {chains['build']:.1f} CPU s"
    )
    out.append(
        f"visible modes: those above {_VISIBLE:g} of the brightest. The others, gain errors that "
        "both detectors of a pair have in common, show the polarised sky alone; no noise hides "
        f"them here, and float32 maps hold those above {TOLERANCE:g}"
    )
    for name, found in data["against the visible modes"].items():
        out.append(
            f"{name}, against the visible modes: {found['lost']:.3f} ± {found['lost_error']:.3f} "
            f"nats lost, rms shift {pair(found['rms'], '.3f')} sigma, width "
            f"{pair(found['width'], '.3f')}"
        )
    out.append(
        "trained on emulated maps, against trained on reference maps: {:.3f} ± {:.3f} nats lost; "
        "± is of test maps alone, and two trainings of one network differ, too".format(
            *data["more lost"]
        )
    )
    for name, rows in data["thirds"].items():
        said = "; ".join(
            f"{a:+.2f} ± {da:.2f}, {b:+.2f} ± {db:.2f}" for a, b, da, db in rows
        )  # fmt: skip
        out.append(
            f"means of emulated-trained minus reference-trained, in exact sigma, from low to high "
            f"thirds of {name}: {said}"
        )
    out.append(f"transfer check of the posterior trained on emulated maps: {data['verdict']}")
    seconds = ", ".join(f"{k} {v:.0f} s" for k, v in data["training"].items())
    return [*out, f"training: {seconds}"]


def costs(run: Run) -> str:
    """CPU seconds per simulation, measured now."""
    theta, seeds = run.reference.parameters.design(8, 1), torch.arange(8)
    said = []
    for name, simulator in (("reference", run.reference), ("emulated", run.emulator())):
        simulator.simulate(theta[:1], seeds[:1])
        begun = time.process_time()  # finer than cpu_seconds()
        simulator.simulate(theta, seeds)
        said.append(f"{name} {(time.process_time() - begun) / 8:.2g}")
    return f"CPU s per simulated map: {', '.join(said)}"


def verdict(run: Run) -> str:
    """Of the transfer check, as the chain's report has it."""
    path = run.folder("calibration") / "result.json"
    return CalibrationResult.from_json(path).verdict


if __name__ == "__main__":
    sys.exit(main())
