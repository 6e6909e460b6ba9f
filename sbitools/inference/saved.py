"""Posteriors on disk: a checkpoint, rebuilt from names and compared with what it computed.

There are other kinds of posteriors than the networks that `train` makes. Each enters the function
that reads it (`enter_kind`) when the package is loaded; nothing here imports them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sbitools import seeds as seeds_
from sbitools.checkpoint import checkpoint_kind, load_checkpoint, rebuild, save_checkpoint
from sbitools.embeddings.own import Own, given
from sbitools.errors import CheckpointError
from sbitools.networks.devices import find_device
from sbitools.networks.precision import single_precision
from sbitools.observation import Observation
from sbitools.observation.familiarity import Familiarity
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .methods import find_method

__all__ = ["KIND", "enter_kind", "load", "save"]

KIND = "posterior"
_FAMILIAR = "familiarity."  # prefix of its tensors in a checkpoint
_PROBE = "scaled_probe"
_PROBES = 4  # fields that are probed
_PROBE_STEPS = 2_000_000  # an ODE takes many, by an option

_READERS: dict[str, Callable[[str | Path, torch.device], Any]] = {}


def save(posterior: Any, path: str | Path) -> Path:
    """See `Posterior.save`."""
    config = {
        "parameters": posterior.parameters.to_dict(), "output": posterior.output.to_dict(),
        "observation": posterior.observation.to_dict(), "options": posterior.options.model_dump(),
        "info": posterior.info,
    }  # fmt: skip
    own = {_PROBE: _probed(posterior), "training_seeds": posterior.training_seeds}
    if posterior.familiarity is not None:
        own |= {_FAMILIAR + k: v for k, v in posterior.familiarity.to_tensors().items()}
    return save_checkpoint(path, KIND, config, dict(posterior.estimator.state_dict()) | own)


def enter_kind(kind: str, read: Callable[[str | Path, torch.device], Any]) -> None:
    """Make `load` read checkpoints of another kind by `read(path, device)`."""
    _READERS[kind] = read


@single_precision()
def load(
    path: str | Path, device: str | torch.device, kind: str | None = None,
    embedding: Own | None = None,
) -> Any:  # fmt: skip
    """See `Posterior.load`.

    Args:
        path: of the checkpoint.
        device: torch device.
        kind: that it must have; any that is known if None.
        embedding: module of the user's own.
    """
    device = find_device(device)
    with given(embedding):
        return _READERS.get(kind or checkpoint_kind(path), _load)(path, device)


def _load(path: str | Path, device: torch.device) -> Any:
    config, tensors = load_checkpoint(path, KIND)
    old = "probe" in tensors  # of a version that probed fields of unit scale
    probe = tensors.pop("probe" if old else _PROBE, torch.empty(0))
    seeds = tensors.pop("training_seeds", None)
    known = {k.removeprefix(_FAMILIAR): tensors.pop(k) for k in list(tensors)
             if k.startswith(_FAMILIAR)}  # fmt: skip

    def build() -> Any:
        parameters = ParameterSpace.from_dict(config["parameters"])
        output = FieldSpec.from_dict(config["output"])
        observation = Observation.from_checkpoint(config["observation"], output)
        method = find_method(config["options"]["method"])
        options = method.network(**config["options"])
        estimator = method.build(options, parameters, observation.output(output))
        estimator.load_state_dict(tensors)
        return method.posterior(
            estimator, options, parameters, output, observation, config["info"],
            training_seeds=seeds,
        )  # fmt: skip

    posterior = rebuild(path, KIND, build, tensors.values())
    if known:
        posterior.familiarity = rebuild(
            path, KIND, lambda: Familiarity.from_tensors(known), known.values()
        )
    # 1e-3 in log density: float32 sums differ by 1e-5 between machines, wrong weights by far.
    now = rebuild(
        path, KIND, lambda: _probed(posterior, scaled=not old), tensors.values(), _PROBE_STEPS
    )
    if probe.shape != now.shape or not torch.allclose(probe, now, rtol=1e-3, atol=1e-3):
        raise CheckpointError(
            f"checkpoint {path}", expected=f"log densities {probe.tolist()}",
            got=f"{now.tolist()}", fix="load it with the version of sbitools that wrote it",
        )  # fmt: skip
    posterior.estimator.to(device)
    return posterior


@single_precision()
@torch.no_grad()
def _probed(posterior: Any, scaled: bool = True) -> Tensor:
    """Log densities of fixed inputs: what a rebuilt network must reproduce.

    Args:
        posterior: saved or read.
        scaled: the inputs are like the simulations; False: standard normal, whatever x is.
    """
    numbers = range(_PROBES)
    x = seeds_.normal(list(numbers), posterior.observed.shape)
    if scaled:
        x = posterior.estimator.embedding.unscaled(x)
    x = x.to(posterior.observed.torch_dtype)
    return posterior._probe_at(x, [i + _PROBES for i in numbers]).cpu().double()
