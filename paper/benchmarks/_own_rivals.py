"""Our posterior and sbi's on the same test simulations: run by `own_simulations` for one set.

`sbi` has the same simulations, those that validate our emulator included, its own training, and
where ours has an embedding the same network with fresh weights, which scales x by the training
data as it does for us. All densities are of theta in its own units within the prior: sbi's flow
leaks out of it, so its density is divided by the share of its draws that lie inside, 2,000 for
each x (and counted as one more, so that it is never zero).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sbitools import ParameterSpace, Posterior, SimulationStore
from sbitools.embeddings.moments import measure
from sbitools.inference.first_guess import guess_target
from sbitools.inference.vectors import fitted_whole
from sbitools.repairs.measure import held_out_log_prob
from sbitools.seeds import derive

__all__ = ["RIVALS", "main"]

RIVALS = {"sbi default": "maf", "sbi NSF": "nsf"}
_DRAWS, _BATCH = 2000, 16


def main(argv: Sequence[str] | None = None) -> int:
    """Write `scores.npz` and `rivals.json` into the folder of a set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=2**31 - 1)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(argv)
    results = chosen.folder / "run-results"
    best = results / "choice" / "checkpoint"
    posterior = Posterior.load(best if best.exists() else results / "posterior" / "checkpoint")
    stores = [
        SimulationStore.open(path)
        for name in ("train", "validation")
        if (path := results / "reference" / name).exists()
    ]
    test = SimulationStore.open(results / "reference" / "test")
    theta, x = (torch.cat(parts) for parts in zip(*map(_rows, stores), strict=True))
    found: dict[str, np.ndarray] = {"ours": held_out_log_prob(posterior, test)}
    told: dict[str, Any] = {"n": len(theta), "embedding": None, "minutes": {}}
    for name, model in RIVALS.items():
        torch.default_generator.manual_seed(derive(chosen.seed, len(found)))
        begun = time.perf_counter()
        network = _embedding(posterior, theta, x)
        told["embedding"] = type(network).__name__ if network is not None else "none"
        found[name] = _sbi(model, network, theta, x, _rows(test), stores[0].parameters,
                           chosen.epochs)  # fmt: skip
        told["minutes"][name] = (time.perf_counter() - begun) / 60
    truths, fields = _rows(test)
    everything: dict[str, Any] = {"theta": truths, "x": fields, **found}
    np.savez(chosen.folder / "scores.npz", **everything)
    (chosen.folder / "rivals.json").write_text(json.dumps(told))
    return 0


def _rows(store: SimulationStore) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.as_tensor(store.theta[store.done]), store.read(store.done)


def _embedding(posterior: Any, theta: torch.Tensor, x: torch.Tensor) -> Any:
    """Our network with fresh weights, settled by these simulations; None if ours has none."""
    if fitted_whole(posterior.options, posterior.observed):
        return None
    network = posterior.options.build(posterior.observed, posterior.options.seed)
    network.set_moments(measure([network.values(x)], posterior.observed))
    u = posterior.parameters.to_unconstrained(theta.double()).float()
    network.settle(lambda: [(guess_target(u), x)])
    return network


def _sbi(
    model: str, network: Any, theta: torch.Tensor, x: torch.Tensor,
    test: tuple[torch.Tensor, torch.Tensor], parameters: ParameterSpace, epochs: int,
) -> np.ndarray:  # fmt: skip
    """log density of the truth (n,) by NPE of sbi with its defaults."""
    from sbi.inference import NPE
    from sbi.neural_nets import posterior_nn
    from sbi.utils import BoxUniform

    ends: list[Any] = [p.prior for p in parameters]
    low, high = (torch.tensor([float(getattr(e, k)) for e in ends]) for k in ("low", "high"))
    prior = BoxUniform(low, high)
    build: Any = model
    if network is not None:
        build = posterior_nn(model, embedding_net=network, z_score_x="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inference = NPE(prior, density_estimator=build, show_progress_bars=False)
        inference.append_simulations(theta.float(), x.float())
        flow = inference.train(max_num_epochs=epochs).eval()
        return _within_prior(flow, prior, *test)


@torch.no_grad()
def _within_prior(flow: Any, prior: Any, theta: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    """log density (n,) of theta (n, P), one for each x, of the flow cut off at the prior."""
    out = []
    for truth, data in zip(theta.float().split(_BATCH), x.float().split(_BATCH), strict=True):
        log = flow.log_prob(truth[None], data)[0].double()
        inside = prior.support.check(flow.sample((_DRAWS,), data)).double().sum(0)
        out.append(log - torch.log((inside + 1) / (_DRAWS + 1)))
    return torch.cat(out).numpy()


if __name__ == "__main__":
    sys.exit(main())
