"""The conformance suite: what every emulator promises, as one function to call in a test.

    check_emulator(fitted, store, config, folder=tmp_path)

Each check raises `AssertionError` with what was expected and what came.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from emulators.emulator import Emulator
from sbitools.errors import CheckpointError, ParameterError, SbitoolsError, ShapeError
from sbitools.seeds import derive, normal, simulation_seeds
from sbitools.simulator import FieldSpec, Simulator

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

__all__ = ["check_emulator", "check_resume"]

_N = 4  # fields per check: the fewest that can be split unevenly


def check_emulator(
    emulator: Emulator,
    store: SimulationStore | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    folder: Path | None = None,
    seed: int = 0,
) -> None:
    """Check a fitted emulator against the contract.

    Args:
        emulator: fitted.
        store: what it was fitted to; its parameters must be the emulator's.
        config: of a short fit to `store` that saves its state often (``checkpoint_seconds=0``);
            an interrupted one must resume to the same weights. None leaves that out.
        folder: empty or absent, for checkpoints and runs; a temporary one if None.
        seed: of the parameters and fields that are tried.

    Raises:
        AssertionError: naming the promise that is broken.
    """
    with _folder(folder) as place:
        _check_simulator(emulator, place, seed)
        if store is None:
            return
        same = store.parameters.names == emulator.parameters.names
        _require(same, f"the parameters of the store, {store.parameters.names}")
        if config is not None:
            check_resume(emulator, store, config, place)


def _check_simulator(emulator: Emulator, folder: Path, seed: int) -> None:
    theta = emulator.parameters.design(_N, seed)
    seeds = torch.from_numpy(simulation_seeds(seed, range(_N)))
    with _global_state_untouched():
        x = _fields(emulator, theta, seeds)
        _check_contract(emulator, x)
        if emulator.source is not None:
            _check_source(emulator, theta, seeds, x)
        _check_seeds(emulator, theta, seeds, x)
        _check_batches(emulator, theta, seeds, x)
        _check_effects(emulator, theta, seeds, x)
        _check_checkpoint(emulator, theta, seeds, x, folder)
        _check_bad_input(emulator, theta, seeds)
        if "latent" in emulator.differentiable:
            _check_latent_gradient(emulator, theta[:1], seeds[:1])
        if "theta" in emulator.differentiable and theta.shape[1]:
            _check_theta_gradient(emulator, theta[:1], seeds[:1])


def check_resume(
    emulator: Emulator, store: SimulationStore, config: Mapping[str, Any], folder: Path
) -> None:
    """An interrupted fit, taken up again, gives the emulator of the uninterrupted one.

    Args:
        emulator: fitted or not; it is not changed.
        store: what is fitted to.
        config: of a short fit that saves its state often.
        folder: run folders are made there.
    """

    def fit(from_store: Any, name: str, resume: bool) -> Emulator:
        fresh = type(emulator).from_config(emulator.config())
        fresh.fit(from_store, config, run_dir=folder / name, resume=resume)
        return fresh

    counting = _Breaking(store, sys.maxsize)
    whole = fit(counting, "whole", resume=False)
    reads = sys.maxsize - counting.left
    with contextlib.suppress(KeyboardInterrupt):
        fit(_Breaking(store, reads // 2), "broken", resume=False)
        raise AssertionError(f"the fit read the store {reads} times, and half of it was enough")
    resumed = fit(store, "broken", resume=True)
    for name, value in whole.module().state_dict().items():
        same = torch.equal(value, resumed.module().state_dict()[name])
        _require(same, f"weights {name!r} of a resumed fit equal to the uninterrupted one's")


class _Breaking:
    """A store that is interrupted after some reads."""

    def __init__(self, store: Any, reads: int) -> None:
        self._store, self.left = store, reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def __len__(self) -> int:
        return len(self._store)

    def read(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.left <= 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self._store.read(*args, **kwargs)


def _require(ok: bool, expected: str, got: object = "otherwise") -> None:
    if not ok:
        raise AssertionError(f"emulator contract: expected {expected}; got {got}")


@contextlib.contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextlib.contextmanager
def _global_state_untouched() -> Iterator[None]:
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002  # pyright: ignore
    threads = torch.get_num_threads()
    yield
    _require(torch.equal(torch_state, torch.random.get_rng_state()), "torch's RNG untouched")
    same = np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002  # pyright: ignore
    _require(same, "numpy's RNG untouched")
    _require(threads == torch.get_num_threads(), "the number of threads as it was")


def _check_contract(emulator: Emulator, x: Tensor) -> None:
    _require(isinstance(emulator, Simulator), "the attributes of a Simulator")
    _require(isinstance(emulator.output, FieldSpec), "a FieldSpec as output", emulator.output)
    emulator.output.check(x, _N)
    _require(bool(torch.isfinite(x).all()), "finite fields")
    _require(not x.requires_grad, "fields without a graph from simulate")


def _fields(emulator: Emulator, theta: Tensor, seeds: Tensor) -> Tensor:
    """x, also of an emulator that returns (x, source)."""
    found = emulator.simulate(theta, seeds)
    return found if emulator.source is None else found[0]


def _check_source(emulator: Emulator, theta: Tensor, seeds: Tensor, x: Tensor) -> None:
    _, source = emulator.simulate(theta, seeds)
    emulator.source.check(source, _N, "source")  # pyright: ignore[reportOptionalMemberAccess]
    again, told = emulator.simulate(theta, seeds, source)
    _require(torch.equal(told, source), "the source that was given beside x")
    _require(torch.equal(again, x), "the same fields for the source that was drawn")
    _require(bool((source != source[:1]).any()), "other seeds, other sources")
    other, _ = emulator.simulate(theta, seeds, source.roll(1, 0))
    _require(bool((other != x).any()), "an effect of the source", "none")
    _raises(ShapeError, lambda: emulator.simulate(theta, seeds, source[1:]), "few sources")
    _raises(ShapeError, lambda: emulator.decode(theta, emulator.latent(theta, seeds)), "no source")


def _check_seeds(emulator: Emulator, theta: Tensor, seeds: Tensor, x: Tensor) -> None:
    _require(torch.equal(x, _fields(emulator, theta, seeds)), "same seeds, same fields")
    other = _fields(emulator, theta, seeds + 1)
    for i in range(_N):
        _require(not torch.equal(x[i], other[i]), "other seeds, other fields", f"field {i} same")


def _check_batches(emulator: Emulator, theta: Tensor, seeds: Tensor, x: Tensor) -> None:
    latent = emulator.latent(theta, seeds)
    source = () if emulator.source is None else (emulator.draw_source(theta, seeds),)
    size = x.abs().flatten(1).amax(1)
    for part in (slice(0, 1), slice(1, _N)):
        alone = emulator.latent(theta[part], seeds[part])
        _require(torch.equal(alone, latent[part]), "latents bit-equal whatever the batch")
        with torch.no_grad():
            again = emulator.decode(theta[part], alone, *(s[part] for s in source))
        error = (again - x[part]).abs().flatten(1).amax(1)
        ok = bool((error <= 1e-5 * size[part]).all())
        _require(ok, "fields equal to 1e-5 whatever the batch", float((error / size[part]).max()))
    back = torch.arange(_N - 1, -1, -1)
    flipped = emulator.latent(theta[back], seeds[back])[back]
    _require(torch.equal(flipped, latent), "latents bit-equal whatever the order")


def _check_effects(emulator: Emulator, theta: Tensor, seeds: Tensor, x: Tensor) -> None:
    for column, name in enumerate(emulator.parameters.names):
        moved = theta.clone()
        moved[:, column] = theta[:, column].roll(1)  # other values, inside the prior
        change = (_fields(emulator, moved, seeds) - x).abs().flatten(1).amax(1)
        _require(bool((change > 0).all()), f"an effect of {name}", "none")


def _check_checkpoint(
    emulator: Emulator, theta: Tensor, seeds: Tensor, x: Tensor, folder: Path
) -> None:
    path = emulator.save(folder / "checkpoint")
    again = type(emulator).load(path)
    _require(again.parameters.digest() == emulator.parameters.digest(), "parameters survive save")
    _require(again.output == emulator.output, "the output survives save", again.output)
    _require(again.source == emulator.source, "the source survives save", again.source)
    _require(torch.equal(_fields(again, theta, seeds), x), "save then load bit-equal")
    _raises(CheckpointError, lambda: type(emulator).load(folder / "absent"), "an absent file")


def _check_bad_input(emulator: Emulator, theta: Tensor, seeds: Tensor) -> None:
    wide = torch.cat([theta, theta.new_zeros(len(theta), 1)], dim=1)
    _raises(ParameterError, lambda: emulator.simulate(wide, seeds), "a column too many")
    if theta.shape[1]:  # no parameters are legal
        bad = torch.full_like(theta, float("nan"))
        _raises(ParameterError, lambda: emulator.simulate(bad, seeds), "theta that is not finite")
    _raises((ParameterError, ShapeError), lambda: emulator.simulate(theta, seeds[1:]), "few seeds")


def _raises(
    kind: type[SbitoolsError] | tuple[type[SbitoolsError], ...],
    call: Callable[[], Any],
    what: str,
) -> None:
    try:
        call()
    except kind:
        return
    except Exception as error:
        raise AssertionError(
            f"emulator contract: expected {kind} for {what}; got {type(error).__name__}: {error}"
        ) from error
    raise AssertionError(f"emulator contract: expected {kind} for {what}; got no error")


def _check_latent_gradient(emulator: Emulator, theta: Tensor, seeds: Tensor) -> None:
    latent = emulator.latent(theta, seeds).requires_grad_()
    _compare_slope(lambda z: emulator.decode(theta, z), latent, "latent")


def _check_theta_gradient(emulator: Emulator, theta: Tensor, seeds: Tensor) -> None:
    latent = emulator.latent(theta, seeds)
    start = theta.clone().requires_grad_()
    _compare_slope(lambda t: emulator.decode(t, latent), start, "theta")


def _compare_slope(decode: Callable[[Tensor], Tensor], start: Tensor, what: str) -> None:
    """The gradient of a random projection of x against central differences along itself."""
    seed = derive(0, 1)
    weight = normal([seed], decode(start.detach()).shape[1:])

    def value(z: Tensor) -> Tensor:
        return (decode(z) * weight).sum()

    (gradient,) = torch.autograd.grad(value(start), start)
    _require(bool(torch.isfinite(gradient).all() & (gradient != 0).any()), f"a gradient in {what}")
    direction = gradient / gradient.norm()
    # A thousandth of the latent's size: far above float32 rounding, far below its curvature.
    step = 1e-3 * float(start.detach().norm())
    with torch.no_grad():
        up, down = value(start + step * direction), value(start - step * direction)
    slope, expected = float((up - down) / (2 * step)), float(gradient.norm())
    # Kinks (cells that particles enter) and rounding leave a few per cent.
    ok = abs(slope - expected) <= 0.1 * expected
    _require(ok, f"slope {expected:.4g} along the gradient in {what}", f"{slope:.4g}")
