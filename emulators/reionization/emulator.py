"""The 21cm emulator: white noise and theta in, brightness temperature out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from emulators.emulator import Emulator, check_latent, fit_inputs
from emulators.methods.diffusion import SAMPLERS, Denoise, Denoiser, sample
from emulators.methods.diffusion.loss import DenoisingLoss
from emulators.methods.diffusion.network import UNet
from emulators.methods.diffusion.options import STEPS_PER_EPOCH
from emulators.methods.diffusion.windows import windowed
from emulators.options import fast_bfloat16, parse_options
from sbitools.errors import ConfigError, ShapeError, StoreError
from sbitools.networks.precision import single_precision
from sbitools.priors.base import ndtr
from sbitools.seeds import derive, normal
from sbitools.training import TrainingHistory, run_training

from .data import FieldBatches
from .options import EmulatorOptions
from .simulator import ReionizationSimulator
from .transform import CODE, FieldTransform

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

__all__ = ["ReionizationEmulator"]

# Cells of fields that are denoised at the same time: bounds the memory of a call.
_CELLS = {"cpu": 1 << 17, "cuda": 1 << 23}
_SHIPPED = Path(__file__).parent / "shipped" / "weights"


class ReionizationEmulator(Emulator):
    """Stands for a `ReionizationSimulator`; a diffusion model conditional on all its parameters.

    The latent is white noise as large as the field; `decode` follows a deterministic sampler from
    it. Planes are learned from the planes of cubes, light cones from stretches of them.

    Args:
        simulator: what it stands for.
    """

    kind = "emulator.reionization"

    def __init__(self, simulator: ReionizationSimulator) -> None:
        if not isinstance(simulator, ReionizationSimulator):
            raise ConfigError(
                "ReionizationEmulator", expected="a ReionizationSimulator", got=repr(simulator),
                fix="pass one, or open a fitted emulator with ReionizationEmulator.load(path)",
            )  # fmt: skip
        self.simulator = simulator
        self.parameters, self.output = simulator.parameters, simulator.output
        self.options = parse_options(EmulatorOptions, None)
        self.transform: FieldTransform | None = None
        self.denoiser: Denoiser | None = None

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
        """Learn from fields: see `Emulator.fit` and `EmulatorOptions`.

        Args:
            store: made by `training_simulator`.
            config: how to train.
            run_dir: for metrics and the resumable state.
            resume: take up an interrupted fit; False to refuse it.
            on_epoch: called after each epoch.

        Raises:
            ShapeError: if the fields do not fit the network's levels.
            StoreError: if the store was made by another simulator.
            TrainingError: if training diverges, or `run_dir` holds another run.
        """
        run_dir = fit_inputs(store, run_dir)
        options = parse_options(EmulatorOptions, config).resolved()
        if options.sampler == "distilled":
            raise ConfigError(
                "emulator option sampler", expected=f"one of {SAMPLERS}", got="'distilled'",
                fix="fit first, then call emulators.reionization.distill",
            )  # fmt: skip
        self._check_store(store, options)
        if options.start == "shipped":
            self._take_shipped(options)
            if not options.steps:
                return TrainingHistory(stopped="shipped weights")
        else:
            few = store.read(store.done[:: max(1, len(store.done) // 64)])
            few = few.flatten(0, 1) if store.output.dims[0] == "slice" else few
            self._build(options, FieldTransform.fit(few, open_end=self._is_cone))
        batches = FieldBatches(
            store, self._transform().forward, self.condition(store.theta), self._position(store),
            window=min(options.window, self.output.shape[-1]), batch_size=options.batch_size,
            steps=min(options.steps, STEPS_PER_EPOCH),
            validation_fraction=options.validation_fraction, seed=options.seed,
        )  # fmt: skip
        history = run_training(
            self.module(), DenoisingLoss(options), batches.train, batches.validation, options,
            run_dir, steps_per_epoch=batches.steps, resume=resume, on_epoch=on_epoch,
            identity={"store": store.digest(), "channels": CODE}, optimizer_threads=options.pieces,
        )  # fmt: skip
        self.module().requires_grad_(False)  # a fitted emulator is a function of its arguments
        return history

    def training_simulator(self) -> ReionizationSimulator:
        """The simulator whose store the emulator is fitted to: planes of cubes for planes."""
        return self.simulator.training_simulator()

    def latent(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """White noise, float32, (B, C, *n)."""
        return normal(seeds, (self._transform().channels, *self.output.shape))

    def decode(self, theta: Tensor, latent: Tensor) -> Tensor:
        """Brightness temperature in mK, (B, *n).

        Args:
            theta: (B, P).
            latent: white noise (B, C, *n).

        Raises:
            ShapeError: for a latent of another shape.
        """
        shape = (len(theta), self._transform().channels, *self.output.shape)
        latent = check_latent(latent, shape)
        device = next(self.module().parameters()).device
        cells = latent[0].numel() // latent.shape[1] if len(latent) else 1
        size = max(1, _CELLS.get(device.type, _CELLS["cuda"]) // cells)
        levels = self.options.levels()
        sky = range(2, latent.ndim - self._is_cone)
        out = torch.empty((len(theta), *self.output.shape), dtype=torch.float32)
        for first in range(0, len(theta), size):
            part = slice(first, first + size)
            noise = latent[part].to(device)
            with self.autocast(device):
                channels = sample(
                    self.options.sampler, self._denoise(theta[part], device), noise, levels, sky
                )
            out[part] = self._transform().inverse(channels.float().cpu())
        return out

    def sampling(self, **changes: Any) -> Self:
        """The same emulator with another sampler: `sampler`, `sampler_steps`.

        Raises:
            ConfigError: for one that is not known, or if this emulator or the other is distilled:
                such a network knows its own steps and no others.
        """
        other = type(self)(self.simulator)
        other.options = parse_options(
            EmulatorOptions, self.options.model_dump() | changes
        )  # fmt: skip
        if changes and "distilled" in (self.options.sampler, other.options.sampler):
            raise ConfigError(
                "emulator option sampler",
                expected=f"one of {SAMPLERS}, of an emulator that was not distilled",
                got=f"{other.options.sampler!r} instead of {self.options.sampler!r}",
                fix="use the emulator that was fitted, or distill it",
            )  # fmt: skip
        other.transform, other.denoiser = self.transform, self.denoiser
        return other

    def condition(self, theta: Tensor) -> Tensor:
        """What the network sees of theta (B, P): the prior's cumulative distribution, -1 to 1."""
        return (2 * ndtr(self.parameters.to_unconstrained(theta)) - 1).float()

    def module(self) -> Denoiser:
        """The network."""
        return self._fitted(self.denoiser)

    def config(self) -> dict[str, Any]:
        """Simulator, options and transform."""
        transform = None if self.transform is None else self.transform.to_dict()
        return {
            "simulator": self.simulator.config(), "transform": transform,
            "options": self.options.model_dump(mode="json"),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Inverse of `config`."""
        emulator = cls(ReionizationSimulator.from_config(config["simulator"]))
        if config["transform"] is not None:
            options = parse_options(EmulatorOptions, config["options"])
            emulator._build(options, FieldTransform.from_dict(config["transform"]))
        return emulator

    @classmethod
    def shipped(cls) -> Self:
        """The emulator whose weights come with the package."""
        return cls.load(_SHIPPED)

    def _build(self, options: EmulatorOptions, transform: FieldTransform) -> None:
        self.options, self.transform = options, transform
        cone = self._is_cone
        axes = ["periodic"] * (len(self.output.shape) - cone) + ["open"] * cone
        self.denoiser = Denoiser(UNet(
            transform.channels, len(self.parameters), axes, options.widths, options.blocks,
            options.patch, position=cone, seed=derive(options.seed, 20),
        ))  # fmt: skip

    def _transform(self) -> FieldTransform:
        return self._fitted(self.transform)

    @property
    def _is_cone(self) -> bool:
        return self.simulator.quantity == "lightcone"

    def _denoise(self, theta: Tensor, device: torch.device) -> Denoise:
        condition = self.condition(theta).to(device)
        if not self._is_cone:
            return self.module().at(condition)
        position = self.simulator.position(theta).to(device)
        if position.shape[1] <= self.options.window:
            return self.module().at(condition, position)
        window, overlap = self.options.window, self.options.overlap
        return windowed(self.module(), condition, position, window, overlap)

    def autocast(self, device: torch.device) -> torch.autocast:
        """The precision that the network computes in."""
        # Weights trained in bfloat16 also run in float32, where that is the faster of the two.
        half = self.options.precision == "bfloat16" and fast_bfloat16()
        return torch.autocast(device.type, torch.bfloat16, half)

    def _position(self, store: SimulationStore) -> Tensor | None:
        return self.simulator.position(store.theta) if self._is_cone else None

    def _take_shipped(self, options: EmulatorOptions) -> None:
        other = self.shipped()
        keep = {name: getattr(options, name) for name in ("widths", "blocks", "patch")}
        theirs = {name: getattr(other.options, name) for name in keep}
        if other.simulator.version != self.simulator.version or keep != theirs:
            raise ConfigError(
                "emulator option start", expected=f"'fresh', or the shipped planes' simulator "
                f"{other.simulator.config()} and network {theirs}",
                got=f"'shipped' with {self.simulator.config()} and {keep}",
                fix="fit fresh weights",
            )  # fmt: skip
        assert other.transform is not None  # noqa: S101  (loaded)
        self._build(options, other.transform)
        self.module().load_state_dict(other.module().state_dict())
        self.module().requires_grad_(bool(options.steps))

    def accepts(self, store: SimulationStore) -> bool:
        """Whether a store's fields are those of `training_simulator`, or fewer of its planes."""
        expected, got = self.training_simulator().output, store.output
        same = (got.name, got.dims, got.dtype, got.unit) == (
            expected.name, expected.dims, expected.dtype, expected.unit
        )  # fmt: skip
        planes = expected.dims[0] == "slice"
        return same and got.shape[planes:] == expected.shape[planes:]

    def _check_store(self, store: SimulationStore, options: EmulatorOptions) -> None:
        expected = self.training_simulator()
        same = self.accepts(store) and store.parameters == expected.parameters
        if not same or len(store.done) < 4:
            raise StoreError(
                f"store {store.path}",
                expected=f"4 or more simulations of {expected.output.name} "
                f"{expected.output.shape}, parameters {expected.parameters.names} with the same "
                "priors",
                got=f"{len(store.done)} of {store.output.name} {store.output.shape}, "
                f"parameters {store.parameters.names}",
                fix="simulate with emulator.training_simulator()",
            )  # fmt: skip
        multiple = options.patch * 2 ** (len(options.widths) - 1)
        seen = [min(n, options.window) if d == "los" else n
                for d, n in zip(self.output.dims, self.output.shape, strict=True)]  # fmt: skip
        if any(n % multiple for n in seen):
            raise ShapeError(
                "fields", expected=f"axes (windows of a cone) that are multiples of {multiple}",
                got=f"{tuple(seen)}", fix="use another grid, window, patch or fewer levels",
            )  # fmt: skip
