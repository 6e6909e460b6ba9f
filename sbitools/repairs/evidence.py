"""Reference simulations as a posterior sees them: what repairs are fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.display.brief import Brief
from sbitools.errors import StoreError
from sbitools.inference.repaired.posterior import N_SCORE_DRAWS, base_marginals, unwarned
from sbitools.seeds import derive, mix

__all__ = ["Evidence", "collect"]

# Each simulation is observed this often, with other noise, which averages some of it out; once
# where there are so many simulations that it does not matter.
_REDRAWS, _MOST_ROWS = 2, 2000
_NOISE, _DRAWS = 73, 82
_BATCH = 32

# Scores are bounded for what is fitted to them: a truth that no draw comes near to is an outlier.
_FARTHEST = 8.0


@dataclass(frozen=True, repr=False)
class Evidence(Brief):
    """Observed reference simulations; one simulation has several rows, of other noise.

    Args:
        posterior: the posterior to be repaired.
        index: of the simulation in its store, int64, shape (R,).
        group: shape (R,): rows of one group are never on both sides of a split.
        scores: normal scores of the truths, shape (R, P).
        draw_scores: those of posterior draws, float32, shape (R, L, P).
        features: what the network makes of x, shape (R, F).
        seeds: of the simulations, int64, shape (R,).
        digest: of the store.
    """

    posterior: Any
    index: np.ndarray
    group: np.ndarray
    scores: np.ndarray
    draw_scores: np.ndarray
    features: np.ndarray
    seeds: np.ndarray
    digest: str

    @property
    def weights(self) -> np.ndarray:
        """Of the rows, shape (R,): every group counts as one simulation."""
        _, which, size = np.unique(self.group, return_inverse=True, return_counts=True)
        return 1.0 / size[which]

    def subset(self, rows: np.ndarray) -> Evidence:
        """That of the simulations `rows` of the store."""
        keep = np.isin(self.index, rows)
        names = ("index", "group", "scores", "draw_scores", "features", "seeds")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def provenance(self) -> dict[str, Any]:
        """`info` and `training_seeds` of a posterior that was fitted to these rows."""
        used = torch.from_numpy(np.unique(self.seeds))
        before = getattr(self.posterior, "training_seeds", used[:0])
        return {
            "info": dict(self.posterior.info) | {"repaired_with": self.digest},
            "training_seeds": torch.cat([before, used]).unique(),
        }


def collect(posterior: Any, store: Any, rows: np.ndarray, seed: int) -> Evidence:
    """Observe the simulations `rows` of a store and draw from the posterior for each.

    Args:
        posterior: to be repaired.
        store: reference simulations.
        rows: finished simulations of it.
        seed: of the observation noise.

    Raises:
        StoreError: if there are fewer than 20 groups of simulations: their truths fix the mean of
            a posterior to a fifth of its width, and less is no repair.
    """
    groups = np.asarray(store.groups)[rows]
    if len(np.unique(groups)) < 20:
        raise StoreError(
            f"store {store.path}", expected="20 or more independent reference simulations",
            got=f"{len(np.unique(groups))}", fix="simulate more; 100 are a good start",
        )  # fmt: skip
    times = int(np.clip(_MOST_ROWS // len(rows), 1, _REDRAWS))
    columns, parts = store.parameters.inferred_columns, []
    for index, theta, x in store.batches(rows, _BATCH):
        truth = torch.as_tensor(theta, dtype=torch.float64)[:, columns]
        for i in range(times):
            noise = mix(store.seeds[torch.from_numpy(index)], derive(seed, _NOISE, i))
            own = derive(seed, _DRAWS, i, int(index[0]))
            parts.append((index, *_look(posterior, truth, posterior.observe(x, noise), own)))
    index, scores, draws, features = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Evidence(
        posterior, index, np.asarray(store.groups)[index], scores, draws, features,
        store.seeds.numpy()[index], store.digest(),
    )  # fmt: skip


def _look(
    posterior: Any, theta: Tensor, x: Tensor, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of truths and of draws, and features, of one batch.

    The draws are not those the scores are made of. Those are the same for every observation: what
    is fitted would exploit the gaps between them, and be judged by densities with the same gaps.
    """
    space = posterior.parameters
    scores, _ = base_marginals(posterior, x)
    truth = scores.forward(space.to_unconstrained(theta)[:, None])[0][:, 0]
    with unwarned():
        draws = posterior.sample(x, N_SCORE_DRAWS, seed=seed)
    drawn = scores.forward(space.to_unconstrained(draws))[0]
    limited = truth.clamp(-_FARTHEST, _FARTHEST).numpy()
    return limited, drawn.float().numpy(), posterior.features(x).numpy()
