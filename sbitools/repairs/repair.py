"""repair(): a posterior, wrong about the reference, mended with few reference simulations."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sbitools.calibration.drawing.stores import as_posterior, check_specification, seen
from sbitools.display.brief import BriefDict
from sbitools.errors import ConfigError, StoreError
from sbitools.gate.names import or_else
from sbitools.gate.plain import as_path, flag, text, whole
from sbitools.inference.posterior import Posterior
from sbitools.seeds import check_seed
from sbitools.store.access import as_store
from sbitools.store.access import chosen as chosen_rows
from sbitools.store.marks import sketch

from .crossfit import assign_folds, cross_fit
from .evidence import Evidence, collect
from .fine_tune import fine_tune
from .judgement import Judgement, judge
from .recalibrate import recalibrate, shape_errors
from .registry import METHODS
from .reweight import reweight

__all__ = ["judgement", "repair"]

_LOG = logging.getLogger(__name__)
_SHAPE = ("shift", "log_width", "skew", "log_tail")


def repair(
    posterior: Any,
    reference: Any,
    method: str = "auto",
    *,
    folds: int = 5,
    indices: np.ndarray | None = None,
    n_draws: int = 500,
    run_dir: str | Path | None = None,
    resume: bool = True,
    seed: int = 0,
    **options: Any,
) -> Any:
    """Mend a posterior with reference simulations, and say what that was worth.

    - ``"recalibrate"``: each marginal is shifted, widened and bent by a monotone map.
    - ``"reweight"``: draws are weighted by a classifier that knows reference truths from draws.
    - ``"fine_tune"``: the network is trained further; first the flow, then everything.
    - ``"auto"``: all of them that can be; the one that gains most on held-out simulations if its
      gain is beyond chance, and the posterior as it was if none is.

    Each method is judged in folds: a repair fitted to the other folds gives the log density of the
    truth, and draws, for simulations that it never saw. What is returned is fitted to all of them.

    Args:
        posterior: from `sbitools.train`, or from an earlier repair (not to be fine-tuned).
        reference: store of reference simulations, other than those of training and testing.
        method: see above.
        folds: of the cross-fit.
        indices: simulations to use, as numbers or as a mask over the whole store; all that are
            done if None.
        n_draws: posterior draws per simulation, for the held-out checks.
        run_dir: for the state of the training of ``"fine_tune"``; a temporary folder if None.
        resume: take up interrupted trainings in `run_dir`; False to refuse them.
        seed: of folds, noise and bootstrap.
        **options: of ``"fine_tune"``, see there.

    Returns:
        The repaired posterior. ``info["repair"]`` has the judgement of each method that was
        tried, by name, and which was chosen; `judgement` gives the chosen one as an object. The
        simulations that were used count as training simulations: `calibrate` refuses them.

    Raises:
        ConfigError: for an unknown method, or folds that cannot be.
        StoreError: if the store does not fit the posterior, was used to train it, or has fewer
            than 20 independent simulations.

    Example:
        >>> truth = FunctionSimulator(
        ...     lambda theta, s: theta.float() + 1.0 + seeds.normal(s, (2,)), space, field)
        >>> reference = simulate(truth, 60, "reference", seed=6, workers=1, progress=False)
        >>> mended = repair(posterior, reference, "recalibrate", n_draws=100)
        >>> print(judgement(mended).summary)
        recalibrate helps: +0.8... nats of log density at the truth, on 60 reference ...
    """
    method = text(method, "method of repair")
    names = (method,)
    if method == "auto":
        closed = getattr(getattr(posterior, "estimator", None), "closed", False)
        tunable = isinstance(posterior, Posterior) and not closed
        names = tuple(name for name in METHODS if tunable or name != "fine_tune")
    if not set(names) <= set(METHODS):
        raise ConfigError(
            "method of repair", expected=f"'auto' or one of {METHODS}", got=repr(method),
            fix=or_else(method, ("auto", *METHODS), "use method='auto'"),
        )  # fmt: skip
    folds, n_draws = whole(folds, "folds", least=2), whole(n_draws, "n_draws", least=1)
    seed, resume = check_seed(seed), flag(resume, "resume")
    posterior, reference = as_posterior(posterior), as_store(reference, "reference")
    check_specification(posterior, reference)
    rows = np.unique(chosen_rows(reference, indices))
    _check_unseen(posterior, reference, rows)
    own = None if run_dir is None else as_path(run_dir, "run_dir")
    with tempfile.TemporaryDirectory() if own is None else nullcontext(own) as folder:
        job = _Job(posterior, reference, rows, folds, n_draws, seed, Path(folder), resume, options)
        judged = {name: job.judge(name, len(names)) for name in names}
        chosen: str | None = max(judged, key=lambda name: judged[name].gain)
        if method == "auto" and not judged[chosen].helps:
            chosen = None
        _LOG.info("repair by %s; tried: %s", chosen or "none, since none helps beyond chance",
                  {name: f"{j.gain:.3g} nats" for name, j in judged.items()})  # fmt: skip
        repaired = copy.copy(posterior) if chosen is None else job.fit(chosen)(rows, -1)
    tried = {name: verdict.to_dict() for name, verdict in judged.items()}
    repaired.info = BriefDict(repaired.info)  # that of the posterior stays as it is
    repaired.info |= {
        "repair": {"chosen": chosen, "tried": tried, "store": reference.digest()},
        "repaired on": sketch(reference, rows),
    }
    if chosen is None:  # choosing is a use, too
        seeds = reference.seeds[torch.from_numpy(rows)]
        before = getattr(posterior, "training_seeds", seeds[:0])
        repaired.training_seeds = torch.cat([before, seeds]).unique()
    return repaired


def judgement(posterior: Any, method: str | None = None) -> Judgement:
    """The judgement of a repair that `repair` made.

    Args:
        posterior: what `repair` returned.
        method: one of those that were tried; the chosen one, or else the best, if None.

    Raises:
        ConfigError: if the posterior was not repaired, or not in this way.
    """
    found = posterior.info.get("repair", {})
    tried = found.get("tried", {})
    best = max(tried, key=lambda name: tried[name]["gain"], default="")
    name = method or found.get("chosen") or best
    if name not in tried:
        raise ConfigError(
            "judgement", expected=f"a repaired posterior and one of {sorted(tried)}",
            got=repr(name), fix="call sbitools.repair first",
        )  # fmt: skip
    return Judgement.from_dict(tried[name])


class _Job:
    """One call of `repair`."""

    def __init__(
        self, posterior: Any, store: Any, rows: np.ndarray, folds: int, n_draws: int, seed: int,
        folder: Path, resume: bool, options: dict[str, Any],
    ) -> None:  # fmt: skip
        self.posterior, self.store, self.rows, self.seed = posterior, store, rows, seed
        self.folds, self.n_draws, self.folder, self.resume = folds, n_draws, folder, resume
        self.options = options
        self.fold = assign_folds(np.asarray(store.groups)[rows], folds, seed)
        self._evidence: Evidence | None = None

    @property
    def evidence(self) -> Evidence:
        """Drawn once for all folds and methods that need it."""
        if self._evidence is None:
            self._evidence = collect(self.posterior, self.store, self.rows, self.seed)
        return self._evidence

    def fit(self, name: str) -> Callable[[np.ndarray, int], Any]:
        """The method as a function of (simulations, fold); fold -1 is all of them."""
        if name == "recalibrate":
            return lambda rows, fold: recalibrate(self.evidence.subset(rows), self.seed)
        if name == "reweight":
            return lambda rows, fold: reweight(self.evidence.subset(rows), self.seed)
        return lambda rows, fold: fine_tune(
            self.posterior, self.store, rows, resume=self.resume,
            run_dir=self.folder / (f"fold-{fold}" if fold >= 0 else "all"), **self.options,
        )  # fmt: skip

    def judge(self, name: str, compared: int) -> Judgement:
        """Cross-fit one method."""
        before, after, lost = cross_fit(
            self.posterior, self.store, self.rows, self.fit(name), fold=self.fold,
            n_draws=self.n_draws, seed=self.seed,
        )  # fmt: skip
        details = {"fit": self._shape()} if name == "recalibrate" else {}
        return judge(
            name, before, after, folds=self.folds, compared=compared, seed=self.seed,
            excluded=lost, details=details,
        )  # fmt: skip

    def _shape(self) -> list[dict[str, Any]]:
        """The map of every parameter with its errors."""
        numbers = recalibrate(self.evidence, self.seed).shape.numbers
        errors = shape_errors(self.evidence, self.seed)
        return [
            {"name": name}
            | {k: float(v) for k, v in zip(_SHAPE, row, strict=True)}
            | {f"{k}_error": float(v) for k, v in zip(_SHAPE, error, strict=True)}
            for name, row, error in zip(
                self.posterior.parameters.names, numbers, errors, strict=True
            )
        ]


def _check_unseen(posterior: Any, store: Any, rows: np.ndarray) -> None:
    """Raise if simulations that are to judge a repair have trained the posterior."""
    absent = ~np.isin(rows, store.done)
    trained = seen(posterior, store, rows[~absent])
    if absent.any() or trained.any() or not len(rows):
        raise StoreError(
            f"store {store.path}",
            expected="finished reference simulations that the posterior was not trained on",
            got=f"{len(rows)} simulations, of which {int(absent.sum())} are not finished and "
            f"{int(trained.sum())} trained it",
            fix="repair with simulations of another seed",
        )  # fmt: skip
