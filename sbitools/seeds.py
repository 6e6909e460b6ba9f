"""Seeds are arguments: one 63-bit seed per simulation, one generator per seed.

Simulation *i* of a campaign draws from `SeedSequence(seed, spawn_key=(i,))`, so its randomness
does not depend on the batch, the worker or the order. No global random state is read, or changed
but for the time in which `initial_weights` builds layers, or `seeded_globals` runs foreign code.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import ParameterError, SbitoolsError, ShapeError
from .gate.plain import whole
from .networks.precision import single_precision

__all__ = [
    "check_seed", "check_seeds", "derive", "fresh_seed", "generator", "initial_weights", "mix",
    "normal", "seeded_globals", "simulation_seeds",
]  # fmt: skip

_MASK63 = (1 << 63) - 1


def check_seed(seed: Any, name: str = "seed") -> int:
    """Return `seed` as an int; see `sbitools.gate.plain.whole`.

    Raises:
        ParameterError: if it is not an integer in [0, 2^63).
    """
    if type(seed) is int and 0 <= seed <= _MASK63:
        return seed
    try:
        return whole(seed, name, least=0, most=_MASK63, error=ParameterError)
    except ParameterError as error:
        raise ParameterError(
            name, expected="an integer in [0, 2^63)", got=error.got, fix=f"pass {name}=0, say"
        ) from None


def check_seeds(seeds: Any, n: int, error: type[SbitoolsError] = ShapeError) -> Tensor:
    """Seeds of `n` simulations, int64 on the CPU, shape (n,).

    Args:
        seeds: a tensor, array or list of integers in [0, 2^63), one per simulation.
        n: how many there must be.
        error: class to raise.

    Raises:
        SbitoolsError: of class `error`, for fractions, truth values, other shapes and numbers.
    """
    values = seeds.detach().cpu().numpy() if isinstance(seeds, Tensor) else np.asarray(seeds)
    integers = values.dtype.kind in "iu" or values.size == 0
    if not integers or values.shape != (n,) or (values < 0).any() or (values > _MASK63).any():
        raise error(
            "seeds", expected=f"int64 of shape ({n},), one per row of theta, in [0, 2^63)",
            got=f"{values.dtype} of shape {values.shape}"
            + (f", smallest {values.min()}" if integers and values.size else ""),
            fix="make them with sbitools.seeds.simulation_seeds",
        )  # fmt: skip
    return torch.from_numpy(values.astype(np.int64))


def fresh_seed() -> int:
    """A seed that nobody had before: 63 bits of the operating system, no global state."""
    return secrets.randbits(63)


def derive(seed: int, *key: int) -> int:
    """A 63-bit seed that depends on `seed` and on every number of `key`."""
    words = np.random.SeedSequence(check_seed(seed), spawn_key=key).generate_state(1, np.uint64)
    return int(words[0]) & _MASK63


def simulation_seeds(seed: int, indices: Iterable[int]) -> np.ndarray:
    """Seeds of the simulations `indices` of the campaign `seed`, int64, shape (len(indices),)."""
    return np.array([derive(seed, int(i)) for i in indices], dtype=np.int64)


def mix(seeds: Tensor, salt: int) -> Tensor:
    """63-bit seeds, a mix of each of `seeds` and `salt`, int64, shape (batch,).

    The mixing function is the finaliser of SplitMix64 (Steele, Lea & Flood 2014), so that close
    seeds give unrelated streams.
    """
    mixed = np.asarray(seeds).astype(np.uint64) ^ np.uint64(salt)
    with np.errstate(over="ignore"):
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = (mixed ^ (mixed >> np.uint64(31))) & np.uint64((1 << 63) - 1)
    return torch.from_numpy(mixed.astype(np.int64))


def generator(seed: int) -> torch.Generator:
    """A CPU generator for the choices of a training step.

    Torch's generator keeps 32 bits of its seed, which is enough there; fields and noise of
    simulations come from `normal`, to which all bits count.
    """
    return torch.Generator().manual_seed(int(seed))  # allowed: a local generator, no global state


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Layers built inside have weights that depend on `seed` alone, layers outside never notice.

    The layers of torch, zuko and nflows initialise from torch's global generator; it is that of
    the processor which is set, and put back at the end.
    """
    with single_precision(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seed))
        yield


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Foreign code that draws from the global generators draws by `seed` inside.

    They are torch's, on the processor and on GPUs in use, and numpy's; all are put back at the
    end, whatever happens.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    before = np.random.get_state()  # noqa: NPY002
    words: Any = np.random.MT19937(np.random.SeedSequence(check_seed(seed))).state
    with torch.random.fork_rng(devices=list(gpus)):
        torch.default_generator.manual_seed(seed)
        if gpus:
            torch.cuda.manual_seed_all(seed)
        np.random.set_state(words)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def normal(
    seeds: Tensor | Sequence[int], shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normal numbers, one generator per seed.

    Args:
        seeds: int64, shape (batch,).
        shape: shape of one draw.
        dtype: float32 or float64.

    Returns:
        CPU tensor of shape (batch, *shape), bit-equal whatever the batch a seed is in.

    Raises:
        ShapeError: for what is no list of integers in [0, 2^63).
    """
    kind = {torch.float32: np.float32, torch.float64: np.float64}[dtype]
    given = check_seeds(seeds, len(seeds)).tolist()
    out = np.empty((len(given), *shape), dtype=kind)
    for i, seed in enumerate(given):
        out[i] = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, kind)
    return torch.from_numpy(out)
