"""CPU time of one N-body field: the emulator against particle meshes of few and of all steps.

Everything gives the density contrast of 32^3 cells at redshift 0 for its own cosmology and seed,
from white noise to painting. The emulator has the architecture of its default options and
untrained weights: they do not change the cost. One thread; rounds alternate between the ways and
the fastest of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from _table import Table, options

from emulators.nbody import NBodyEmulator, NBodySimulator, system
from emulators.nbody.options import EmulatorOptions
from sbitools import Simulator
from sbitools.seeds import simulation_seeds

__all__ = ["main"]

STEPS = (3, 5, 16)
BATCH = 8


def ways() -> dict[str, Simulator]:
    """Simulators by name, the emulator first."""
    simulator = system.simulator(system.settings())
    chosen = EmulatorOptions().resolved()
    unfitted = NBodyEmulator(simulator)
    network = {"channels": list(chosen.channels), "scale": chosen.scale, "seed": 0}
    emulators = {
        f"emulator, {precision}": NBodyEmulator.from_config(
            dict(unfitted.config()) | {"network": network | {"precision": precision}}
        )
        for precision in dict.fromkeys((chosen.precision, "float32"))
    }
    meshes = {
        f"particle mesh, {steps} steps": NBodySimulator(
            simulator.n, simulator.box_size, steps=steps, mesh_factor=simulator.mesh_factor
        )
        for steps in STEPS
    }
    return emulators | meshes


@torch.no_grad()
def cpu_seconds(simulator: Simulator, n: int) -> float:
    """CPU seconds of one of `n` fields, made in batches."""
    theta = simulator.parameters.design(n, 1)
    seeds = torch.as_tensor(simulation_seeds(2, range(n)))
    begun = time.process_time()
    for rows in torch.arange(n).split(BATCH):
        simulator.simulate(theta[rows], seeds[rows])
    return (time.process_time() - begun) / n


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and tabulate."""
    chosen = options((__doc__ or "").partition("\n")[0], argv)
    torch.set_num_threads(1)
    n, rounds = (BATCH, 1) if chosen.quick else (4 * BATCH, 3)
    simulators = ways()
    for simulator in simulators.values():
        cpu_seconds(simulator, 1)  # compiles, and fills tables
    best = dict.fromkeys(simulators, float("inf"))
    for _ in range(rounds):
        for name, simulator in simulators.items():
            best[name] = min(best[name], cpu_seconds(simulator, n))
    first = next(iter(best.values()))
    table = Table(
        "nbody_cost", "One N-body field of 32^3 cells at redshift 0",
        ("what", "CPU ms", "times the emulator"), quick=chosen.quick,
    )  # fmt: skip
    for name, seconds in best.items():
        table.add(name, 1000 * seconds, seconds / first)
    table.notes.append(
        f"fastest of {rounds} alternating rounds of {n} fields in batches of {BATCH}, 1 thread"
    )
    table.data = {"cpu_seconds": best}
    table.write(chosen.out)


if __name__ == "__main__":
    main()
