"""Posterior draws for many tests, drawn once: every check uses the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.calibration.statistics.distances import squared_distances
from sbitools.display.brief import Brief
from sbitools.display.typeset import typeset
from sbitools.errors import ConfigError, ShapeError
from sbitools.gate.arrays import as_native
from sbitools.gate.plain import text
from sbitools.seeds import check_seed, derive

from .answers import Excluded, answers

if TYPE_CHECKING:
    from sbitools.parameters import ParameterSpace

__all__ = ["CalibrationDraws", "Excluded", "as_draws"]

# First words of the keys from which the checks derive their random numbers.
_TIES, _MEMBERS = 1, 2

# One row for each test, all of the same tests.
_ROWS = ("theta", "log_prob_true", "group", "latent", "summary")
_DENSITIES = ("log_prob_true", "log_prob_draws")


@dataclass(frozen=True, repr=False)
class CalibrationDraws(Brief):
    """Posterior draws and true parameters of N tests.

    Args:
        theta: true parameters, shape (N, P).
        draws: posterior draws, shape (N, L, P).
        log_prob_true: log density of the posterior at theta, shape (N,); None if not known.
        log_prob_draws: log density at the draws, shape (N, L). Any strictly increasing function
            of each test's density serves all checks but `information`.
        group: tests with one number share a volume and are not independent, shape (N,);
            all independent if None.
        independent: theta are independent draws of the prior (not a Sobol or Latin-hypercube
            design): p-values need this.
        names: of the parameters.
        labels: of the parameters, for plots.
        prior: the prior theta were drawn from; TARP and the check against the prior use it.
        latent: what the flow makes of theta given x, which is N(0, 1) for an exact posterior,
            shape (N, P); the latent check needs it.
        summary: features of each x, shape (N, F); the latent check looks for what latents have
            in common with them.
        quantities: name -> (value at theta (N,), values at the draws (N, L)) of further test
            quantities, whose ranks `sbc` tests beside the parameters'.
        normalised: log densities are those of a normalised posterior.
        seed: of ties, group members, references and bootstraps.
        excluded: tests that could not be used.
        counts: simulations by state, for the report.

    Raises:
        ShapeError: if shapes disagree or a value is not finite.
    """

    theta: np.ndarray
    draws: np.ndarray
    log_prob_true: np.ndarray | None = None
    log_prob_draws: np.ndarray | None = None
    group: np.ndarray | None = None
    independent: bool = True
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    prior: ParameterSpace | None = None
    latent: np.ndarray | None = None
    summary: np.ndarray | None = None
    quantities: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    normalised: bool = True
    seed: int = 0
    excluded: tuple[Excluded, ...] = ()
    counts: dict[str, int] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        from sbitools.labels import require_same_rows
        from sbitools.parameters import as_space

        if self.prior is not None:
            put(self, "prior", as_space(self.prior))
        for name in ("names", "labels"):
            put(self, name, _texts(getattr(self, name), name))
        require_same_rows({k: getattr(self, k) for k in _ROWS}, ShapeError)
        for name in ("theta", "draws"):
            put(self, name, _columns(getattr(self, name), name, self.names, self.prior))
        for name in ("theta", "draws", "group", "log_prob_true", "log_prob_draws"):
            _put_numbers(self, name)
        put(self, "theta", np.asarray(self.theta, dtype=np.float64))
        put(self, "seed", check_seed(self.seed))
        for name in ("latent", "summary"):
            value = getattr(self, name)
            put(self, name, None if value is None else np.asarray(value, dtype=np.float64))
        pairs = {k: (np.asarray(a), np.asarray(b)) for k, (a, b) in self.quantities.items()}
        put(self, "quantities", pairs)
        _check_shapes(self)
        _check_columns(self)
        names = tuple(self.names) or tuple(f"theta_{i}" for i in range(self.theta.shape[1]))
        put(self, "names", names)
        put(self, "labels", tuple(typeset(label) for label in self.labels) or names)
        group = np.arange(len(self.theta)) if self.group is None else np.asarray(self.group)
        put(self, "group", group)

    @classmethod
    def from_posterior(
        cls, posterior: Any, store: Any, n_draws: int = 1000, **options: Any
    ) -> Any:
        """Draw from a posterior for the simulations of a store: see `sampling.draw`."""
        return cls(**answers(posterior, store, n_draws, **options))

    @property
    def n_tests(self) -> int:
        """N."""
        return self.draws.shape[0]

    @property
    def n_draws(self) -> int:
        """L."""
        return self.draws.shape[1]

    @cached_property
    def ranks(self) -> np.ndarray:
        """Randomised ranks of theta among its draws, int64 (N, P).

        Exactly uniform on {0..L} for an exact posterior at any L, because ties are broken by a
        seeded uniform choice.
        """
        truth = self.theta[:, None, :]
        below, ties = (self.draws < truth).sum(1), (self.draws == truth).sum(1)
        return below + self.rng(_TIES, 0).integers(0, ties + 1)

    @cached_property
    def quantity_ranks(self) -> np.ndarray:
        """Randomised ranks of the further quantities at theta, int64 (N, number of them)."""
        columns = []
        for i, (truth, drawn) in enumerate(self.quantities.values()):
            below, ties = (drawn < truth[:, None]).sum(1), (drawn == truth[:, None]).sum(1)
            columns.append(below + self.rng(_TIES, 2, i).integers(0, ties + 1))
        return np.stack(columns, 1) if columns else np.empty((self.n_tests, 0), dtype=np.int64)

    @cached_property
    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances of theta (N,) and draws (N, L) to TARP's random references."""
        return squared_distances(self.theta, self.draws, self.prior, "prior", self.seed)

    @cached_property
    def hpd_ranks(self) -> np.ndarray | None:
        """Number of draws of higher density than theta, int64 (N,); None without densities."""
        if self.log_prob_true is None or self.log_prob_draws is None:
            return None
        truth = self.log_prob_true[:, None]
        above = (self.log_prob_draws > truth).sum(1)
        ties = (self.log_prob_draws == truth).sum(1)
        return above + self.rng(_TIES, 1).integers(0, ties + 1)

    @cached_property
    def members(self) -> np.ndarray:
        """One random test of each group, ascending: the independent tests p-values are for."""
        order = self.rng(_MEMBERS).permutation(self.n_tests)
        _, first = np.unique(np.asarray(self.group)[order], return_index=True)
        return np.sort(order[first])

    @cached_property
    def z_scores(self) -> np.ndarray:
        """(theta - posterior mean) / posterior sd, shape (N, P).

        Mean 0 and mean square 1 for exact posteriors: at any number of draws from four on if they
        are normal, else up to some 1 / L. The errors of a mean and of a standard deviation of L
        draws are divided out: (theta - mean) / sd is Student's t with L - 1 degrees of freedom, of
        variance (L - 1) / (L - 3), which two or three draws do not have. At most 10^6 in absolute
        value.
        """
        mean = self.draws.mean(1, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            sd = self.draws.std(1, dtype=np.float64)
        # sqrt of L / (L - 1) for an unbiased variance, (L + 1) / L, and (L - 1) / (L - 3)
        few = self.n_draws - 3 if self.n_draws > 3 else max(self.n_draws - 1, 1)
        sd = sd * np.sqrt((self.n_draws + 1) / few)
        # Draws without any spread (or one draw) say nothing about their error: a bounded z.
        sd = np.maximum(sd, 1e-6 * np.abs(self.theta - mean))
        return (self.theta - mean) / np.where(sd > 0, sd, 1.0)

    def rng(self, *key: int) -> np.random.Generator:
        """A generator of this object's seed."""
        return np.random.default_rng(derive(self.seed, *key))

    def note(self) -> str:
        """What limits the p-values of these tests."""
        notes = []
        if len(self.members) < self.n_tests:
            notes.append(
                f"p-value from one random member of each of {len(self.members)} groups "
                f"({self.n_tests} tests)"
            )
        if not self.independent:
            notes.append("theta are not independent draws of the prior: p-value is indicative")
        lost = sum((self.counts or {}).get(state, 0) for state in ("failed", "rejected"))
        if lost + len(self.excluded):
            notes.append(
                f"{lost} simulations failed or were rejected and {len(self.excluded)} tests were "
                "excluded: theta are draws of the prior without them"
            )
        return "; ".join(notes)


def _put_numbers(d: CalibrationDraws, name: str) -> None:
    value = getattr(d, name)
    if value is None and name in ("theta", "draws"):
        raise ShapeError(
            name, expected="an array of numbers", got="None", fix="pass theta and draws"
        )
    if value is None or (isinstance(value, np.ndarray) and value.dtype.kind in "fiu"):
        return
    array = as_native(value, name)
    if array.dtype.kind not in "fiu":
        raise ShapeError(
            name, expected="real numbers", got=f"dtype {array.dtype}",
            fix="convert it with numpy: .astype('float64')",
        )  # fmt: skip
    object.__setattr__(d, name, array)


def _texts(values: Any, what: str) -> tuple[str, ...]:
    listed = isinstance(values, list | tuple) or np.ndim(values) == 1
    if not listed:
        raise ConfigError(
            what, expected="one text per parameter", got=type(values).__name__, fix="pass a list"
        )
    return tuple(text(v, what) for v in values)


def _check_shapes(d: CalibrationDraws) -> None:
    shape = d.draws.shape
    want = {"theta": (*shape[:1], *shape[2:]), "log_prob_true": shape[:1]}
    want |= {"log_prob_draws": shape[:2], "group": shape[:1], "latent": want["theta"]}
    given = {name: getattr(d, name) for name in ("draws", *want)}
    for name, pair in d.quantities.items():
        given |= {f"quantity {name!r}": pair[0], f"draws of quantity {name!r}": pair[1]}
        want |= {f"quantity {name!r}": shape[:1], f"draws of quantity {name!r}": shape[:2]}
    if d.summary is not None:
        given["summary"] = d.summary
        want["summary"] = (shape[0], np.shape(d.summary)[-1] if np.ndim(d.summary) else 0)
    if d.draws.ndim != 3 or 0 in shape:
        raise ShapeError(
            "draws", expected="shape (tests, draws, parameters), none of them 0",
            got=f"shape {shape}", fix="put tests first; there must be one test at least",
        )  # fmt: skip
    for name, expected in want.items():
        value = given[name]
        if value is not None and np.shape(value) != expected:
            raise ShapeError(
                name, expected=f"shape {expected} for draws of shape {shape}",
                got=f"shape {np.shape(value)}", fix="one row per test",
            )  # fmt: skip
    for name in given:
        if name in _DENSITIES or given[name] is None or given[name].dtype.kind not in "fc":
            continue
        if not np.isfinite(given[name]).all():
            raise ShapeError(
                name, expected="finite values", got="NaN or infinity",
                fix="exclude these tests and count them in `excluded`",
            )  # fmt: skip
    for name in _DENSITIES:
        value = getattr(d, name)
        if value is not None and np.isnan(value).any():
            raise ShapeError(
                name, expected="numbers (-inf is one)", got="NaN",
                fix="exclude these tests and count them in `excluded`",
            )  # fmt: skip


def _check_columns(d: CalibrationDraws) -> None:
    """Raise if a parameter never varies: there is nothing to calibrate."""
    name = lambda i: d.names[i] if i < len(d.names) else f"theta_{i}"  # noqa: E731
    for i in range(d.theta.shape[1]):
        if d.n_tests > 1 and (d.theta[:, i] == d.theta[0, i]).all():
            raise ShapeError(
                f"theta of {name(i)}", expected="draws of the prior",
                got=f"{d.theta[0, i]:g} in each of {d.n_tests} tests",
                fix="simulate tests with parameters from the prior, or leave this one out",
            )  # fmt: skip
        column = d.draws[:, :, i]
        if column.size > d.n_tests and (column == column.flat[0]).all():
            raise ShapeError(
                f"draws of {name(i)}", expected="draws of a posterior",
                got=f"{column.flat[0]:g} in every draw of every test",
                fix="the posterior collapsed, or the column holds something else",
            )  # fmt: skip


def _columns(
    values: Any, what: str, names: Sequence[str], prior: ParameterSpace | None
) -> np.ndarray:
    """Columns of parameters in their order, as far as it is known."""
    from sbitools.gate.arrays import as_native
    from sbitools.labels import table_values

    names = tuple(names) or tuple(prior.names if prior is not None else ())
    units = [p.unit for p in prior] if prior is not None else []
    if names:
        units = units if len(units) == len(names) else [""] * len(names)
        values = table_values(values, names, units, what, ShapeError)
    array = values if type(values) is np.ndarray else as_native(values, what)
    if array.dtype.kind not in "fiu":
        raise ShapeError(
            what, expected="real numbers", got=f"dtype {array.dtype}",
            fix="convert it with .astype('float64')",
        )  # fmt: skip
    return np.asarray(array, dtype=np.float64) if what == "theta" else array


def as_draws(
    draws: CalibrationDraws | np.ndarray,
    theta: np.ndarray | None = None,
    *,
    names: Sequence[str] = (),
    group: np.ndarray | None = None,
    prior: ParameterSpace | None = None,
    seed: int | None = None,
) -> CalibrationDraws:
    """Arrays as `CalibrationDraws`; a `CalibrationDraws` as it is, with `seed` if given.

    Args:
        draws: shape (N, L, P), or the object itself.
        theta: shape (N, P); None with the object.
        names: of the parameters.
        group: shape (N,).
        prior: of theta.
        seed: of ties, members, references and bootstraps.

    Raises:
        ShapeError: if shapes disagree, or arrays come without theta.
    """
    if isinstance(draws, CalibrationDraws):
        return draws if seed is None or seed == draws.seed else replace(draws, seed=seed)
    if theta is None:
        raise ShapeError(
            "theta", expected="true parameters, shape (tests, parameters)", got="None",
            fix="pass theta with the draws",
        )  # fmt: skip
    return CalibrationDraws(
        theta, draws, group=group, names=tuple(names), prior=prior, seed=seed or 0
    )
