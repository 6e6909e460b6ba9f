"""Blocks of parameters, and the parameters of a space that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sbitools.errors import ParameterError

from .base import Joint

__all__ = ["Block", "bind", "inferred_of"]


class Block(NamedTuple):
    """A joint prior, and the columns of theta that it is about, in its own order."""

    prior: Joint
    columns: list[int]


def bind(parameters: Sequence[Any], joint: Any) -> tuple[tuple[Any, ...], tuple[Block, ...]]:
    """Parameters, with the priors that blocks give them, and the blocks.

    Args:
        parameters: objects with a name, a prior or None, and categories or None.
        joint: a list of `Joint`.

    Raises:
        ParameterError: for names that are unknown or in two blocks, categorical members, priors
            that do not fit, and parameters without a prior.
    """
    out, blocks = list(parameters), []
    place = {p.name: i for i, p in enumerate(out)}
    taken: dict[str, str] = {}
    for prior in _listed(joint):
        _check_members(prior, place, taken, out)
        taken |= dict.fromkeys(prior.names, prior.title)
        columns = [place[name] for name in prior.names]
        done = prior.bound([out[c].prior for c in columns])
        for c, law in zip(columns, done.laws, strict=True):
            if out[c].prior is None:
                out[c] = replace(out[c], prior=law)
        blocks.append(Block(done, columns))
    for p in out:
        if p.prior is None:
            raise ParameterError(
                f"parameter {p.name!r}", expected="a prior, or a joint prior that has it",
                got="None", fix="give a prior of sbitools.priors",
            )  # fmt: skip
    return tuple(out), tuple(blocks)


def _listed(joint: Any) -> list[Joint]:
    listed = isinstance(joint, list | tuple)
    found = [b for b in joint if isinstance(b, Joint)] if listed else []
    if not listed or len(found) < len(joint):
        got = next((b for b in joint if not isinstance(b, Joint)), None) if listed else joint
        raise ParameterError(
            "joint of a ParameterSpace", expected="a list of joint priors",
            got=type(got).__name__, fix='for example joint=[priors.Copula(("a", "b"), 0.8)]',
        )  # fmt: skip
    return found


def _check_members(
    prior: Joint, place: dict[str, int], taken: dict[str, str], parameters: Sequence[Any]
) -> None:
    for name in prior.names:
        what = f"parameter {name!r} of {prior.title}"
        if name not in place:
            raise ParameterError(
                what, expected=f"one of {list(place)}", got="no such parameter",
                fix="correct the name",
            )  # fmt: skip
        if name in taken:
            raise ParameterError(
                what, expected="a parameter of one joint prior", got=f"one of {taken[name]} too",
                fix="make one block of both",
            )  # fmt: skip
        if parameters[place[name]].categories:
            raise ParameterError(
                what, expected="a continuous parameter", got="categories", fix="leave it out"
            )


def inferred_of(blocks: Sequence[Block], parameters: Sequence[Any]) -> list[Joint]:
    """The priors of the inferred members of each block, where there are two or more of them.

    Raises:
        ParameterError: for a block whose nuisance parameters cannot be integrated out.
    """
    kept = []
    for prior, columns in blocks:
        names = [parameters[c].name for c in columns if parameters[c].inferred]
        if len(names) == len(columns):
            kept.append(prior)
        elif names:
            first = prior.first(names)
            kept += [first.cut(len(names))] if len(names) > 1 else []
    return kept
