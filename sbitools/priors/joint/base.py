"""What a joint prior is: a density of several parameters, and a map to independent normals.

Written as a chain, p(theta_1) p(theta_2 | theta_1) ..., every density has an exact map to
independent standard normal numbers u (Rosenblatt): u_j is the normal score of theta_j given those
before it. So the prior of u is standard normal whatever the block is, and everything that is done
in u (designs, flows, chains) stays as it is.

References:
    | Remarks on a multivariate transformation (Rosenblatt 1952)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ParameterError
from sbitools.gate.plain import text
from sbitools.priors.base import Prior, log_normal_pdf

__all__ = ["Joint", "chain_reach", "minus_infinity"]

# Of u, if it must have an end: a little beyond 8.2, where theta at a bound is put.
_EDGE = 8.25


def chain_reach(laws: Sequence[Prior]) -> list[tuple[float, float]]:
    """Of each u, where u_j moves theta_j and later ones: an end where one of them has none."""
    free = [all(end in (-torch.inf, torch.inf) for end in law.reach()) for law in laws]
    return [
        (-torch.inf, torch.inf) if all(free[j:]) else (-_EDGE, _EDGE) for j in range(len(free))
    ]


def minus_infinity(value: Tensor, inside: Tensor) -> Tensor:
    """`value` where `inside`, minus infinity elsewhere."""
    return value.where(inside, torch.tensor(-torch.inf, dtype=torch.float64))


class Joint:
    """Base: a block of parameters that depend on each other; a frozen dataclass.

    Given to `ParameterSpace`, which binds it to the priors of its parameters. The methods are
    those of `Prior`, of all members at once: theta and u have the shape (..., k), members in the
    order of `names`, and densities the shape (...,).

    Attributes:
        names: of the members, in the order in which they depend on each other.
        laws: their priors, as bound. For a block with `exact_marginals` they are its marginals.
    """

    kind: ClassVar[str]
    exact_marginals: ClassVar[bool] = True
    names: tuple[str, ...]
    laws: tuple[Prior, ...]

    def bound(self, laws: Sequence[Prior | None]) -> Self:
        """This block with the priors of its parameters, None for those that have none.

        Raises:
            ParameterError: if they do not fit.
        """
        own = self._own_laws()
        for name, given, mine in zip(self.names, laws, own, strict=True):
            if given is None and mine is None:
                raise ParameterError(
                    f"parameter {name!r}", expected=f"a prior, which {self.title} joins to others",
                    got="None", fix="give each of its parameters a prior",
                )  # fmt: skip
            if given is not None and mine is not None and given != mine:
                raise ParameterError(
                    f"prior of parameter {name!r}", expected=f"None, or {mine} as {self.title} "
                    "has it", got=f"{given}", fix="leave it out: the block says it",
                )  # fmt: skip
        done = replace(self, laws=tuple(a or b for a, b in zip(own, laws, strict=True)))  # type: ignore[type-var]
        done._check_laws()
        return done

    def _own_laws(self) -> Sequence[Prior | None]:
        """Priors of the members that the block itself says."""
        return [None] * len(self.names)

    def _check_laws(self) -> None:
        """Raise `ParameterError` unless the block can be made of its `laws`."""

    @property
    def title(self) -> str:
        """How messages name the block."""
        return f"the {self.kind} of {', '.join(self.names)}"

    @property
    def rule(self) -> str:
        """What theta must fulfil beside the bounds of each parameter; empty if nothing."""
        return ""

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """u (..., k), independent and standard normal, for theta inside the support."""
        raise NotImplementedError

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Theta (..., k) for u; always inside the support."""
        raise NotImplementedError

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density (...,), minus infinity outside the support."""
        raise NotImplementedError

    def log_abs_det_at(self, u: Tensor, theta: Tensor) -> Tensor:
        """log |det du/dtheta| where u is known: exact also where theta is at a bound."""
        return self.log_prob(theta) - self.log_prob_unconstrained(u)

    def log_prob_unconstrained(self, u: Tensor) -> Tensor:
        """Log density of u: standard normal."""
        return log_normal_pdf(u).sum(-1)

    def log_abs_det(self, theta: Tensor) -> Tensor:
        """log |det du/dtheta|."""
        return self.log_prob(theta) - self.log_prob_unconstrained(self.to_unconstrained(theta))

    def contains(self, theta: Tensor) -> Tensor:
        """True (...,) where theta is inside the closed support of all members and of the block."""
        columns = [law.contains(theta[..., j]) for j, law in enumerate(self.laws)]
        return torch.stack(columns, -1).all(-1)

    def reach(self) -> list[tuple[float, float]]:
        """Of each u, as `Prior.reach`."""
        raise NotImplementedError

    def first(self, names: Sequence[str]) -> Self:
        """The same prior, with these members before the others.

        Raises:
            ParameterError: if the block depends on its order.
        """
        raise NotImplementedError

    def cut(self, n: int) -> Self:
        """The prior of the first `n` members alone, two or more: exact, as u is a chain."""
        raise NotImplementedError

    def complete(
        self, theta: Tensor, fresh: Tensor, columns: Sequence[int], given: Sequence[bool]
    ) -> None:
        """Put draws of the other members, given some, in their columns of theta.

        Args:
            theta: (n, P), with the given members.
            fresh: draws of the prior, (n, P): the randomness.
            columns: of the members.
            given: which of the members are.
        """
        m = sum(given)
        if m in (0, len(given)):
            return
        block = self.first([name for name, known in zip(self.names, given, strict=True) if known])
        order = [columns[self.names.index(name)] for name in block.names]
        # u of the given ones, which come first, depends on none of the others.
        known = torch.cat([theta[:, order[:m]], fresh[:, order[m:]]], 1)
        u = block.to_unconstrained(fresh[:, order])
        u[:, :m] = block.to_unconstrained(known)[:, :m]
        theta[:, order[m:]] = block.from_unconstrained(u)[:, m:]

    def check(self, theta: Tensor, what: str) -> None:
        """Raise `ParameterError` for the first row of theta (n, k) outside the support."""
        bad = (~self.contains(theta)).nonzero().flatten()
        if len(bad):
            values = ", ".join(f"{float(v):.6g}" for v in theta[bad[0]])
            raise ParameterError(
                f"{what} of {self.title}", expected=self.rule or "values that it can have",
                got=f"{values} in row {int(bad[0])} ({len(bad)} bad rows)",
                fix="correct the joint prior or remove these rows",
            )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and TOML; priors of the members are not among them."""
        raise NotImplementedError

    def _safe(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Whether rows are inside, and theta with those outside moved to the middle."""
        inside = self.contains(theta)
        middle = self.from_unconstrained(torch.zeros(theta.shape[-1:], dtype=torch.float64))
        return inside, torch.where(inside[..., None], theta, middle)

    def _check_names(self) -> None:
        names, what = self.names, f"names of a prior {self.kind!r}"
        listed = np.ndim(names) == 1 and not isinstance(names, dict | set)
        plain = tuple(text(n, what, error=ParameterError) for n in names) if listed else ()
        if len(plain) < 2 or len(set(plain)) < len(plain):
            raise ParameterError(
                what, expected="two or more different names of parameters", got=f"{names!r}",
                fix='for example ("a", "b")',
            )  # fmt: skip
        object.__setattr__(self, "names", plain)

    def _wrong_order(self) -> ParameterError:
        return ParameterError(
            self.title, expected="parameters that are inferred, or nuisance, all together",
            got="some of each", fix="set inferred to the same for all of them: the prior of a "
            "part of the block has no closed form",
        )  # fmt: skip
