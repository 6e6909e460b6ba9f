"""The options of `train` as editors, type checkers and `help` see them.

What they mean, their defaults and their bounds are said once, by the options of the methods; that
names and types here are theirs is tested.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from torch import nn

from .flows import Family
from .methods import METHODS, find_method
from .symmetry import Symmetry

__all__ = ["RoundKeywords", "TrainKeywords", "list_options"]


class RoundKeywords(TypedDict, total=False):
    """Options of all methods together; that a method has no such option is said when it runs."""

    # of training: `sbitools.training.TrainingOptions`
    epochs: int
    batch_size: int
    optimizer: Literal["adamw", "muon"]
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    schedule: Literal["cosine", "constant"]
    clip_norm: float
    ema_decay: float
    patience: int | None
    validation_fraction: float
    precision: Literal["float32", "bfloat16"]
    time_limit: float | None
    checkpoint_seconds: float
    threads: int | None
    # of all methods
    symmetry: Symmetry
    device: str
    frozen: Literal["none", "embedding"]
    pretrain_epochs: int
    # of the summary network: `sbitools.embeddings.EmbeddingOptions`
    embedding: str | nn.Module | Mapping[str, str | nn.Module]
    features: int
    channels: int
    boundary: str | tuple[str, ...] | None
    ordering: Literal["ring", "nested"] | None
    attention: int
    padded: bool
    patch: int | tuple[int, ...] | None
    depth: int | None
    heads: int | None
    # of npe, nle and discrete
    flow: Family
    flow_hidden: int
    flow_transforms: int
    members: int
    components: int
    emulate: bool
    ensemble: int
    # of fmpe and npse
    field_hidden: int
    field_blocks: int
    time_power: float
    times: int
    steps: int
    # of nre; `hidden` of discrete, too
    hidden: int
    blocks: int
    objective: Literal["contrastive", "balanced"]
    contrasts: int
    odds: float
    balance: float


class TrainKeywords(RoundKeywords, total=False):
    """`RoundKeywords`, and what rounds have as arguments of their own."""

    seed: int
    workers: int


def list_options(function: Callable[..., Any]) -> None:
    """Let `help` and completion see the options that `function` takes as ``**options``.

    Those of the first method that has one give its default.
    """
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    taken, listed = {p.name for p in own} | {"method"}, {}
    for name in METHODS:
        for option, field in find_method(name).options.model_fields.items():
            if option not in taken:
                listed.setdefault(option, inspect.Parameter(
                    option, inspect.Parameter.KEYWORD_ONLY, default=field.default,
                ))  # fmt: skip
    every = signature.replace(parameters=[*own, *listed.values()])
    function.__signature__ = every  # pyright: ignore[reportFunctionMemberAccess]
