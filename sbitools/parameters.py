"""Parameters with names, units and priors; designs; the bounded <-> unbounded map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .display.brief import brief, names_in_brief, table_html
from .errors import ParameterError, SbitoolsError
from .gate.arrays import is_tensor, real_tensor
from .gate.plain import whole
from .labels import table_values
from .parameter import Parameter
from .priors import Joint
from .priors.base import probit
from .priors.joint import Block, bind, inferred_of, joint_from_dict
from .priors.points import Design, unit_cube
from .seeds import check_seed

__all__ = ["Design", "Parameter", "ParameterSpace", "as_space"]


_SHOWN = 15  # parameters of a table in a notebook


class ParameterSpace(Sequence[Parameter]):
    """An ordered set of parameters, independent but for joint priors; theta has a column for each.

    Everything works in u, where a block of parameters with a joint prior is independent and
    standard normal, too. The `prior` of a member is its marginal, except in blocks of ordered
    parameters, where it is that of the parameter without the others.

    Args:
        parameters: with distinct names; may be empty.
        joint: priors of `sbitools.priors` for several of them together: `Copula`, `Ordered`,
            `Sequential`, `Mixture`, `multivariate_normal`, `joint_of`, `joint_of_draws`.

    Raises:
        ParameterError: for anything else; for joint priors that do not fit their parameters, or
            whose nuisance parameters cannot be integrated out.

    Example:
        >>> from sbitools import Parameter, ParameterSpace, priors
        >>> space = ParameterSpace([
        ...     Parameter("Omega_m", priors.Uniform(0.1, 0.5)),
        ...     Parameter("sigma_8", priors.Uniform(0.6, 1.0)),
        ... ])
        >>> theta = space.design(4, seed=1)
        >>> theta.shape
        torch.Size([4, 2])
        >>> bool(((theta > 0.1) & (theta < 1.0)).all())
        True
    """

    # Set only where there are any: for `sbitools.identity` other spaces stay what they were.
    _blocks: tuple[Block, ...] = ()

    def __init__(self, parameters: Sequence[Parameter], joint: Sequence[Joint] = ()) -> None:
        listed = isinstance(parameters, Sequence) and not isinstance(parameters, str | bytes)
        strange = [p for p in parameters if not isinstance(p, Parameter)] if listed else [0]
        if strange:
            raise ParameterError(
                "ParameterSpace", expected="a list of Parameter objects",
                got=type(strange[0] if listed else parameters).__name__,
                fix='for example ParameterSpace([Parameter("a", priors.Uniform(0.0, 1.0))])',
            )  # fmt: skip
        self._parameters = tuple(parameters)
        if len(set(self.names)) != len(self):
            raise ParameterError(
                "ParameterSpace", expected="distinct names", got=f"{self.names}",
                fix="rename one of the parameters",
            )  # fmt: skip
        self._parameters, blocks = bind(self._parameters, joint)
        if blocks:
            self._blocks = blocks
            inferred_of(blocks, self)  # refused now, and not after the simulations

    def __len__(self) -> int:
        return len(self._parameters)

    def __getitem__(self, index: Any) -> Any:
        return self._parameters[index]

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParameterSpace) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"ParameterSpace({names_in_brief(self.names)})"

    def _repr_html_(self) -> str:
        rows = [
            (p.name, p.unit, brief(p.prior), "yes" if p.inferred else "no") for p in self[:_SHOWN]
        ]
        rows += [("...", "", f"{len(self)} in all", "")] if len(self) > _SHOWN else []
        return table_html("ParameterSpace", rows, ("parameter", "unit", "prior", "inferred"))

    @property
    def names(self) -> list[str]:
        """Column names of theta."""
        return [p.name for p in self]

    @property
    def labels(self) -> list[str]:
        """Plot labels."""
        return [p.label for p in self]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Joint priors with the columns of theta that they are about."""
        return self._blocks

    @property
    def free_columns(self) -> list[int]:
        """Columns of the parameters that are independent of all others."""
        joined = {c for block in self._blocks for c in block.columns}
        return [i for i in range(len(self)) if i not in joined]

    @property
    def inferred(self) -> ParameterSpace:
        """The parameters a posterior is about, with their marginal prior."""
        return ParameterSpace([p for p in self if p.inferred], inferred_of(self._blocks, self))

    @property
    def inferred_columns(self) -> list[int]:
        """Columns of theta that belong to `inferred`."""
        return [i for i, p in enumerate(self) if p.inferred]

    def design(self, n: int, seed: int, kind: Design = "random") -> Tensor:
        """`n` points of the prior, float64, shape (n, P).

        Args:
            n: number of points.
            seed: of the design. Random and Sobol designs of one seed agree in their first rows
                whatever n; a Latin hypercube does not.
            kind: ``"random"`` (independent: p-values of calibration hold), ``"sobol"`` (scrambled)
                or ``"latin_hypercube"``.

        Raises:
            ParameterError: for a negative n, a bad seed or an unknown kind.
        """
        check_seed(seed)
        n = whole(n, "n of a design", least=0, error=ParameterError)
        if kind not in ("random", "sobol", "latin_hypercube"):
            raise ParameterError(
                "design", expected="kind random, sobol or latin_hypercube",
                got=f"kind={kind!r}", fix="correct the arguments",
            )  # fmt: skip
        if not len(self):
            return torch.empty((n, 0), dtype=torch.float64)
        uniform = torch.from_numpy(unit_cube(n, len(self), seed, kind))
        columns = [p._prior.icdf(column) for p, column in zip(self, uniform.T, strict=True)]
        for prior, places in self._blocks:
            u = probit(uniform[:, places], 1 - uniform[:, places])
            for place, column in zip(places, prior.from_unconstrained(u).T, strict=True):
                columns[place] = column
        return torch.stack(columns, dim=1)

    def completed(self, inferred: Tensor, seed: int) -> Tensor:
        """Draws of all parameters given the inferred ones.

        Args:
            inferred: theta of the inferred parameters, (n, P'), inside the support.
            seed: of the nuisance parameters.

        Returns:
            (n, P), nuisance parameters from their prior given the others.
        """
        theta = self.design(len(inferred), seed)
        fresh, mine = theta.clone(), self.inferred_columns
        theta[:, mine] = inferred
        for prior, places in self._blocks:
            prior.complete(theta, fresh, places, [c in mine for c in places])
        return theta

    def table(
        self, theta: Any, what: str = "theta", error: type[SbitoolsError] = ParameterError
    ) -> Tensor:
        """Theta as float64, columns in the order of the parameters; values are not checked.

        Args:
            theta: tensor, array or nested sequence (..., P); or a table with named columns or
                units (see `sbitools.labels.table_values`): columns are found by name, others are
                ignored, quantities are converted.
            what: name for the message.
            error: class to raise.

        Raises:
            SbitoolsError: of class `error`, for missing or double columns, units that do not
                convert, masked values, and what is no table of real numbers.
        """
        return real_tensor(self.columns(theta, what, error), what, error).to(torch.float64)

    def columns(
        self, theta: Any, what: str = "theta", error: type[SbitoolsError] = ParameterError
    ) -> Any:
        """As `table`, in whatever type and dtype it comes."""
        if is_tensor(theta):
            return theta
        return table_values(theta, self.names, [p.unit for p in self], what, error)

    def check(self, theta: Any, what: str = "theta") -> Tensor:
        """Return theta as float64 of shape (n, P).

        Args:
            theta: tensor, array, or a table with labels: see `table`.
            what: name for the message.

        Raises:
            ParameterError: for a wrong shape, labels that do not fit, or values outside a prior's
                support or not finite; the message names it and the first bad row.
        """
        theta = self.table(theta, what)
        if theta.ndim != 2 or theta.shape[1] != len(self):
            raise ParameterError(
                what, expected=f"shape (n, {len(self)}), columns {self.names}",
                got=f"shape {tuple(theta.shape)}", fix="one row per simulation",
            )  # fmt: skip
        for p, column in zip(self, theta.T, strict=True):
            bad = (~p._prior.contains(column)).nonzero().flatten()
            if len(bad):
                row = int(bad[0])
                raise ParameterError(
                    f"{what} column {p.name!r}", expected=f"finite values inside {p.prior}",
                    got=f"{float(column[row])} in row {row} ({len(bad)} bad rows)",
                    fix="widen the prior or remove these rows",
                )  # fmt: skip
        for prior, places in self._blocks:
            prior.check(theta[:, places], what)
        return theta

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density of the prior, shape (...,) for theta (..., P); labels as in `table`."""
        return self._sum("log_prob", theta)

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """u (..., P) for theta (..., P): see `sbitools.priors`; labels as in `table`."""
        return self._stacked("to_unconstrained", theta)

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Theta (..., P) for u (..., P): always inside the support."""
        return self._stacked("from_unconstrained", u)

    def log_abs_det(self, theta: Tensor) -> Tensor:
        """log |det du/dtheta|, shape (...,)."""
        return self._sum("log_abs_det", theta)

    def log_abs_det_at(self, u: Tensor, theta: Tensor) -> Tensor:
        """log |det du/dtheta| where u is known as well: exact also where theta is at a bound."""
        u, theta = self._fitting(u), self._fitting(theta)
        alone = self._alone("log_prob", theta) - self._alone("log_prob_unconstrained", u)
        return alone + sum(b.log_abs_det_at(u[..., c], theta[..., c]) for b, c in self._blocks)

    def log_prob_unconstrained(self, u: Tensor) -> Tensor:
        """Log density of the prior of u, shape (...,)."""
        return self._sum("log_prob_unconstrained", u)

    def _fitting(self, values: Tensor) -> Tensor:
        values = self.table(values)
        if values.shape[-1:] != (len(self),):
            raise ParameterError(
                "theta", expected=f"shape (..., {len(self)}), columns {self.names}",
                got=f"shape {tuple(values.shape)}", fix="put the parameters on the last axis",
            )  # fmt: skip
        return values

    def _one(self, parameter: Parameter, method: str, column: Tensor) -> Tensor:
        """A method of the prior of an independent parameter, for its column."""
        return getattr(parameter.prior, method)(column)

    def _stacked(self, method: str, values: Tensor) -> Tensor:
        values = self._fitting(values)
        columns = {i: self._one(self[i], method, values[..., i]) for i in self.free_columns}
        for prior, places in self._blocks:
            own = getattr(prior, method)(values[..., places])
            columns |= {c: own[..., j] for j, c in enumerate(places)}
        return torch.stack([columns[i] for i in range(len(self))], -1) if columns else values

    def _alone(self, method: str, values: Tensor) -> Tensor:
        columns = [self._one(self[i], method, values[..., i]) for i in self.free_columns]
        return torch.stack(columns, -1).sum(-1) if columns else torch.zeros_like(values).sum(-1)

    def _sum(self, method: str, values: Tensor) -> Tensor:
        values = self._fitting(values)
        alone = self._alone(method, values)
        return sum((getattr(b, method)(values[..., c]) for b, c in self._blocks), alone)

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values, for JSON; a joint prior is with the first of its parameters."""
        rows = [p.to_dict() for p in self]
        for prior, places in self._blocks:
            rows[places[0]]["joint"] = prior.to_dict()
        return rows

    @classmethod
    def from_dict(cls, values: list[dict[str, Any]]) -> ParameterSpace:
        """Inverse of `to_dict`.

        Raises:
            ParameterError: for priors that are unknown or do not fit.
        """
        rows = [dict(row) for row in values]
        joint = [joint_from_dict(row.pop("joint")) for row in rows if "joint" in row]
        return cls([Parameter.from_dict(row) for row in rows], joint)

    def digest(self) -> str:
        """sha256 of the specification."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def as_space(value: Any, what: str = "parameters") -> ParameterSpace:
    """`value` if it is a `ParameterSpace`, or one of a list of `Parameter`.

    Raises:
        ParameterError: for anything else.
    """
    if isinstance(value, ParameterSpace):
        return value
    if isinstance(value, list | tuple) and all(isinstance(p, Parameter) for p in value):
        return ParameterSpace(value)
    raise ParameterError(
        what, expected="a ParameterSpace, or a list of Parameter objects",
        got=type(value).__name__,
        fix='for example ParameterSpace([Parameter("a", priors.Uniform(0.0, 1.0))])',
    )  # fmt: skip
