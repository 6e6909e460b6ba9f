"""The N-body emulator: white noise and cosmology in, density contrast or particles out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from emulators.emulator import Emulator, check_latent, fit_inputs
from emulators.methods.displacement.losses import density_errors, mean_square
from emulators.methods.displacement.painting import density_contrast
from emulators.options import fast_bfloat16, parse_options
from sbitools import priors
from sbitools.errors import ConfigError, ParameterError, StoreError
from sbitools.gate.plain import whole
from sbitools.networks.precision import single_precision
from sbitools.seeds import derive
from sbitools.training import TrainingHistory, mean_loss, run_training

from . import lpt
from .cosmology import growth_factor
from .data import ParticleBatches
from .network import DisplacementNetwork
from .options import EmulatorOptions
from .simulator import NBodySimulator, known_redshifts

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

__all__ = ["NBodyEmulator"]


class NBodyEmulator(Emulator):
    """Stands for a density `NBodySimulator`; learns from the same simulator's particles.

    The latent is white noise on the lattice, so a seed is the same universe here and in the
    simulator. `decode` is differentiable in it.

    Args:
        simulator: the density simulator it stands for.
        redshifts: of the particles it is fitted to; they must contain the simulator's redshift.

    Raises:
        ConfigError: for a simulator of particles, or redshifts without the simulator's.
    """

    kind = "nbody-emulator"
    differentiable = frozenset({"latent"})

    def __init__(
        self, simulator: NBodySimulator, redshifts: Sequence[float] = (0.0, 0.5, 1.0, 2.0)
    ) -> None:
        if not isinstance(simulator, NBodySimulator):
            raise ConfigError(
                "NBodyEmulator", expected="an NBodySimulator", got=repr(simulator),
                fix="pass NBodySimulator(...), or open a fitted one with NBodyEmulator.load(path)",
            )  # fmt: skip
        self.redshifts = known_redshifts(redshifts, "NBodyEmulator")
        if simulator.quantity != "density" or simulator.redshifts[0] not in self.redshifts:
            raise ConfigError(
                "NBodyEmulator", expected="a density simulator whose redshift is in redshifts",
                got=f"{simulator.quantity} at {simulator.redshifts}, redshifts {self.redshifts}",
                fix="pass NBodySimulator(quantity='density'), and add its redshift to the list",
            )  # fmt: skip
        self.simulator = simulator
        self.parameters, self.output = simulator.parameters, simulator.output
        self.source, self.group_size = None, simulator.group_size
        self.network: DisplacementNetwork | None = None
        self._architecture: dict[str, Any] = {}

    @single_precision()
    def fit(
        self,
        store: SimulationStore,
        config: EmulatorOptions | Mapping[str, Any] | None = None,
        *,
        run_dir: str | Path,
        resume: bool = True,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> TrainingHistory:
        """Learn from particles: see `Emulator.fit` and `EmulatorOptions`."""
        run_dir = fit_inputs(store, run_dir)
        options = parse_options(EmulatorOptions, config).resolved()
        batches = self._batches(store, options)
        self._build(list(options.channels), options.scale, options.precision, options.seed)
        loss = _Loss(options, self.simulator.box_size)
        history = run_training(
            self.module(), loss, batches.train, batches.validation, options, run_dir,
            steps_per_epoch=batches.steps, resume=resume, on_epoch=on_epoch,
            identity={"store": store.digest()},
        )  # fmt: skip
        self.module().requires_grad_(False)  # a fitted emulator is a function of its arguments
        return history

    def latent(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """White noise, float32, (B, n, n, n)."""
        return lpt.white_noise(seeds, self.simulator.n)

    def decode(self, theta: Tensor, latent: Tensor) -> Tensor:
        """Density contrast (B, n, n, n) at the simulator's redshift.

        Args:
            theta: (B, P).
            latent: white noise (B, n, n, n), or Zel'dovich displacement (B, 3, n, n, n) in Mpc/h.
        """
        displaced, _ = self.displacement(theta, latent)
        return density_contrast(displaced, self.simulator.box_size)

    def displacement(
        self,
        theta: Tensor,
        latent: Tensor,
        redshift: float | None = None,
        velocity: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Particles on their lattice.

        Args:
            theta: (B, P).
            latent: white noise (B, n, n, n), or Zel'dovich displacement (B, 3, n, n, n) in Mpc/h.
            redshift: any between those it was trained on; the simulator's if None.
            velocity: return dx/dD, too.

        Returns:
            Displacement and dx/dD in Mpc/h, each (B, 3, n, n, n); None without `velocity`. The
            peculiar velocity in km/s is dx/dD times D f H / (1 + z).

        Raises:
            ParameterError: for theta outside the priors, or a redshift it was not trained for.
            ShapeError: for a latent of another shape.
        """
        z = self.simulator.redshifts[0] if redshift is None else redshift
        low, high = min(self.redshifts), max(self.redshifts)
        if not low <= z <= high:
            raise ParameterError(
                "redshift", expected=f"a value in [{low:g}, {high:g}], where it was trained",
                got=f"{z}", fix="fit an emulator to particles at more redshifts",
            )  # fmt: skip
        omega_m = [c.Omega_m for c in self.simulator.cosmologies(theta)]
        cube = (self.simulator.n,) * 3
        latent = check_latent(latent, (len(omega_m), *cube), (len(omega_m), 3, *cube))
        psi = latent if latent.ndim == 5 else self.initial_displacement(theta, latent)
        growth = torch.as_tensor(growth_factor(z, np.array(omega_m)), dtype=psi.dtype)
        device = next(self.module().parameters()).device
        return self.module()(
            psi.to(device), torch.tensor(omega_m, dtype=psi.dtype, device=device),
            growth.to(device), velocity,
        )  # fmt: skip

    def initial_displacement(self, theta: Tensor, latent: Tensor) -> Tensor:
        """Zel'dovich displacement at D = 1 in Mpc/h, (B, 3, n, n, n), of white noise."""
        cosmologies = self.simulator.cosmologies(theta)
        box, n = self.simulator.box_size, self.simulator.n
        latent = check_latent(latent, (len(cosmologies), n, n, n))
        with lpt.one_thread():  # else the last bit depends on the threads, and bfloat16 shows it
            boxes = [
                lpt.zeldovich(lpt.linear_modes(white[None], box, c.linear_power), box)
                for c, white in zip(cosmologies, latent, strict=True)
            ]
        return torch.cat(boxes)

    def resized(self, n: int) -> NBodyEmulator:
        """The same network on n^3 particles at the same spacing: another, e.g. a larger, box."""
        n = whole(n, "n", least=4)
        values = self._simulator_config() | {
            "n": n, "box_size": self.simulator.box_size * n / self.simulator.n,
        }  # fmt: skip
        other = type(self)(_simulator(values), self.redshifts)
        other.network, other._architecture = self.network, self._architecture
        return other

    def particle_simulator(self, **changes: Any) -> NBodySimulator:
        """The simulator whose store the emulator is fitted to, with some arguments changed."""
        values = self._simulator_config() | {"redshifts": self.redshifts} | changes
        return _simulator(values, "particles")

    def module(self) -> DisplacementNetwork:
        """The network."""
        return self._fitted(self.network)

    def config(self) -> dict[str, Any]:
        """Simulator, redshifts and architecture."""
        return {
            "simulator": self._simulator_config(), "redshifts": list(self.redshifts),
            "network": self._architecture,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Inverse of `config`."""
        emulator = cls(_simulator(config["simulator"]), config["redshifts"])
        emulator._build(**config["network"])
        return emulator

    def _simulator_config(self) -> dict[str, Any]:
        s = self.simulator
        return {
            "n": s.n, "box_size": s.box_size, "fixed": dict(s.fixed), "steps": s.steps,
            "mesh_factor": s.mesh_factor, "redshifts": list(s.redshifts),
            "priors": {p["name"]: p["prior"] for p in s.parameters.to_dict()},
        }  # fmt: skip

    def _build(self, channels: list[int], scale: float, precision: str, seed: int) -> None:
        # Weights trained in bfloat16 also run in float32, where that is the faster of the two.
        half = precision == "bfloat16" and fast_bfloat16()
        self._architecture = {
            "channels": channels, "scale": scale, "precision": precision, "seed": seed,
        }  # fmt: skip
        self.network = DisplacementNetwork(
            channels, scale, derive(seed, 20), torch.bfloat16 if half else torch.float32
        )

    def _batches(self, store: SimulationStore, options: EmulatorOptions) -> ParticleBatches:
        expected = self.particle_simulator()
        same = (
            store.output == expected.output
            and store.source == expected.source
            and store.parameters.names == expected.parameters.names
        )
        if not same:
            raise StoreError(
                f"store {store.path}",
                expected=f"particles {expected.output.shape} with their Zel'dovich displacement, "
                f"parameters {expected.parameters.names}",
                got=f"{store.output.name} {store.output.shape}, parameters "
                f"{store.parameters.names}",
                fix="simulate with the training_simulator of the same settings",
            )  # fmt: skip
        _check_version(store, expected)
        omega_m = self._omega_m(store.theta)
        growth = growth_factor(np.array(self.redshifts), omega_m[:, None])
        return ParticleBatches(
            store, omega_m, growth, self._redshift_weights(options.output_share),
            batch_size=options.batch_size, passes=options.passes,
            validation_fraction=options.validation_fraction, seed=options.seed,
        )  # fmt: skip

    def _redshift_weights(self, share: float) -> list[float]:
        others = len(self.redshifts) - 1
        usual = self.redshifts.index(self.simulator.redshifts[0])
        rest = (1 - share) / others if others else 0.0
        return [share if i == usual else rest for i in range(len(self.redshifts))]

    def _omega_m(self, theta: Tensor) -> np.ndarray:
        names = self.parameters.names
        if "Omega_m" in names:
            return theta[:, names.index("Omega_m")].numpy()
        return np.full(len(theta), self.simulator.fixed["Omega_m"])


def _simulator(config: Mapping[str, Any], quantity: Any = "density") -> NBodySimulator:
    values = dict(config)
    factor = values.pop("mesh_factor")
    own = {name: priors.from_dict(prior) for name, prior in values.pop("priors").items()}
    simulator = NBodySimulator(parameters=list(own), priors=own, quantity=quantity, **values)
    simulator.mesh_factor = factor  # of what it was fitted to, also one that is refused by now
    return simulator


def _check_version(store: SimulationStore, expected: NBodySimulator) -> None:
    """Refuse particles of other settings; where nobody says who made them, only shapes count."""
    made_by = store.manifest.code_version.rpartition("sbitools ")[0].removesuffix("; ")
    if made_by not in ("", expected.version):
        raise StoreError(
            f"store {store.path}",
            expected=f"particles of NBodySimulator version {expected.version}: n={expected.n}, "
            f"box_size={expected.box_size}, redshifts={expected.redshifts}, "
            f"steps={expected.steps}, mesh_factor={expected.mesh_factor}, and the emulator's "
            "fixed parameters and priors",
            got=f"those of {store.manifest.simulator} version {made_by}",
            fix="simulate with emulator.particle_simulator(), or make the emulator with the "
            "settings of the store",
        )  # fmt: skip


class _Loss:
    """Logarithms of the displacement, density and, in some steps, velocity error; P(k)."""

    def __init__(self, options: EmulatorOptions, box_size: float) -> None:
        self.options, self.box_size = options, box_size

    def __call__(
        self, module: nn.Module, batch: Sequence[Tensor], generator: torch.Generator
    ) -> Tensor:
        # Evaluations compare epochs, so they leave out what only some of the steps have.
        share = self.options.velocity_share if module.training else 0.0
        velocity = bool(torch.rand((), generator=generator) < share)

        def box(i: int) -> Tensor:
            return self._box(module, [part[i : i + 1] for part in batch], velocity)

        return mean_loss(box, len(batch[0]), list(module.parameters()), self.options.workers)

    def _box(self, module: nn.Module, batch: Sequence[Tensor], velocity: bool) -> Tensor:
        psi, target, omega_m, growth = batch
        # The network casts its activations itself; styles and filters stay float32.
        with torch.autocast(psi.device.type, enabled=False):
            moved, rate = module(psi, omega_m, growth, velocity)
        unit = self.options.scale**2
        loss = (mean_square(moved, target[:, :3]) / unit).log()
        if rate is not None:
            loss = loss + (mean_square(rate, target[:, 3:]) / unit).log()
        if self.options.density_weight or self.options.power_weight or self.options.phase_weight:
            density, power, phase = density_errors(moved, target[:, :3], self.box_size)
            loss = loss + self.options.density_weight * density.log()
            loss = loss + self.options.power_weight * power
            loss = loss + self.options.phase_weight * phase
        return loss.mean()
