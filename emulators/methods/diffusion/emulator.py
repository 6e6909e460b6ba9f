"""The emulator of any field on a grid: white noise and theta in, fields out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from emulators.emulator import Emulator, check_latent, fit_inputs
from emulators.options import fast_bfloat16, parse_options
from sbitools.errors import ConfigError
from sbitools.parameters import ParameterSpace, as_space
from sbitools.precision import single_precision
from sbitools.seeds import derive, generator, normal, simulation_seeds
from sbitools.simulator import FieldSpec, as_spec
from sbitools.training import TrainingHistory, run_training

from .batches import WhiteBatches
from .correction import correct, powers
from .field_network import FieldModel, FieldNetwork
from .field_options import FieldOptions
from .layout import Layout
from .loss import DenoisingLoss
from .options import STEPS_PER_EPOCH
from .samplers import SAMPLERS, sample
from .sizes import Sizes
from .suits import FEWEST, refused
from .terms import condition
from .whitening import Whitening

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

__all__ = ["DiffusionEmulator"]

# Cells of fields that are denoised at the same time, and of those that the transform is fitted to.
_CELLS = {"cpu": 1 << 17, "cuda": 1 << 23}
_FITTED = 1 << 26
_MISSED = 0.15  # of ln P, from which on cells are better not made normal
_CORRECTED = 256  # simulations that powers are compared for
_FEW = 64  # of which fields are made by the network, too
_ROUNDS = 3
_CODE = 1
"""To be raised whenever the same simulations give other white fields."""
_GAIN = 2e-3  # of the validation loss: what the network has to be better by, or it is left out


class DiffusionEmulator(Emulator):
    """Stands for any simulator of fields with one to three axes of space, and of any channels.

    Fields become white noise by maps that are fitted (`whitening`), and a diffusion model learns
    what is left to tell them from it; the latent is white noise. Without anything left, fields
    are those maps' alone.

    Args:
        parameters: of the simulator; none is legal.
        output: what one field is.
        source: must be None: fields that follow from another one are not learned yet.

    Raises:
        ConfigError: for a field that it cannot emulate; the message says what to use instead.
    """

    kind = "emulator.diffusion"

    def __init__(
        self, parameters: ParameterSpace, output: FieldSpec, source: FieldSpec | None = None
    ) -> None:
        self.parameters, self.output = as_space(parameters), as_spec(output)
        why = refused(self.output, source)
        if why:
            raise ConfigError(
                f"output {self.output.name!r} of the diffusion emulator", expected=why[0],
                got=why[1], fix=why[2],
            )  # fmt: skip
        self.layout = Layout(self.output)
        self.options = parse_options(FieldOptions, None)
        self.whitening: Whitening | None = None
        self.model: FieldModel | None = None
        self.learned = True

    @single_precision()
    def fit(
        self,
        store: SimulationStore,
        config: FieldOptions | Mapping[str, Any] | None = None,
        *,
        run_dir: str | Path,
        resume: bool = False,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> TrainingHistory:
        """Learn from fields: see `Emulator.fit` and `FieldOptions`.

        Raises:
            StoreError: if the store holds other fields, or fewer than 16.
            TrainingError: if training diverges, or `run_dir` holds another run.
        """
        run_dir = fit_inputs(store, run_dir)
        options = parse_options(FieldOptions, config)
        if options.sampler == "distilled":
            raise ConfigError(
                "emulator option sampler", expected=f"one of {SAMPLERS}", got="'distilled'",
                fix="leave it out",
            )  # fmt: skip
        self._require_store(store, FEWEST)
        options = options.sized(self.layout, len(store.done))
        x, theta = self._some(store)
        stated = options.symmetries
        white = self._whiten(x, theta, stated or (), options)
        if stated is None:  # what the transform found is what the network is built for
            stated = () if any(white.varies) else ("shift",)
        self._build(options.model_copy(update={"symmetries": stated}), white)
        if not options.network:
            self.learned = False
            self._finish(x, theta)
            return TrainingHistory(stopped="no network")
        batches = WhiteBatches(
            store, self._white, condition(self.parameters, store.theta).float(), self.layout,
            stated, batch_size=options.batch_size, steps=min(options.steps or 1, STEPS_PER_EPOCH),
            validation_fraction=options.validation_fraction, seed=options.seed,
        )  # fmt: skip
        loss = DenoisingLoss(options)
        before = self._loss_now(loss, batches)
        history = run_training(
            self.module(), loss, batches.train, batches.validation, options, run_dir,
            steps_per_epoch=batches.steps, resume=resume, on_epoch=on_epoch,
            identity={"store": store.digest(), "white": _CODE}, optimizer_threads=options.pieces,
        )  # fmt: skip
        self.learned = history.best_validation_loss < (1 - _GAIN) * before
        self._finish(x, theta)
        return history

    def _whiten(
        self, x: np.ndarray, theta: Tensor, symmetries: Sequence[str], options: FieldOptions
    ) -> Whitening:
        """With cells made normal if Gaussian fields can then have the power of simulations."""
        found = []
        for linear in (False, True):
            white = Whitening.fit(x, theta, self.parameters, self.layout, symmetries, linear)
            self.options, self.whitening, self.learned = options, white, False
            found.append((self._correct(x, theta), white))
            white.gain[...], white.edges[...] = 0, 0
            if found[0][0] <= _MISSED * max(1.0, 128 / len(x)):
                break
        return found[-1][1] if found[-1][0] < 0.5 * found[0][0] else found[0][1]

    def _finish(self, x: np.ndarray, theta: Tensor) -> None:
        """Set the power of emulated fields right.

        Those of the network take long: a few are made, and compared with what they are without it
        for the same noise, so that most of chance cancels.
        """
        self.module().requires_grad_(False)  # a fitted emulator is a function of its arguments
        learned, self.learned = self.learned, False
        self._correct(x, theta)
        self.learned = learned
        if not learned:
            return
        white = self._fitted(self.whitening)
        every, few = (slice(None, None, -(-len(x) // n)) for n in (_CORRECTED, _FEW))
        target = powers(white, theta[every], x[every])
        self.learned = False
        for part, sign in ((few, 1), (every, -1)):
            fields = self._made(theta[part], 0)
            target = target + sign * powers(white, theta[part], fields)
        self.learned = True
        self._set_edges(x[few], theta[few])
        correct(white, theta[few], target, lambda: self._made(theta[few], 0), 1)

    def _correct(self, x: np.ndarray, theta: Tensor) -> float:
        """The same without a network; what is missed."""
        step = -(-len(x) // _CORRECTED)
        x, theta = x[::step], theta[::step]
        salts, white = iter(range(1, 1 << 30)), self._fitted(self.whitening)
        self._set_edges(x, theta)
        target = powers(white, theta, x)
        return correct(white, theta, target, lambda: self._made(theta, next(salts)), _ROUNDS)

    def _set_edges(self, x: np.ndarray, theta: Tensor) -> None:
        white = self._fitted(self.whitening)
        if not any(m.zeros for m in white.marginals):
            return
        seeds = simulation_seeds(derive(self.options.seed, 22), range(len(x)))
        noise = self.latent(theta, torch.from_numpy(seeds))
        if self.learned:
            rows = [slice(i, i + 1) for i in range(len(noise))]  # memory is that of one
            noise = torch.cat([self._sampled(theta[r], noise[r]) for r in rows])
        folded = self.layout.fold(x)
        shares = [float((folded[:, c] == 0).mean()) for c in range(folded.shape[1])]
        white.set_edges(noise.numpy(), theta, shares)

    def _made(self, theta: Tensor, salt: int) -> np.ndarray:
        seeds = simulation_seeds(derive(self.options.seed, 21, salt), range(len(theta)))
        return self.decode(theta, self.latent(theta, torch.from_numpy(seeds))).numpy()

    def latent(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """White noise, float32, (B, K, *space)."""
        return normal(seeds, self._latent_shape)

    def decode(self, theta: Tensor, latent: Tensor) -> Tensor:
        """Fields (B, *shape).

        Args:
            theta: (B, P).
            latent: white noise (B, K, *space).

        Raises:
            ShapeError: for a latent of another shape.
        """
        latent = check_latent(latent, (len(theta), *self._latent_shape)).detach()
        theta = torch.as_tensor(theta).detach().cpu()
        size = max(1, _CELLS["cpu"] // max(1, int(np.prod(self.layout.space))))
        out = torch.empty((len(theta), *self.output.shape), dtype=self.output.torch_dtype)
        for first in range(0, len(theta), size):
            part = slice(first, first + size)
            white = self._sampled(theta[part], latent[part]) if self.learned else latent[part]
            fields = self._fitted(self.whitening).inverse(white.numpy(), theta[part])
            out[part] = torch.from_numpy(np.clip(fields, *self._range)).to(out.dtype)
        return out

    def sampling(self, **changes: Any) -> Self:
        """The same emulator with another sampler: `sampler`, `sampler_steps`.

        Raises:
            ConfigError: for one that is not known.
        """
        other = type(self)(self.parameters, self.output)
        other.options = parse_options(FieldOptions, self.options.model_dump() | changes)
        if other.options.sampler not in SAMPLERS:
            raise ConfigError(
                "emulator option sampler", expected=f"one of {SAMPLERS}",
                got=repr(other.options.sampler), fix="name one of these",
            )  # fmt: skip
        other.whitening, other.model, other.learned = self.whitening, self.model, self.learned
        return other

    def module(self) -> FieldModel:
        """The network, and what was measured beside it."""
        return self._fitted(self.model)

    def config(self) -> dict[str, Any]:
        """Parameters, output, options and transform."""
        return {
            "parameters": self.parameters.to_dict(), "output": self.output.to_dict(),
            "options": self.options.model_dump(mode="json"), "learned": self.learned,
            "whitening": None if self.whitening is None else self.whitening.to_dict(),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Inverse of `config`."""
        emulator = cls(
            ParameterSpace.from_dict(config["parameters"]), FieldSpec.from_dict(config["output"])
        )
        if config["whitening"] is not None:
            white = Whitening.from_dict(config["whitening"], emulator.parameters, emulator.layout)
            emulator._build(parse_options(FieldOptions, config["options"]), white)
            emulator.learned = bool(config["learned"])
        return emulator

    def _build(self, options: FieldOptions, whitening: Whitening) -> None:
        self.options, self.whitening, self.learned = options, whitening, True
        told = [not p or v for p, v in zip(self.layout.periodic, whitening.varies, strict=True)]
        sizes = Sizes(options.widths or (), options.blocks, options.patch or 1)
        network = FieldNetwork(
            whitening.channels, len(self.parameters), self.layout.space, self.layout.periodic,
            told, sizes, derive(options.seed, 20),
        )  # fmt: skip
        self.model = FieldModel(network, whitening.arrays())

    @property
    def _latent_shape(self) -> tuple[int, ...]:
        return (self._fitted(self.whitening).channels, *self.layout.space)

    @property
    def _range(self) -> tuple[float, float]:
        limits = torch.finfo(self.output.torch_dtype)
        return limits.min, limits.max

    def _white(self, x: Tensor, theta: Tensor) -> Tensor:
        return torch.from_numpy(self._fitted(self.whitening).forward(x.numpy(), theta))

    def _sampled(self, theta: Tensor, noise: Tensor) -> Tensor:
        module = self.module()
        device = next(module.parameters()).device
        told = condition(self.parameters, theta).float().to(device)
        half = self.options.precision == "bfloat16" and fast_bfloat16()
        space = range(2, noise.ndim)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, half):
            white = sample(
                self.options.sampler, module.at(told), noise.to(device), self.options.levels(),
                space,
            )  # fmt: skip
        return white.float().cpu()

    @torch.no_grad()
    def _loss_now(self, loss: DenoisingLoss, batches: WhiteBatches) -> float:
        """What `run_training` would find as validation loss of the network as it is."""
        total, count = 0.0, 0
        for i, batch in enumerate(batches.validation()):
            rng = generator(derive(self.options.seed, 4, i))
            total += float(loss(self.module(), batch, rng)) * len(batch[0])
            count += len(batch[0])
        return total / count

    def _some(self, store: SimulationStore) -> tuple[np.ndarray, Tensor]:
        """Simulations that the transform is fitted to, as many as memory allows."""
        cells = int(np.prod(self.output.shape))
        n = max(FEWEST, _FITTED // (8 * cells))
        done = store.done
        rows = done[:: -(-len(done) // n)]
        return np.concatenate([store.read([row]).numpy() for row in rows]), store.theta[rows]
