"""How long a posterior of fields is trained, and on cells of which size its network begins."""

from __future__ import annotations

from typing import Any

from sbitools.errors import ConfigError
from sbitools.simulator import FieldSpec

__all__ = ["propose_training"]

_OPERATIONS = 5e13  # of a training: ten minutes on two cores
_BACKWARD = 3  # that a training step costs, in passes forward
_A_FIELD = 4e8  # operations of one field, above which cells are merged
_EPOCHS = (12, 100)
_COARSEST = 8
_SERIES = 3  # operations on a single axis take so many times as long


def propose_training(spec: FieldSpec, n: int) -> dict[str, Any]:
    """Options of `train` that are not its defaults, because fields of this size cost too much.

    Args:
        spec: of one field.
        n: fields to learn from.
    """
    from sbitools.inference.npe import NPEOptions
    from sbitools.inference.vectors import fitted_whole

    options: dict[str, Any] = {}
    if spec.dtype.startswith("complex") or fitted_whole(NPEOptions.model_validate({}), spec):
        return options
    cost = _operations(spec, None)
    for patch in (2, 4, _COARSEST):
        if cost <= _A_FIELD:
            break
        try:
            cost = _operations(spec, patch)
        except ConfigError:  # another network, or axes too short
            break
        options["patch"] = patch
    low, high = _EPOCHS
    epochs = int(min(high, max(low, _OPERATIONS / max(_BACKWARD * cost * n, 1))))
    return options | ({"epochs": epochs} if epochs < high else {})


def _operations(spec: FieldSpec, patch: int | None) -> float:
    """Multiplications and additions of the summary network for one field."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from sbitools.embeddings import EmbeddingOptions

    network = EmbeddingOptions.model_validate({"patch": patch}).build(spec, 0)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *spec.shape))
    return float(counter.get_total_flops()) * (_SERIES if len(spec.space) == 1 else 1)
