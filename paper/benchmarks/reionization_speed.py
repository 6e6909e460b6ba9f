"""CPU seconds of one 21cm field: by 21cmFAST, and by the diffusion emulator.

Planes, cubes and light cones, with and without spin temperature, one thread each, in one run. How
long an emulator takes does not depend on its weights, which are drawn here: whether the fields are
right is measured elsewhere (`reionization_emulator`). The floor is what the products of the
network's convolutions take at the rate of a product of large matrices of the same precision.
Needs 21cmFAST (`sbitools[reionization]`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from _table import Table, options, say
from torch.utils.flop_counter import FlopCounterMode

from emulators.methods.diffusion import n_calls
from emulators.options import fast_bfloat16, parse_options
from emulators.reionization.emulator import ReionizationEmulator
from emulators.reionization.options import EmulatorOptions
from emulators.reionization.simulator import ReionizationSimulator
from emulators.reionization.transform import FieldTransform

SIX = ("m_wdm", "Omega_m", "log10_LX", "E0", "log10_Tvir", "zeta")
HEATED = ("log10_LX", "E0", "log10_Tvir", "zeta")
COLUMNS = (
    "field", "cells", "21cmFAST [CPU s]", "emulator [CPU s]", "ratio", "calls", "GFLOP per call",
    "share of the processor's rate",
)  # fmt: skip


LONG = 10.0  # CPU seconds; what is compiled or cached at first is small beside it


@dataclass(frozen=True)
class Kind:
    """A kind of field: the simulator's arguments, and how many are timed together."""

    title: str
    n: int
    parameters: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    quantity: Any = "cube"
    batch: int = 1
    box_size: float = 128.0

    @property
    def simulator(self) -> ReionizationSimulator:
        """What makes it."""
        return ReionizationSimulator(
            self.quantity, self.n, self.box_size, self.parameters, **self.settings
        )  # fmt: skip


CONE = {"fixed": {"redshift": 6.0}, "n_los": 224, "spin_temperature": True}
KINDS = (
    Kind("plane, 64 x 64", 64, ("zeta", "log10_Tvir"), quantity="slice", batch=16),
    Kind("cube, 32^3", 32, ("zeta", "log10_Tvir"), batch=4),
    Kind("cube, 64^3", 64, ("zeta", "log10_Tvir")),
    Kind("cube, 64^3, spin temperature", 64, HEATED, {"spin_temperature": True}),
    Kind("cone, 16 x 16 x 224, spin temperature", 16, SIX, CONE, "lightcone", 2),
    Kind("cone, 64 x 64 x 224, spin temperature", 64, SIX, CONE, "lightcone", box_size=512.0),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tabulate."""
    chosen = options((__doc__ or "").partition("\n")[0], argv)
    torch.set_num_threads(1)
    table = Table(
        "reionization_speed", "One 21cm field: 21cmFAST and emulator", COLUMNS,
        quick=chosen.quick,
    )  # fmt: skip
    rate = products()
    for kind in KINDS[:2] if chosen.quick else KINDS:
        say(kind.title)
        table.add(*row(kind, rate))
        say(f"{table.rows[-1]}")
    table.notes += [
        "21cmFAST: of one point of the prior, the same one in all rows with the same parameters",
        "planes are cut out of a cube: 21cmFAST makes a cube for each independent one",
        f"products of 1024 x 1024 matrices, {precision()}, one thread: {rate / 1e9:.0f} GFLOP/s",
        "a light cone is denoised in windows of 32 cells that overlap by 8: 1.3 times its cells",
        "weights are drawn, not fitted: speed alone; of the 19 calls, 1 is for the mean",
    ]
    table.write(chosen.out)
    return 0


def row(kind: Kind, rate: float) -> tuple[object, ...]:
    """Of the table."""
    simulator = kind.simulator
    theta, seeds = simulator.parameters.design(kind.batch, 1), torch.arange(kind.batch)
    reference = ReionizationSimulator.from_config(
        simulator.config() | {"quantity": "cube" if kind.quantity == "slice" else kind.quantity}
    )
    simulated = seconds(lambda: reference.simulate(theta[:1], seeds[:1]), 2)
    emulator = drawn_weights(simulator)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        emulator.sampling(sampler="dpm2", sampler_steps=2).simulate(theta[:1], seeds[:1])
    calls = n_calls(emulator.options.sampler, emulator.options.sampler_steps)
    flops = counter.get_total_flops() / n_calls("dpm2", 2)
    emulated = seconds(lambda: emulator.simulate(theta, seeds), 2) / kind.batch
    cells = " x ".join(str(n) for n in simulator.output.shape)
    return (kind.title, cells, simulated, emulated, simulated / emulated, calls, flops / 1e9,
            f"{flops * calls / emulated / rate:.0%}")  # fmt: skip


def drawn_weights(simulator: ReionizationSimulator) -> ReionizationEmulator:
    """An emulator with the default network that was not fitted."""
    transform = FieldTransform(10.0, 1.0, 0.0, 1.0, 0.0, 1.0, False)
    return ReionizationEmulator.from_config({
        "simulator": simulator.config(), "transform": transform.to_dict(),
        "options": parse_options(EmulatorOptions, None).resolved().model_dump(mode="json"),
    })  # fmt: skip


def precision() -> str:
    """That the emulator computes in on this processor."""
    return "bfloat16" if fast_bfloat16() else "float32"


def products() -> float:
    """Operations per second of a product of large matrices."""
    kind = torch.bfloat16 if fast_bfloat16() else torch.float32
    a, b = torch.randn(2, 1024, 1024).to(kind)
    return 20 * 2 * 1024**3 / seconds(lambda: [a @ b for _ in range(20)], 3)


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Least CPU seconds of a few runs, after one that is not counted; of one, if it takes long."""
    begun = time.process_time()
    run()
    first = time.process_time() - begun
    if first > LONG:
        return first
    best = float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        run()
        best = min(best, time.process_time() - begun)
    return best


if __name__ == "__main__":
    sys.exit(main())
