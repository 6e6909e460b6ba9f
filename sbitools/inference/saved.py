"""Posteriors on disk: a checkpoint, rebuilt from names and compared with what it computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sbitools.checkpoint import checkpoint_kind, load_checkpoint, rebuild, save_checkpoint
from sbitools.devices import find_device
from sbitools.errors import CheckpointError
from sbitools.familiarity import Familiarity
from sbitools.observation import Observation
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .methods import find_method

if TYPE_CHECKING:
    from .posterior import Posterior

__all__ = ["load", "save"]

_KIND, _REPAIRED = "posterior", "repaired posterior"
_FAMILIAR = "familiarity."  # prefix of its tensors in a checkpoint
_PROBE = "scaled_probe"
_PROBE_STEPS = 2_000_000  # an ODE takes many, by an option


def save(posterior: Posterior, path: str | Path) -> Path:
    """See `Posterior.save`."""
    config = {
        "parameters": posterior.parameters.to_dict(), "output": posterior.output.to_dict(),
        "observation": posterior.observation.to_dict(), "options": posterior.options.model_dump(),
        "info": posterior.info,
    }  # fmt: skip
    own = {_PROBE: posterior._probe(), "training_seeds": posterior.training_seeds}
    if posterior.familiarity is not None:
        own |= {_FAMILIAR + k: v for k, v in posterior.familiarity.to_tensors().items()}
    return save_checkpoint(path, _KIND, config, dict(posterior.estimator.state_dict()) | own)


def load(path: str | Path, device: str | torch.device) -> Any:
    """See `Posterior.load`."""
    device = find_device(device)
    if checkpoint_kind(path) == _REPAIRED:
        from sbitools.repairs.posterior import load_repaired

        return load_repaired(path, device)
    config, tensors = load_checkpoint(path, _KIND)
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

    posterior = rebuild(path, _KIND, build, tensors.values())
    if known:
        posterior.familiarity = rebuild(
            path, _KIND, lambda: Familiarity.from_tensors(known), known.values()
        )
    # 1e-3 in log density: float32 sums differ by 1e-5 between machines, wrong weights by far.
    now = rebuild(
        path, _KIND, lambda: posterior._probe(scaled=not old), tensors.values(), _PROBE_STEPS
    )
    if probe.shape != now.shape or not torch.allclose(probe, now, rtol=1e-3, atol=1e-3):
        raise CheckpointError(
            f"checkpoint {path}", expected=f"log densities {probe.tolist()}",
            got=f"{now.tolist()}", fix="load it with the version of sbitools that wrote it",
        )  # fmt: skip
    posterior.estimator.to(device)
    return posterior
