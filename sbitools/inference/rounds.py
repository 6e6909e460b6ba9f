"""Sequential rounds for one observation: simulate where its posterior is, and learn from all.

Truncated sequential neural posterior estimation (TSNPE; Deistler, Gonçalves & Macke 2022,
arXiv:2210.04815). Each round draws theta from the prior, cut to the region that holds all but
`epsilon` of the current posterior. Inside the region of all rounds the mixture of the draws is
proportional to the prior, so the ordinary loss gives the posterior at this observation, without a
correction and without leakage.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from torch import Tensor

from sbitools.campaign.arguments import checked_simulator
from sbitools.campaign.campaign import _manifest, simulate
from sbitools.disk.files import read_json, write_atomic
from sbitools.display.bars import showing
from sbitools.embeddings.own import without_module
from sbitools.errors import ConfigError, ObservationError
from sbitools.gate.plain import as_path, flag, plain_value, real, whole
from sbitools.labels import is_missing
from sbitools.observation import Observation
from sbitools.observation.entry import several_fields
from sbitools.seeds import check_seed, derive, simulation_seeds
from sbitools.simulator import Simulator
from sbitools.store import SimulationStore
from sbitools.store.manifest import stamp
from sbitools.training.trackers import of_part

from .keywords import RoundKeywords
from .methods import find_method
from .options import check_options, parse_options
from .posterior import Posterior
from .train import train
from .truncation import JoinedStores, Truncation

__all__ = ["train_rounds"]

_LOG = logging.getLogger(__name__)


def train_rounds(
    simulator: Simulator,
    x_observed: Tensor | np.ndarray,
    *,
    n_per_round: int,
    run_dir: str | Path,
    seed: int,
    observe: Observation | None = None,
    rounds: int = 3,
    epsilon: float = 1e-4,
    workers: int = 2,
    method: str = "npe",
    resume: bool = True,
    progress: bool = True,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    **options: Unpack[RoundKeywords],
) -> Posterior:
    """Spend simulations where the posterior of one observation is.

    Killed at any moment, the same call goes on where it was; a larger `rounds` adds to what is
    there. Each round has its folder in `run_dir`, with its store of simulations and its posterior.

    Args:
        simulator: what to learn from.
        x_observed: the observed field, shape (*shape,) or (1, *shape), as after `observe`.
        n_per_round: simulations of each round, a multiple of the simulator's group size.
        run_dir: for all of it.
        seed: of theta and of the simulations.
        observe: observation model; none if None.
        rounds: how many; the first one covers the whole prior.
        epsilon: posterior mass that may be cut off in each round.
        workers: processes that simulate, and threads that train.
        method: a name out of `sbitools.inference.METHODS`.
        resume: False to refuse a folder that holds rounds already.
        progress: show the progress of simulations and of training on stderr.
        on_epoch: called with each new row of a round's training history, with ``"part"`` in it.
        **options: of the method, as for `train`.

    Returns:
        The last round's posterior. It is right for `x_observed` only: ``info["amortised"]`` is
        False, ``info["x_observed"]`` the observation's sha256, ``info["rounds"]`` the regions.

    Raises:
        ConfigError: for an unknown method or option, rounds or epsilon out of range, or a folder
            with rounds of another kind.
        ObservationError: if the observation does not fit the simulator's output.
        PosteriorError: if a round's posterior is so wrong that its region cannot be drawn from.

    Example:
        >>> narrow = train_rounds(
        ...     simulator, x_observed, n_per_round=100, rounds=2, run_dir="rounds", seed=5,
        ...     epochs=1, workers=1, progress=False)
        >>> narrow.info["amortised"], len(narrow.info["rounds"])
        (False, 2)
    """
    observation, simulator = Observation.of(observe), checked_simulator(simulator)
    rounds = whole(rounds, "rounds", least=1)
    n_per_round = whole(n_per_round, "n_per_round", least=1)
    workers = whole(workers, "workers", least=1)
    epsilon = real(epsilon, "epsilon, the mass outside a region,", above=0, most=0.4999)
    resume, progress = flag(resume, "resume"), flag(progress, "progress")
    x = _checked(x_observed, simulator, observation)
    given, module = without_module({**options})
    given = plain_value(given) | {"workers": workers}
    parsed = parse_options(find_method(method), given | {"method": method})
    check_options(parsed, observation.output(simulator.output))
    identity = {
        "x_observed": hashlib.sha256(np.ascontiguousarray(x.numpy()).tobytes()).hexdigest(),
        "n_per_round": n_per_round, "seed": check_seed(seed), "epsilon": epsilon,
        "method": method, "options": given, "observe": observation.to_dict(),
        "parameters": simulator.parameters.to_dict(), "output": simulator.output.to_dict(),
    }  # fmt: skip
    folder = as_path(run_dir, "run_dir")
    _check_folder(folder, identity, resume)
    # Emulated pairs would come from the whole prior, of which later rounds simulate a part.
    fields = find_method(method).options.model_fields
    given = ({"emulate": False} if "emulate" in fields else {}) | given
    asked: dict[str, Any] = given if module is None else given | {"embedding": module}
    posterior, stores = None, []
    for i in range(rounds):
        here = folder / f"round-{i + 1}"
        region = None if posterior is None else Truncation(
            posterior, simulator.parameters, x, epsilon, derive(seed, i, 1))  # fmt: skip
        with showing(progress, f"round {i + 1}: "):
            store, told = _simulated(
                simulator, region, here, n_per_round, derive(seed, i), workers, progress
            )
        stores.append(store)
        _LOG.info("round %d: %s simulations, theta of %s", i + 1, store.counts(), told)
        if (here / "posterior").exists():
            _LOG.info("round %d: finished before, its posterior is read back", i + 1)
            posterior = Posterior.load(here / "posterior", embedding=module)
            continue
        earlier = posterior.info["rounds"] if posterior is not None else []
        with showing(progress, f"round {i + 1}: "):
            posterior = train(
                JoinedStores(stores),  # pyright: ignore[reportArgumentType]
                method, observe=observation, run_dir=here / "training", resume=True,
                on_epoch=of_part(on_epoch, f"round {i + 1}"), **asked,
            )  # fmt: skip
        posterior.info |= {
            "amortised": False, "x_observed": identity["x_observed"], "epsilon": epsilon,
            "rounds": [*earlier, told | store.counts()],
        }  # fmt: skip
        posterior.save(here / "posterior")
    assert posterior is not None  # noqa: S101  (rounds >= 1)
    return posterior


def _checked(x: Tensor | np.ndarray, simulator: Simulator, observation: Observation) -> Tensor:
    """The observation as a batch of one."""
    spec = observation.output(simulator.output)
    x = several_fields(x, spec, "x_observed")
    if len(x) != 1 or bool(is_missing(x).any()):
        raise ObservationError(
            "x_observed", expected=f"one finite field of shape {spec.shape}, {spec.dtype}",
            got=f"shape {tuple(x.shape)}, {int(is_missing(x).sum())} values not finite, or "
            "healpy.UNSEEN",
            fix="sequential rounds are for one observation; use train for several",
        )  # fmt: skip
    return x


def _check_folder(folder: Path, identity: dict[str, Any], resume: bool) -> None:
    file = folder / "rounds.json"
    now = json.loads(json.dumps(identity))
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(identity, indent=1).encode())
        return
    have = read_json(file)
    other = [k for k in now if have.get(k) != now[k]]
    if other or not resume:
        raise ConfigError(
            f"run_dir {folder}", expected="an empty folder, or rounds of the same kind",
            got=f"rounds with another {', '.join(other)}" if other else "rounds, resume=False",
            fix="choose another folder, or pass what it was made with",
        )  # fmt: skip


def _simulated(
    simulator: Simulator, region: Truncation | None, folder: Path, n: int, seed: int,
    workers: int, progress: bool,
) -> tuple[SimulationStore, dict[str, Any]]:  # fmt: skip
    """A round's finished store, and how its theta were drawn."""
    path, file = folder / "simulations", folder / "region.json"
    options: dict[str, Any] = {"seed": seed, "workers": workers, "progress": progress}
    if region is None:
        folder.mkdir(parents=True, exist_ok=True)
        return simulate(simulator, n, path, **options), {"from": "prior", "accepted": 1.0}
    if stamp(path) is None:
        folder.mkdir(parents=True, exist_ok=True)
        theta, told = region.draw(n)
        write_atomic(file, json.dumps(told).encode())
        m = _manifest(simulator, n, seed, "imported", None)
        SimulationStore.create(
            path, simulator.parameters, simulator.output, theta, simulation_seeds(seed, range(n)),
            source=m.layout.source, seed=seed, group_size=m.group_size, task_size=m.task_size,
            design="imported", simulator=m.simulator, code_version=m.code_version,
            identity=m.identity,
        )  # fmt: skip
    store = simulate(simulator, n, path, design="imported", **options)  # pyright: ignore[reportArgumentType]
    return store, read_json(file)
