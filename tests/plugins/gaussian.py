"""A real system small enough for tests: a linear Gaussian model, its emulator by least squares.

x_i = mu + i * slope + 0.5 * noise, i = 0..5. The reference fails for one seed in `FAILS`, with
markup in its message, so that reports meet failures and must escape them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from emulators.emulator import Emulator
from sbitools import FieldSpec, FunctionSimulator, Parameter, ParameterSpace, priors, seeds
from sbitools.training import TrainingHistory

N, NOISE, FAILS = 6, 0.5, 97
MESSAGE = "<img src=x onerror=alert(1)>"
OUTPUT = FieldSpec("line", ("i",), (N,), "float32", "mK")
SPACE = ParameterSpace([
    Parameter("mu", priors.Normal(0.0, 1.0), latex=r"\mu"),
    Parameter("slope", priors.Uniform(-1.0, 1.0)),
])  # fmt: skip


class Settings(BaseModel):
    """Settings of the system."""

    model_config = ConfigDict(extra="forbid")

    noise: float = Field(default=NOISE, gt=0, description="sd of the noise")


class Line:
    """The simulator's function; picklable, and it fails for some seeds."""

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def __call__(self, theta: Tensor, s: Tensor) -> Tensor:
        if bool((s % FAILS == 0).any()):
            raise ValueError(MESSAGE)
        mean = theta[:, :1] + theta[:, 1:] * torch.arange(N)
        return mean.float() + self.noise * seeds.normal(s, (N,))


class LineEmulator(Emulator):
    """x = (1, theta) W + scale * noise, by least squares."""

    kind = "test-line-emulator"
    differentiable = frozenset({"theta", "latent"})

    def __init__(self) -> None:
        self.parameters, self.output = SPACE, OUTPUT
        self.source, self.group_size = None, 1
        self.network = nn.Module()
        self.network.register_buffer("weights", torch.zeros(3, N))
        self.network.register_buffer("scale", torch.zeros(N))

    def fit(
        self, store: Any, config: Any = None, *, run_dir: str | Path, resume: bool = False,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> TrainingHistory:  # fmt: skip
        done = store.done
        design = self._design(store.theta[done])
        x = store.read(done)
        weights = torch.linalg.lstsq(design, x).solution
        rest = x - design @ weights
        self.network.weights, self.network.scale = weights, rest.std(0)
        row = {"epoch": 0, "step": 1, "train_loss": float(rest.square().mean()),
               "validation_loss": float(rest.square().mean()), "learning_rate": 0.0,
               "seconds": 0.0}  # fmt: skip
        if on_epoch is not None:
            on_epoch(row)
        return TrainingHistory([row], 0, 0.0, "epochs")

    def _design(self, theta: Tensor) -> Tensor:
        return torch.cat([torch.ones(len(theta), 1), theta.float()], dim=1)

    def latent(self, theta: Tensor, s: Tensor) -> Tensor:
        return seeds.normal(s, (N,))

    def decode(self, theta: Tensor, latent: Tensor) -> Tensor:
        return self._design(theta) @ self.network.weights + self.network.scale * latent

    def config(self) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls()

    def module(self) -> nn.Module:
        return self.network


class LineSystem:
    """See `sbitools.systems.System`."""

    name = "line"
    settings = Settings

    def simulator(self, settings: Settings) -> FunctionSimulator:
        return FunctionSimulator(Line(settings.noise), SPACE, OUTPUT)

    training_simulator = simulator

    def emulator(self, settings: Settings) -> LineEmulator:
        return LineEmulator()

    def load_emulator(self, path: Path) -> LineEmulator:
        return LineEmulator.load(path)

    def validate(self, emulator: LineEmulator, settings: Settings, store: Any) -> dict[str, Any]:
        done = store.done
        reference = store.read(done).numpy()
        made = emulator.simulate(store.theta[done], store.seeds[done]).numpy()
        rms = float(np.sqrt(np.mean((made - reference) ** 2)))
        return {
            "errors": {"x": {"emulator": rms, "reference": 0.0}}, "n": len(done),
            "labels": {"x": "rms difference in mK."},
        }  # fmt: skip


system = LineSystem()
