"""A summary network of one's own: any torch module, behind the scale of the data.

Files hold its weights and no code: a posterior that is loaded is given the module again, or finds
it by name in the entry-point group ``sbitools.embeddings``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sbitools.errors import ConfigError, SbitoolsError
from sbitools.installed import find_installed, names_installed
from sbitools.seeds import normal
from sbitools.simulator import FieldSpec

from .moments import varies
from .scale import Scaled
from .scaled import pooled

__all__ = [
    "GROUP", "OWN", "OwnEmbedding", "build_own", "given", "is_own", "own_module",
    "without_module",
]  # fmt: skip

GROUP = "sbitools.embeddings"
OWN = "own"
"""The name of a module that was passed, and is not installed."""

_PROBES = 3
# Means and draws over a batch make the features of a row depend on its neighbours and on torch's
# global generator: what is computed would change with the number of threads.
_REFUSED = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
Own = nn.Module | Mapping[str, nn.Module]
_GIVEN: ContextVar[Own | None] = ContextVar("given", default=None)


@runtime_checkable
class _Factory(Protocol):
    def __call__(self, spec: FieldSpec) -> nn.Module: ...


class OwnEmbedding(Scaled):
    """A module of features (B, F), for x (B, *shape) float32 of mean 0 and standard deviation 1.

    Entries of a vector, columns of a set of items and channels of a field are scaled each by
    itself; all cells or pixels of a channel alike.

    Args:
        spec: of the observed field.
        net: the module; a copy of it is trained.

    Raises:
        ConfigError: if it does not give finite features, one row for each row of x, or if they
            depend on the other rows or on torch's global generator.
    """

    def __init__(self, spec: FieldSpec, net: nn.Module) -> None:
        self._over = _pooled_axes(spec)
        size = [1 if a - len(spec.shape) in self._over else n for a, n in enumerate(spec.shape)]
        super().__init__(tuple(size), spec.shape)
        self.name, self.net = spec.name, copy.deepcopy(net)
        self.n_features = _probe(self.net, spec)

    def set_scale(self, mean: Tensor, std: Tensor, common: Tensor | None = None) -> None:
        """See `Scaled.set_scale`."""
        seen = varies(mean, std)
        if common is not None and self._over:
            seen = seen | common
        self._assign(*pooled(mean, std, seen, self._over), seen)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, F)."""
        return self.net(self.standardise(x))


def is_own(name: str) -> bool:
    """Whether an embedding of that name is a module that was passed, or an installed one."""
    return name == OWN or name in names_installed(GROUP)


def without_module(options: dict[str, Any]) -> tuple[dict[str, Any], Own | None]:
    """Options with the name of a network instead of a module, and the module."""
    module = options.get("embedding")
    if isinstance(module, nn.Module):
        return options | {"embedding": OWN}, module
    if isinstance(module, Mapping):  # of several data products
        own = {name: m for name, m in module.items() if isinstance(m, nn.Module)}
        return options | {"embedding": {**module, **dict.fromkeys(own, OWN)}}, own or None
    return options, None


def own_module(network: nn.Module) -> Own | None:
    """The module of one's own in a network, or those of several by name, if there are any."""
    found = {m.name: m.net for m in network.modules() if isinstance(m, OwnEmbedding)}
    return next(iter(found.values()), None) if len(found) < 2 else found


@contextmanager
def given(module: Own | None) -> Iterator[None]:
    """Networks of the name `OWN` are made of this module, within; None changes nothing."""
    if module is None:
        yield
        return
    token = _GIVEN.set(module)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def build_own(name: str, spec: FieldSpec) -> OwnEmbedding:
    """The network of that name for fields like `spec`.

    Raises:
        ConfigError: if no module was passed, or the installed one makes none.
    """
    if name != OWN:
        make: Callable[..., Any] = find_installed(GROUP, "embedding", name, _Factory, "embedding")
        return OwnEmbedding(spec, make(spec))
    module = _GIVEN.get()
    if isinstance(module, Mapping):
        module = module.get(spec.name)
    if module is None:
        raise ConfigError(
            "embedding of this posterior", expected="the module that it was trained with: files "
            "hold weights and no code", got="none",
            fix="Posterior.load(path, embedding=module), or train(..., embedding=module)",
        )  # fmt: skip
    return OwnEmbedding(spec, module)


def _pooled_axes(spec: FieldSpec) -> list[int]:
    """Axes, from the last one, along which cells have one scale."""
    if len(spec.shape) < 2:
        return []
    first = spec.kinds[0] == "channel"
    if spec.dims[0] == "item":  # rows alike, columns each by itself
        return [-len(spec.shape)]
    return list(range(-len(spec.shape) + first, 0))


def _probe(net: Any, spec: FieldSpec) -> int:
    """Length of its features, for fields that are as large as simulations."""
    if not isinstance(net, nn.Module):
        raise _wrong("a torch.nn.Module", type(net).__name__, "pass an instance of one")
    bad = [type(m).__name__ for m in net.modules() if isinstance(m, _REFUSED)]
    if bad:
        raise _wrong(
            "layers that treat each x by itself, and draw nothing", ", ".join(sorted(set(bad))),
            "use LayerNorm or GroupNorm; leave dropout out, training stops early by itself",
        )  # fmt: skip
    x, was = normal(range(_PROBES), spec.shape), net.training
    x = x.to(next((p.device for p in net.parameters()), x.device))
    try:
        with torch.no_grad():
            net.eval()
            found, alone = net(x), net(x[:1])
    except SbitoolsError:
        raise
    except Exception as error:
        raise _wrong(
            f"features (B, F) of x of shape {tuple(x.shape)}, float32",
            f"{type(error).__name__}: {error}"[:500], "correct its forward",
        ) from error  # fmt: skip
    finally:
        net.train(was)
    shape = tuple(getattr(found, "shape", ()))
    if not isinstance(found, Tensor) or len(shape) != 2 or shape[0] != _PROBES or not shape[1]:
        raise _wrong(
            f"features of shape ({_PROBES}, F) for {_PROBES} fields",
            f"{type(found).__name__} of shape {shape}", "flatten them, and keep the first axis",
        )  # fmt: skip
    if not found.is_floating_point() or not bool(torch.isfinite(found).all()):
        raise _wrong("finite features, floating point", f"{found.dtype}: {found[0][:5].tolist()}",
                     "correct its forward")  # fmt: skip
    # Sums in another order differ by rounding; what neighbours do is far above that.
    if not torch.allclose(found[:1], alone, rtol=1e-3, atol=1e-4 * float(found.abs().max())):
        raise _wrong("features of each x by itself", "others when x comes alone",
                     "do not mix the rows of a batch")  # fmt: skip
    return shape[1]


def _wrong(expected: str, got: str, fix: str) -> ConfigError:
    return ConfigError("embedding module", expected=expected, got=got, fix=fix)
