"""The emulator of any field on a grid: white noise and theta in, fields out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from emulators.emulator import Emulator, check_latent, fit_inputs
from emulators.options import fast_bfloat16, parse_options
from sbitools.errors import ConfigError, StoreError
from sbitools.networks.precision import single_precision
from sbitools.parameters import ParameterSpace, as_space
from sbitools.seeds import derive, normal, simulation_seeds
from sbitools.simulator import FieldSpec, as_spec
from sbitools.training import TrainingHistory, run_training

from .batches import WhiteBatches
from .correction import MOST, correct, correct_learned, few_of, powers
from .drawing import draw, follows, most_kept, varies
from .field_network import FieldModel, FieldNetwork
from .field_options import FieldOptions
from .layout import Layout
from .loss import DenoisingLoss, loss_now
from .options import STEPS_PER_EPOCH
from .samplers import SAMPLERS, sample
from .simulations import Simulations
from .sizes import Sizes
from .source import Source, features
from .suits import FEWEST, refused
from .terms import choose, condition
from .whitening import Whitening

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

__all__ = ["DiffusionEmulator"]

# Cells of fields that are denoised at the same time.
_CELLS = {"cpu": 1 << 17, "cuda": 1 << 23}
_MISSED = 0.15  # of ln P, from which on cells are better not made normal
_ROUNDS = 3
_CODE = 2
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
        source: a field that they follow from, on their grid or on one with a whole fraction of
            its cells along any axis: an initial condition, a coarse run, a mask. See `decode`.

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
        self.source = None if source is None else as_spec(source, "source")
        self.kept: int = 0  # sources of simulations, for `draw_source`
        self.follows = False  # whether these depend on theta
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
        resume: bool = True,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> TrainingHistory:
        """Learn from fields: see `Emulator.fit` and `FieldOptions`.

        Raises:
            StoreError: if the store holds other fields or sources, or fewer than 16.
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
        if self.source is not None and store.source != self.source:
            raise StoreError(
                f"source of the store {store.path}", expected=repr(self.source),
                got=repr(store.source), fix="fit to a store that keeps these sources beside x",
            )  # fmt: skip
        options = options.sized(self.layout, len(store.done))
        some = Simulations.read(store, self.layout, self._source_layout)
        stated = options.symmetries
        white = self._whiten(some, stated or (), options)
        if stated is None:  # what the transform found is what the network is built for
            given = self._source_layout
            uneven = given is not None and varies(some.source, given)
            stated = () if any(white.varies) or uneven else ("shift",)
        self._build(options.model_copy(update={"symmetries": stated}), white)
        if not options.network:
            self.learned = False
            self._finish(some)
            return TrainingHistory(stopped="no network")
        batches = WhiteBatches(
            store, lambda row: self._white(store, row),
            condition(self.parameters, store.theta).float(), self.layout, stated,
            batch_size=options.batch_size, steps=min(options.steps or 1, STEPS_PER_EPOCH),
            validation_fraction=options.validation_fraction, seed=options.seed,
            source=white.source,
        )  # fmt: skip
        loss = DenoisingLoss(options)
        before = loss_now(loss, self.module(), batches.validation(), options.seed)
        history = run_training(
            self.module(), loss, batches.train, batches.validation, options, run_dir,
            steps_per_epoch=batches.steps, resume=resume, on_epoch=on_epoch,
            identity={"store": store.digest(), "white": _CODE}, optimizer_threads=options.pieces,
        )  # fmt: skip
        self.learned = history.best_validation_loss < (1 - _GAIN) * before
        self._finish(some)
        return history

    def _whiten(
        self, some: Simulations, symmetries: Sequence[str], options: FieldOptions
    ) -> Whitening:
        """With cells made normal if Gaussian fields can then have the power of simulations."""
        found, ways, given = [], [False, True], self._source_layout
        maps = Source.candidates(some.source, given, self.layout.space) if given else []

        @cache
        def fit(linear: bool) -> Whitening:
            return Whitening.fit(
                some.x, some.theta, self.parameters, self.layout, symmetries, linear, maps
            )  # fmt: skip

        def scores(linear: bool) -> np.ndarray:
            white = fit(linear)
            return white.scores(some.x, some.theta, features(white.source, some.source))

        if given:  # what is normal is x for its source, not x: cells may hide it
            ways = [True] if choose(ways, scores) else ways
        for linear in ways:
            white = fit(linear)
            self.options, self.whitening, self.learned = options, white, False
            found.append((self._correct(some), white))
            white.gain[...], white.edges[...] = 0, 0
            if found[0][0] <= _MISSED * max(1.0, 128 / len(some)):
                break
        return found[-1][1] if found[-1][0] < 0.5 * found[0][0] else found[0][1]

    def _finish(self, some: Simulations) -> None:
        """Set the power of emulated fields right."""
        if some.source is not None:
            self._keep_sources(some)
        self.module().requires_grad_(False)  # a fitted emulator is a function of its arguments
        learned, self.learned = self.learned, False
        self._correct(some)
        self.learned = learned
        if not learned:
            return
        every, few = (some[:: -(-len(some) // n)] for n in (MOST, few_of(self.options)))
        self._set_edges(few)
        correct_learned(self._fitted(self.whitening), every, few, self._made_by)

    def _made_by(self, some: Simulations, salt: int, learned: bool) -> np.ndarray:
        before, self.learned = self.learned, learned
        try:
            return self._made(some, salt)
        finally:
            self.learned = before

    def _correct(self, some: Simulations) -> float:
        """The same without a network; what is missed."""
        some = some[:: -(-len(some) // MOST)]
        salts, white = iter(range(1, 1 << 30)), self._fitted(self.whitening)
        self._set_edges(some)
        target = powers(white, some.theta, some.x)
        return correct(white, some.theta, target, lambda: self._made(some, next(salts)), _ROUNDS)

    def _set_edges(self, some: Simulations) -> None:
        white, theta = self._fitted(self.whitening), some.theta
        if not any(m.zeros for m in white.marginals):
            return
        seeds = simulation_seeds(derive(self.options.seed, 22), range(len(some)))
        noise = self.latent(theta, torch.from_numpy(seeds))
        told = features(white.source, some.source)
        if self.learned:
            rows = [slice(i, i + 1) for i in range(len(noise))]  # memory is that of one
            each = [None if told is None else told[r] for r in rows]
            noise = torch.cat([
                self._sampled(theta[r], noise[r], t) for r, t in zip(rows, each, strict=True)
            ])  # fmt: skip
        folded = self.layout.fold(some.x)
        shares = [float((folded[:, c] == 0).mean()) for c in range(folded.shape[1])]
        white.set_edges(noise.numpy(), theta, shares, told)

    def _made(self, some: Simulations, salt: int) -> np.ndarray:
        seeds = simulation_seeds(derive(self.options.seed, 21, salt), range(len(some)))
        latent = self.latent(some.theta, torch.from_numpy(seeds))
        return self._decoded(some.theta, latent, some.source).numpy()

    def _keep_sources(self, some: Simulations) -> None:
        source, given = some.source, self._source_layout
        if source is not None and given is not None:
            kept = most_kept(given.output.nbytes)
            self.kept = min(len(source), kept)
            self.follows = follows(source, some.theta, self.parameters, given)
            self.module().register_buffer("sources", torch.from_numpy(source[:kept].copy()))

    @property
    def _source_layout(self) -> Layout | None:
        return None if self.source is None else Layout(self.source)

    def latent(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """White noise, float32, (B, K, *space)."""
        return normal(seeds, self._latent_shape)

    def decode(
        self, theta: Tensor, latent: Tensor, source: Tensor | np.ndarray | None = None
    ) -> Tensor:  # fmt: skip
        """Fields (B, *shape).

        Args:
            theta: (B, P).
            latent: white noise (B, K, *space).
            source: (B, *source.shape), for an emulator of fields that follow from one.

        Raises:
            ShapeError: for a latent or a source of another shape, or a source that is missing.
        """
        given = None if source is None and self.source is None else (
            self._source_fields(source, len(theta)).numpy()
        )  # fmt: skip
        return self._decoded(theta, latent, given)

    def _decoded(self, theta: Tensor, latent: Tensor, source: np.ndarray | None) -> Tensor:
        latent = check_latent(latent, (len(theta), *self._latent_shape)).detach()
        theta, whitening = torch.as_tensor(theta).detach().cpu(), self._fitted(self.whitening)
        size = max(1, _CELLS["cpu"] // max(1, int(np.prod(self.layout.space))))
        out = torch.empty((len(theta), *self.output.shape), dtype=self.output.torch_dtype)
        for first in range(0, len(theta), size):
            part = slice(first, first + size)
            told = features(whitening.source, None if source is None else source[part])
            white = latent[part]
            white = self._sampled(theta[part], white, told) if self.learned else white
            fields = whitening.inverse(white.numpy(), theta[part], told)
            out[part] = torch.from_numpy(np.clip(fields, *self._range)).to(out.dtype)
        return out

    def draw_source(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """Sources of simulations, drawn by `seeds`, (B, *source.shape).

        Along periodic axes on which no place differs from another they are moved around.

        Raises:
            ConfigError: if those of the simulations depended on theta.
        """
        given = self._source_layout
        if given is None or self.follows:
            raise ConfigError(
                "source of emulated fields", expected="source fields for theta",
                got="an emulator without a source" if given is None else
                "none, and those of the simulations depend on theta",
                fix="pass them, simulate(theta, seeds, source); or, for a posterior from x alone, "
                "leave the source out of the configuration: x is then emulated as a whole",
            )  # fmt: skip
        kept = self.module().get_buffer("sources").cpu()
        around = zip(given.output.space, given.periodic, self.layout.periodic, strict=True)
        moved = "shift" in (self.options.symmetries or ())
        return draw(kept, seeds, [a for a, p, q in around if p and q and moved])

    def sampling(self, **changes: Any) -> Self:
        """The same emulator with another sampler: `sampler`, `sampler_steps`.

        Raises:
            ConfigError: for one that is not known.
        """
        other = type(self)(self.parameters, self.output, self.source)
        other.options = parse_options(FieldOptions, self.options.model_dump() | changes)
        if other.options.sampler not in SAMPLERS:
            raise ConfigError(
                "emulator option sampler", expected=f"one of {SAMPLERS}",
                got=repr(other.options.sampler), fix="name one of these",
            )  # fmt: skip
        other.whitening, other.model, other.learned = self.whitening, self.model, self.learned
        other.kept, other.follows = self.kept, self.follows
        return other

    def module(self) -> FieldModel:
        """The network, and what was measured beside it."""
        return self._fitted(self.model)

    def config(self) -> dict[str, Any]:
        """Parameters, output, source, options and transform."""
        given = {} if self.source is None else {
            "source": self.source.to_dict(), "kept": self.kept, "follows": self.follows,
        }  # fmt: skip
        return given | {
            "parameters": self.parameters.to_dict(), "output": self.output.to_dict(),
            "options": self.options.model_dump(mode="json"), "learned": self.learned,
            "whitening": None if self.whitening is None else self.whitening.to_dict(),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Inverse of `config`."""
        given = config.get("source")
        emulator = cls(
            ParameterSpace.from_dict(config["parameters"]), FieldSpec.from_dict(config["output"]),
            None if given is None else FieldSpec.from_dict(given),
        )  # fmt: skip
        if config["whitening"] is not None:
            white = Whitening.from_dict(
                config["whitening"], emulator.parameters, emulator.layout, emulator._source_layout
            )
            emulator._build(parse_options(FieldOptions, config["options"]), white)
            emulator.learned = bool(config["learned"])
            if (source := emulator.source) is not None:
                emulator.kept, emulator.follows = int(config["kept"]), bool(config["follows"])
                empty = torch.zeros((emulator.kept, *source.shape), dtype=source.torch_dtype)
                emulator.module().register_buffer("sources", empty)
        return emulator

    def _build(self, options: FieldOptions, whitening: Whitening) -> None:
        self.options, self.whitening, self.learned = options, whitening, True
        told = [not p or v for p, v in zip(self.layout.periodic, whitening.varies, strict=True)]
        sizes = Sizes(options.widths or (), options.blocks, options.patch or 1)
        network = FieldNetwork(
            whitening.channels, len(self.parameters), self.layout.space, self.layout.periodic,
            told, sizes, derive(options.seed, 20),
            0 if whitening.source is None else whitening.source.channels,
        )  # fmt: skip
        self.model = FieldModel(network, whitening.arrays())

    @property
    def _latent_shape(self) -> tuple[int, ...]:
        return (self._fitted(self.whitening).channels, *self.layout.space)

    @property
    def _range(self) -> tuple[float, float]:
        limits = torch.finfo(self.output.torch_dtype)
        return limits.min, limits.max

    def _white(self, store: SimulationStore, row: int) -> Tensor:
        """The white field of one simulation, and what it follows from, (K + F, *space)."""
        source = None if self.source is None else store.read([row], what="source").numpy()
        white = self._fitted(self.whitening)
        told = features(white.source, source)
        field = white.forward(store.read([row]).numpy(), store.theta[[row]], told)[0]
        every = field if told is None else np.concatenate([field, told[0].astype(np.float32)])
        return torch.from_numpy(every)

    def _sampled(self, theta: Tensor, noise: Tensor, source: np.ndarray | None) -> Tensor:
        module = self.module()
        device = next(module.parameters()).device
        told = condition(self.parameters, theta).float().to(device)
        beside = None if source is None else torch.from_numpy(source).float().to(device)
        half = self.options.precision == "bfloat16" and fast_bfloat16()
        space = range(2, noise.ndim)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, half):
            white = sample(
                self.options.sampler, module.at(told, beside), noise.to(device),
                self.options.levels(), space,
            )  # fmt: skip
        return white.float().cpu()
