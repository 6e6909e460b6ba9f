"""A bound on what a network may take while it is rebuilt from the numbers in a file.

A checkpoint says how wide and deep its network is, and has its weights. A network that needs far
more memory, or far more steps to make, than these weights account for, is not the one that was
saved: it is refused before the memory is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Budget"]

# Beyond the weights: tables that are computed anew, probes, and what is made on the way.
_ELEMENTS, _PER_ELEMENT = 1 << 26, 16
_PER_TENSOR = 200  # a layer is made in some ten operations


class Budget(TorchDispatchMode):
    """Within the block, torch refuses tensors and loops out of proportion to `tensors`.

    Args:
        tensors: of the checkpoint.
        steps: operations, beside those that make layers.

    Raises:
        ValueError: in the block, before memory is taken for a tensor that is too large, or after
            too many operations.
    """

    def __init__(self, tensors: Iterable[Tensor], steps: int = 20_000) -> None:
        super().__init__()
        sizes = [tensor.numel() for tensor in tensors]
        self.most = _ELEMENTS + _PER_ELEMENT * sum(sizes)
        self.steps = steps + _PER_TENSOR * len(sizes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        """Count, compare, and go on."""
        self.steps -= 1
        if self.steps < 0:
            raise ValueError("a network of more layers than its weights account for")
        size = next((a for a in args if _is_size(a)), ())
        if size and math.prod(size) > self.most:
            raise ValueError(f"an array of {math.prod(size)} numbers, beyond its weights")
        return func(*args, **(kwargs or {}))


def _is_size(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(type(n) is int for n in value)
