"""The emulator of sky maps: white noise and theta in, Q and U maps out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from emulators.emulator import Emulator, check_latent, fit_inputs
from emulators.options import parse_options
from emulators.parallel import for_each
from sbitools.disk.files import write_atomic
from sbitools.errors import ConfigError, RunDirError, ShapeError, StoreError
from sbitools.networks.precision import single_precision
from sbitools.parameters import ParameterSpace
from sbitools.seeds import normal
from sbitools.simulator import FieldSpec
from sbitools.statistics.sphere_maps import nside_of
from sbitools.training import TrainingHistory
from sbitools.training.run_state import RunState, claimed

from .instrument.geometry import RingGeometry
from .model.fitting import Sample, fit_model
from .model.map_model import MapModel
from .options import EmulatorOptions
from .simulator import TodSimulator

if TYPE_CHECKING:
    from sbitools.store import SimulationStore


__all__ = ["ScatteringEmulator"]

_ANGLE = "scan_angle"
_FEWEST = 3


class ScatteringEmulator(Emulator):
    """Maps with the statistics of a few simulated ones.

    A map of the scan's rings (`model.rings`) is moved, by gradient descent, to where its
    scattering covariances and spectra are on target (`model.targets`), or corrected by a network
    in one pass (`network`). Each map is optimised alone: it does not depend on the batch.

    Args:
        parameters: of the simulator it stands for; one may be ``"scan_angle"``, in degrees.
        output: of that simulator: Q and U maps, ``("map", "pixel_nested")``.
        geometry: of the scan that the maps were binned from.
        scan_angle: in degrees if it does not vary; None is that of the strategy.

    Raises:
        ShapeError: if the output is not a pair of nested HEALPix maps.
    """

    kind = "emulator.scattering"

    def __init__(
        self, parameters: ParameterSpace, output: FieldSpec, geometry: RingGeometry,
        scan_angle: float | None = None,
    ) -> None:  # fmt: skip
        self.parameters, self.output, self.geometry = parameters, output, geometry
        self.nside = _check_output(output)
        self.scan_angle = None if scan_angle is None else float(scan_angle)
        self.options = parse_options(EmulatorOptions, None)
        self.model: MapModel | None = None

    @classmethod
    def of(cls, simulator: TodSimulator) -> Self:
        """An emulator, not fitted, that is to stand for `simulator`.

        Raises:
            ConfigError: for what is no `TodSimulator`.
        """
        if not isinstance(simulator, TodSimulator):
            raise ConfigError(
                "ScatteringEmulator.of", expected="a TodSimulator", got=repr(simulator),
                fix="pass one, or open a fitted emulator with ScatteringEmulator.load(path)",
            )  # fmt: skip
        geometry = RingGeometry(simulator.scan, simulator.detectors, simulator.gain_period)
        angle = simulator.fixed[_ANGLE]
        return cls(simulator.parameters, simulator.output, geometry, angle)

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
        """Learn from maps: see `Emulator.fit` and `EmulatorOptions`.

        A fit takes about a minute; one that was interrupted starts again from the beginning.

        Raises:
            StoreError: if the store holds other maps, or fewer than 3.
            TrainingError: if the maps cannot be fitted.
            RunDirError: if `run_dir` holds another run.
        """
        options, begun = parse_options(EmulatorOptions, config), time.monotonic()
        run_dir = fit_inputs(store, run_dir)
        _check_store(store, self.parameters, self.output)
        state = RunState(run_dir, {})
        model = self._new_model(options)
        history = TrainingHistory(stopped="all steps done")

        def report(misfit: float) -> None:
            row = {
                "epoch": float(len(history.epochs)), "train_loss": misfit,
                "validation_loss": float("inf"), "seconds": time.monotonic() - begun,
            }  # fmt: skip
            history.epochs.append(row)
            state.append_metrics({k: v for k, v in row.items() if v < np.inf})
            if on_epoch is not None:
                on_epoch(row)

        with claimed(state.run_dir):
            _begin(state, options, store, resume)
            fit_model(model, self._samples(store), options.seed, report, options.generator_steps)
        self.options, self.model = options, model
        history.best_epoch, history.seconds = len(history.epochs) - 1, time.monotonic() - begun
        return history

    def latent(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """White noise (B, n): that of ring amplitudes, of ring offsets and of pixels."""
        return normal(seeds, (self.module().n_latent,))

    def decode(self, theta: Tensor, latent: Tensor) -> Tensor:
        """Q and U maps (B, 2, 12 nside^2) in the unit of the simulations."""
        latent = check_latent(latent, (len(theta), self.module().n_latent))
        if self.options.maps == "generated":
            return self._generated(theta, latent)
        out = torch.empty((len(theta), *self.output.shape), dtype=torch.float32)

        def one(i: int) -> None:
            out[i] = self._decode(theta[i], latent[i])

        for_each(one, len(theta))
        return out

    def making(self, maps: Literal["optimised", "generated"]) -> Self:
        """The same emulator, that makes its maps in the other way: see `EmulatorOptions.maps`."""
        other = copy(self)
        other.options = self.options.model_copy(update={"maps": maps})
        return other

    def start_maps(self, theta: Tensor, seeds: Tensor) -> Tensor:
        """The Gaussian maps that `simulate` starts from, with the mean: no scattering in them."""
        theta = self.parameters.check(theta)
        drawn = [self._start(*row) for row in zip(theta, self.latent(theta, seeds), strict=True)]
        return torch.stack([start + offset for start, _, offset in drawn]).float()

    def module(self) -> MapModel:
        """What was fitted."""
        return self._fitted(self.model)

    def config(self) -> dict[str, Any]:
        """Parameters, output, scan and options."""
        return {
            "parameters": self.parameters.to_dict(), "output": self.output.to_dict(),
            "geometry": self.geometry.to_dict(), "scan_angle": self.scan_angle,
            "options": self.options.model_dump(),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Inverse of `config`."""
        emulator = cls(
            ParameterSpace.from_dict(config["parameters"]), FieldSpec.from_dict(config["output"]),
            RingGeometry.from_dict(config["geometry"]), config["scan_angle"],
        )  # fmt: skip
        emulator.options = parse_options(EmulatorOptions, config["options"])
        emulator.model = emulator._new_model(emulator.options)
        return emulator

    def _new_model(self, options: EmulatorOptions) -> MapModel:
        return MapModel(
            self.geometry, self.nside, options.lmax, len(self.parameters), options.levels
        )

    def _decode(self, theta: Tensor, latent: Tensor) -> Tensor:
        """One map: alone, so that rounding does not depend on the batch either."""
        start, scale, offset = self._start(theta, latent)
        unit = scale.square().mean().sqrt()
        y = self.module().emulate(
            (start / scale).float(), (scale / unit).float(), (offset / unit).float(),
            self._places(theta[None])[0], self.options.steps, self.options.closeness,
        )  # fmt: skip
        return (y.double() * scale + offset).float()

    def _generated(self, theta: Tensor, latent: Tensor) -> Tensor:
        """Maps of the network, all at once."""
        starts = [self._start(*row) for row in zip(theta, latent, strict=True)]
        if not starts:
            return torch.empty((0, *self.output.shape), dtype=torch.float32)
        start, scale, offset = (torch.stack(parts) for parts in zip(*starts, strict=True))
        unit = scale.square().mean((1, 2), keepdim=True).sqrt()
        with torch.no_grad():
            y = self.module().generator(
                (start / scale).float(), (scale / unit).float(),
                torch.from_numpy(self._places(theta)).float(),
            )  # fmt: skip
        return (y.double() * scale + offset).float()

    def _start(self, theta: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gaussian map, standard deviation and mean of every pixel, (2, pixels)."""
        model, angle = self.module(), self._angle(theta)
        place = self._places(theta[None])[0]
        start = model.start(latent[None].numpy(), place, angle)[0]
        offset = np.where(model.seen(angle), model.offset(place, angle), 0)
        parts = (start, model.scale(place, angle), offset)
        return tuple(torch.from_numpy(p) for p in parts)  # pyright: ignore[reportReturnType]

    def _samples(self, store: SimulationStore) -> list[Sample]:
        """Simulations by theta."""
        done = store.done
        theta, maps = store.theta[done], store.read(done).double().numpy()
        _, inverse = np.unique(theta.numpy(), axis=0, return_inverse=True)
        inverse, places, out = inverse.reshape(-1), self._places(theta), []
        for i in range(int(inverse.max()) + 1):
            rows = np.flatnonzero(inverse == i)
            out.append(Sample(places[rows[0]], self._angle(theta[rows[0]]), maps[rows]))
        return out

    def _angle(self, theta: Tensor) -> float | None:
        names = self.parameters.names
        return float(theta[names.index(_ANGLE)]) if _ANGLE in names else self.scan_angle

    def _places(self, theta: Tensor) -> np.ndarray:
        """Theta in [-1, 1]: linear in it, or in its logarithm, where the prior is uniform so."""
        u = self.parameters.to_unconstrained(theta).double()
        return torch.special.erf(u / np.sqrt(2)).numpy()


def _check_output(output: FieldSpec) -> int:
    if output.dims != ("map", "pixel_nested") or output.shape[0] != 2:
        raise ShapeError(
            f"output {output.name!r} of the scattering emulator",
            expected="dims ('map', 'pixel_nested') of shape (2, 12 Nside^2): Q and U, nested",
            got=f"dims {output.dims} of shape {output.shape}",
            fix="reorder RING maps with healpy.reorder(..., r2n=True), and leave T out",
        )  # fmt: skip
    if output.dtype != "float32":
        raise ShapeError(
            f"output {output.name!r} of the scattering emulator", expected="dtype float32",
            got=output.dtype, fix="convert the maps",
        )  # fmt: skip
    return nside_of(output.shape[1])


def _check_store(store: SimulationStore, parameters: ParameterSpace, output: FieldSpec) -> None:
    if store.output != output or store.parameters.digest() != parameters.digest():
        raise StoreError(
            f"store {store.path}",
            expected=f"{output.name} {output.shape} in {output.unit or 'no unit'}, dims "
            f"{output.dims}, parameters {parameters.names} with the emulator's priors",
            got=f"{store.output.name} {store.output.shape} in {store.output.unit or 'no unit'}, "
            f"dims {store.output.dims}, parameters {store.parameters.names}",
            fix="make the emulator for the simulator that made the store",
        )  # fmt: skip
    if len(store.done) < _FEWEST:
        raise StoreError(
            f"store {store.path}", expected=f"at least {_FEWEST} finished simulations",
            got=str(len(store.done)), fix="simulate more; 10 are a start",
        )  # fmt: skip


def _begin(
    state: RunState, options: EmulatorOptions, store: SimulationStore, resume: bool
) -> None:  # fmt: skip
    """Make `run_dir` the folder of this fit.

    Raises:
        RunDirError: if there is a fit, and it is another one or not to be resumed.
    """
    run_dir = state.run_dir
    told = {"options": options.model_dump(), "theta": store.theta[store.done].tolist()}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    mark = run_dir / "fit.sha256"
    if resume and mark.exists() and mark.read_text().strip() != digest:
        raise RunDirError(
            f"run_dir {run_dir}", expected="a fit with these options to these simulations",
            got="another one", fix="resume with the same options, or use another run_dir",
        )  # fmt: skip
    if not resume and mark.exists():
        raise RunDirError(
            f"run_dir {run_dir}", expected="a folder without an earlier fit", got="one",
            fix="leave resume=True to fit again with the same options, or use another run_dir",
        )  # fmt: skip
    state.truncate_metrics(0)
    write_atomic(mark, f"{digest}\n".encode())
