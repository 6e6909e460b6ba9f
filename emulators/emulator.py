"""What an emulator is: a simulator that was trained on another simulator's output."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ShapeError, StoreError, TrainingError
from sbitools.gate.arrays import as_native
from sbitools.gate.plain import as_path
from sbitools.networks.devices import find_device
from sbitools.networks.precision import single_precision
from sbitools.parameters import ParameterSpace
from sbitools.seeds import check_seeds
from sbitools.simulator import FieldSpec

if TYPE_CHECKING:
    from sbitools.store import SimulationStore
    from sbitools.training import TrainingHistory

__all__ = ["Emulator", "check_latent", "fit_inputs"]

_Part = TypeVar("_Part")


def fit_inputs(store: Any, run_dir: Any) -> Path:
    """The folder of a fit, once it and the store can be what they are taken for.

    Raises:
        StoreError: for what is no store.
        ConfigError: for what is no path.
        TrainingError: for a path that is a file.
    """
    if not (hasattr(store, "output") and hasattr(store, "done")):
        raise StoreError(
            "store", expected="a SimulationStore", got=f"{type(store).__name__}",
            fix="open it first: fit(SimulationStore.open(path), ...)",
        )  # fmt: skip
    path = as_path(run_dir, "run_dir")
    if path.exists() and not path.is_dir():
        raise TrainingError(
            f"run_dir {path}", expected="a folder, or a path where one can be made",
            got="a file", fix="pass another path",
        )  # fmt: skip
    return path


def check_latent(latent: Any, *shapes: tuple[int, ...]) -> Tensor:
    """A latent as float32, of one of `shapes`; differentiable.

    Raises:
        ShapeError: for another shape, or what is no array of real numbers.
    """
    values = latent if isinstance(latent, Tensor) else np.asarray(latent)
    real = (
        values.dtype.is_floating_point if isinstance(values, Tensor) else values.dtype.kind == "f"
    )
    if tuple(values.shape) not in shapes or not real:
        raise ShapeError(
            "latent", expected=f"white noise of shape {shapes[0]}",
            got=f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}",
            fix="make it with latent(theta, seeds)",
        )  # fmt: skip
    return torch.as_tensor(values).float()


class Emulator(ABC):
    """simulate(theta, seeds) = decode(theta, latent(theta, seeds)).

    A subclass gives `latent` all the randomness, one generator per seed, and keeps `decode`
    deterministic. `emulators.testing.check_emulator` tests what is promised here.

    Attributes:
        parameters: those of the simulator it stands for.
        output: that of the simulator it stands for, so that their stores are interchangeable.
        source: an input field besides theta that `latent` does not make, or None. With one,
            `decode` takes source fields as third argument, and `simulate` returns (x, source).
        group_size: simulations that belong together.
        kind: name of its checkpoints.
        differentiable: what `decode` can be differentiated in.
    """

    parameters: ParameterSpace
    output: FieldSpec
    source: FieldSpec | None = None
    group_size: int = 1
    kind: ClassVar[str]
    differentiable: ClassVar[frozenset[Literal["theta", "latent"]]] = frozenset()

    @abstractmethod
    def fit(
        self,
        store: SimulationStore,
        config: Any = None,
        *,
        run_dir: str | Path,
        resume: bool = True,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> TrainingHistory:
        """Learn from a store of reference simulations.

        Args:
            store: made by the simulator that the emulator's card names.
            config: how to train; None is the default of the emulator.
            run_dir: for metrics and the resumable state.
            resume: take up an interrupted fit, to the result of the uninterrupted one; False to
                refuse it.
            on_epoch: called with each new row of the training history, for progress.

        Raises:
            StoreError: if the store was made by another simulator.
            TrainingError: if training diverges, or `run_dir` holds another run.
        """

    @abstractmethod
    def latent(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """All the randomness of the fields: (B, *latent_shape) for theta (B, P), seeds (B,)."""

    @abstractmethod
    def decode(self, theta: Tensor, latent: Tensor) -> Tensor:
        """Fields (B, *output.shape), a function of its arguments alone."""

    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """JSON values from which `from_config` rebuilds the emulator, weights aside."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The emulator that `config` describes, not fitted."""

    @abstractmethod
    def module(self) -> torch.nn.Module:
        """The network, whose state is the weights.

        Raises:
            TrainingError: before `fit` or `load`.
        """

    def _require_store(self, store: SimulationStore, fewest: int) -> None:
        """Raise `StoreError` unless `store` has `fewest` simulations of what this stands for."""
        same = store.output == self.output and store.parameters.digest() == (
            self.parameters.digest()
        )
        if not same or len(store.done) < fewest:
            raise StoreError(
                f"store {store.path}",
                expected=f"{fewest} or more simulations of {self.output.name} "
                f"{self.output.shape} in {self.output.unit or 'no unit'}, parameters "
                f"{self.parameters.names} with the same priors",
                got=f"{len(store.done)} of {store.output.name} {store.output.shape} in "
                f"{store.output.unit or 'no unit'}, parameters {store.parameters.names}",
                fix="fit to a store of the simulator that the emulator stands for",
            )  # fmt: skip

    def _fitted(self, part: _Part | None) -> _Part:
        """What `fit` or `load` makes.

        Raises:
            TrainingError: before either of them.
        """
        if part is None:
            name = type(self).__name__
            raise TrainingError(
                name, expected="a fitted emulator", got="one without weights",
                fix=f"call fit, or {name}.load(path)",
            )  # fmt: skip
        return part

    @single_precision()
    def simulate(self, theta: Tensor, seeds: Tensor, source: Any = None) -> Any:
        """Fields (B, *output.shape) for theta (B, P) float64 and seeds (B,) int64.

        An emulator with a source returns (x, source), as a simulator does.

        Args:
            theta: parameters.
            seeds: one for each of them.
            source: fields that x is to follow from, (B, *source.shape), for an emulator that has a
                source; None for those of `draw_source`.

        Raises:
            ParameterError: if theta has the wrong shape or leaves the prior's support.
            ShapeError: if there is not one seed per row of theta, or for another source.
        """
        theta = self.parameters.check(theta)
        seeds = check_seeds(seeds, len(theta))
        if self.source is not None or source is not None:
            return self._follow(theta, seeds, source)
        if not len(theta):
            self.module()  # an emulator that is not fitted says so
            return torch.empty((0, *self.output.shape), dtype=self.output.torch_dtype)
        with single_precision(), torch.no_grad():
            return self.decode(theta, self.latent(theta, seeds))

    def draw_source(self, theta: Tensor, seeds: Tensor) -> Any:
        """Source fields for `simulate`, (B, *source.shape); None: they have to be passed."""
        return None

    def _follow(self, theta: Tensor, seeds: Tensor, source: Any) -> tuple[Tensor, Tensor]:
        if source is None:
            self.module()  # an emulator that is not fitted says so
            source = self.draw_source(theta, seeds)
        given = self._source_fields(source, len(theta))
        if not len(theta):
            return torch.empty((0, *self.output.shape), dtype=self.output.torch_dtype), given
        decode: Any = self.decode  # of an emulator with a source: one argument more
        with single_precision(), torch.no_grad():
            return decode(theta, self.latent(theta, seeds), given), given

    def _source_fields(self, source: Any, n: int) -> Tensor:
        """Sources of `n` fields.

        Raises:
            ShapeError: for other ones, none where they are needed, or some where they are not.
        """
        spec = self.source
        if spec is None or source is None:
            raise ShapeError(
                "source", expected="none" if spec is None else f"({n}, {str(spec.shape)[1:]}",
                got="some" if spec is None else "none",
                fix="leave it out" if spec is None else "pass the fields that x follows from",
            )  # fmt: skip
        values = as_native(source, "source", spec)
        if np.can_cast(values.dtype, spec.dtype, casting="same_kind"):
            values = values.astype(spec.dtype, copy=False)
        spec.check(values, n, "source")
        if not np.isfinite(values).all():
            raise ShapeError(
                "source", expected="finite values", got="NaN or Inf", fix="repair these fields"
            )
        return torch.from_numpy(values)

    @property
    def version(self) -> str:
        """Digest of configuration and weights: to a store, another fit is another simulator."""
        digest = hashlib.sha256(json.dumps(dict(self.config()), sort_keys=True).encode())
        for name, value in sorted(self.module().state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return f"weights {digest.hexdigest()[:16]}"

    @property
    def identity(self) -> str:
        """The version says all: how the weights came about does not matter."""
        return self.version

    def save(self, path: str | Path) -> Path:
        """Write weights and configuration to the folder `path`."""
        from sbitools.checkpoint import save_checkpoint

        return save_checkpoint(path, self.kind, self.config(), self.module().state_dict())

    @classmethod
    @single_precision()
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """The emulator that `save` wrote.

        Raises:
            CheckpointError: if the folder is absent, damaged or of another kind.
            ConfigError: for a device that this machine does not have.
        """
        from sbitools.checkpoint import load_checkpoint, rebuild

        device = find_device(device)
        config, tensors = load_checkpoint(path, cls.kind)

        def build() -> Self:
            emulator = cls.from_config(config)
            emulator.module().load_state_dict(tensors)
            emulator.module().to(device).eval().requires_grad_(False)
            return emulator

        return rebuild(path, cls.kind, build, tensors.values())
