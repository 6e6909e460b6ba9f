"""The emulator of short data vectors: white noise and theta in, vectors out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from emulators.emulator import Emulator, check_latent, fit_inputs
from emulators.options import parse_options
from sbitools.densities.fit import DensityFit, Pairs
from sbitools.densities.lattice import Lattice
from sbitools.densities.vector import VectorDensity
from sbitools.embeddings.moments import measure
from sbitools.errors import ConfigError
from sbitools.networks.precision import single_precision
from sbitools.parameters import ParameterSpace, as_space
from sbitools.seeds import derive, generator, normal
from sbitools.simulator import FieldSpec, as_spec
from sbitools.training import TrainingHistory
from sbitools.training.loader import split

from .coordinates import Coordinates, possible_coordinates
from .fitting import SPREAD_DEGREE, Places, fit_response
from .modes import Modes
from .network import VectorModel
from .options import VectorOptions
from .response import Polynomial, Response
from .suits import FEWEST, refused

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

__all__ = ["VectorEmulator"]

_MOST_ROWS = 200_000  # simulations that are learned from
_ROWS = 4096  # vectors that are made at a time,
_COVARIANCES = 1 << 22  # and of these with the points of one process
_SPREAD, _ORDER = 31, 32  # keys of seeds
_CODE = 2
"""To be raised whenever the same simulations give other numbers to the networks."""


class VectorEmulator(Emulator):
    """Stands for any simulator of up to 128 real numbers, whatever their axes.

    A closed form (`response`) makes vectors white, and the densities of `sbitools.densities` are
    fitted to what it leaves; held-out simulations say whether they are worth it.

    Args:
        parameters: of the simulator; none is legal.
        output: what one vector is.
        source: must be None.

    Raises:
        ConfigError: for what it cannot emulate; the message says what to use instead.
    """

    kind = "emulator.vector"

    def __init__(
        self, parameters: ParameterSpace, output: FieldSpec, source: FieldSpec | None = None
    ) -> None:
        self.parameters, self.output = as_space(parameters), as_spec(output)
        why = refused(self.output, source)
        if why:
            raise ConfigError(
                f"output {self.output.name!r} of the vector emulator", expected=why[0],
                got=why[1], fix=why[2],
            )  # fmt: skip
        self.options = parse_options(VectorOptions, None)
        self.coordinates: Coordinates | None = None
        self.model: VectorModel | None = None

    @single_precision()
    def fit(
        self,
        store: SimulationStore,
        config: VectorOptions | Mapping[str, Any] | None = None,
        *,
        run_dir: str | Path,
        resume: bool = True,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> TrainingHistory:
        """Learn from data vectors: see `Emulator.fit` and `VectorOptions`.

        Raises:
            StoreError: if the store holds other vectors, or fewer than 32.
            TrainingError: if no entry varies, if training diverges, or `run_dir` holds another
                run.
        """
        run_dir = fit_inputs(store, run_dir)
        options = parse_options(VectorOptions, config)
        self._require_store(store, FEWEST)
        rows = store.done[:_MOST_ROWS]
        x, theta = store.read(rows).reshape(len(rows), -1), store.theta[rows]
        moments = measure([x], FieldSpec(self.output.name, ("i",), x.shape[1:],
                                         self.output.dtype, self.output.unit))  # fmt: skip
        varying = (moments.std > 0).nonzero()[:, 0]
        y, mean, std = x[:, varying].double(), moments.mean[varying], moments.std[varying]
        unit, origin = self._counts(y, mean, std)
        noise = torch.rand(y.shape, generator=generator(derive(options.seed, _SPREAD))) - 0.5
        numbers = [(c, c(self.parameters, theta))
                   for c in possible_coordinates(self.parameters, theta, len(rows))]  # fmt: skip
        group = torch.from_numpy(np.asarray(store.groups[rows]).astype(np.int64))
        places = Places(varying, self.output.shape[-1] if self.output.shape else 1)
        coordinates, response = fit_response(y + unit * noise, numbers, group, places)
        model = self._built(options, coordinates, response, len(varying))
        model.constant.copy_(x[0])
        model.varying.copy_(varying)
        model.unit.copy_(unit)
        model.origin.copy_(origin)
        response.entries.bound(y)
        c = coordinates(self.parameters, theta)
        v = response(y + unit * noise, c)
        history = TrainingHistory(stopped="closed form")
        if options.learns(len(rows), len(varying)):
            history = self._learn(
                model.density, c.float(), v.float(), store, rows, options, run_dir, resume,
                on_epoch,
            )  # fmt: skip
        self.options, self.coordinates = options, coordinates
        self.model = model.eval().requires_grad_(False)
        return history

    def latent(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """White noise, float32, (B, n_latents)."""
        return normal(seeds, (self.module().n_latents,))

    def decode(self, theta: Tensor, latent: Tensor) -> Tensor:
        """Data vectors (B, *shape).

        Args:
            theta: (B, P).
            latent: white noise (B, n_latents).

        Raises:
            ShapeError: for a latent of another shape.
        """
        model, coordinates = self.module(), self._fitted(self.coordinates)
        latent = check_latent(latent, (len(theta), model.n_latents)).detach()
        device = model.constant.device
        c = coordinates(self.parameters, theta)
        mean = model.response.mean
        each = mean.sizes[0] if isinstance(mean, Modes) else 0
        size = max(1, min(_ROWS, _COVARIANCES // max(1, each)))
        with torch.no_grad():
            x = torch.cat([
                model(z.to(device), some.to(device))
                for z, some in zip(latent.split(size), c.split(size), strict=True)
            ])  # fmt: skip
        return x.cpu().view(len(x), *self.output.shape)

    def module(self) -> VectorModel:
        """The closed form, and the networks beside it."""
        return self._fitted(self.model)

    def config(self) -> dict[str, Any]:
        """Parameters, output, options and what theta becomes."""
        sizes = None
        if self.model is not None:
            mean = self.model.response.mean
            sizes = [len(self.model.varying), *(mean.sizes if isinstance(mean, Modes) else [])]
        return {
            "parameters": self.parameters.to_dict(), "output": self.output.to_dict(),
            "options": self.options.model_dump(mode="json"), "sizes": sizes,
            "coordinates": None if self.coordinates is None else self.coordinates.to_dict(),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Inverse of `config`."""
        emulator = cls(
            ParameterSpace.from_dict(config["parameters"]), FieldSpec.from_dict(config["output"])
        )
        if config["coordinates"] is not None:
            emulator.options = parse_options(VectorOptions, config["options"])
            emulator.coordinates = Coordinates.from_dict(config["coordinates"])
            n, points, modes = config["sizes"]
            coordinates = emulator.coordinates
            response = Response(
                n, Modes(n, points, coordinates.n, modes),
                Polynomial(coordinates, SPREAD_DEGREE, n),
            )  # fmt: skip
            emulator.model = emulator._built(emulator.options, coordinates, response, n)
        return emulator

    def _built(
        self, options: VectorOptions, coordinates: Coordinates, response: Response, n: int
    ) -> VectorModel:  # fmt: skip
        density = VectorDensity(
            coordinates.n, n, n_used=0, hidden=options.hidden, members=options.members,
            components=options.components, seed=options.seed,
        )  # fmt: skip
        # Until networks are better, what is left is standard normal.
        density.mixture.weights.copy_(torch.tensor([1.0, 0.0, 0.0]))
        size = math.prod(self.output.shape)
        return VectorModel(size, n, self.output.torch_dtype, response, density)

    def _counts(self, x: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Units and origins (n,) of entries x (N, n) that are counts; a unit of 0 is none."""
        kind = self.output.torch_dtype
        eps = torch.finfo(kind if kind.is_floating_point else torch.float64).eps
        standard, rounding = (x - mean) / std, mean.abs() * eps
        # Each entry by itself: neighbours of half its unit do not make it half a count.
        each = [Lattice(standard[:, [i]], std[[i]], rounding[[i]]) for i in range(x.shape[1])]
        unit, origin = torch.cat([e.unit for e in each]), torch.cat([e.origin for e in each])
        return unit * std, origin * std + mean

    def _learn(
        self, density: VectorDensity, c: Tensor, v: Tensor, store: SimulationStore,
        rows: np.ndarray, options: VectorOptions, run_dir: Path, resume: bool, on_epoch: Any,
    ) -> TrainingHistory:  # fmt: skip
        """Train the networks, and set the shares of the densities."""
        training, held_out = split(store, options.validation_fraction, options.seed, rows)
        learn, score = (torch.from_numpy(np.searchsorted(rows, r)) for r in (training, held_out))
        size = min(options.batch_size, len(learn))

        def batches(epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
            rng = generator(derive(options.seed, _ORDER, epoch))
            for some in learn[torch.randperm(len(learn), generator=rng)].split(size)[start:]:
                yield c[some], v[some]

        steps = -(-len(learn) // size)
        pairs = Pairs(
            c[learn], v[learn], (c[score], v[score]), batches, steps, size, len(learn)
        )  # fmt: skip
        known = options.model_dump(mode="json", exclude={"threads", "checkpoint_seconds"})
        identity = {f"option {k}": val for k, val in known.items()} | {
            "store": store.digest(), "response": _CODE,
        }  # fmt: skip
        fit = DensityFit(
            pairs, options.sized(len(learn)), run_dir, resume, on_epoch, lambda: identity
        )  # fmt: skip
        fit.stacks(density, lambda c, v, rng: (v, c))
        fit.shares(density, v[score], c[score])
        return fit.histories["emulator-affine"]
