"""AdamW, and Muon for matrices.

Muon moves a matrix by its orthogonalised momentum: every direction of the gradient, weak ones
too, counts the same (Jordan et al. 2024, kellerjordan.github.io/posts/muon; scaled to the steps of
AdamW, so that one learning rate serves both: Liu et al. 2025, arXiv:2502.16982). PyTorch's own is
used; it takes matrices alone, and the kernels of convolutions are shown to it as such.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

__all__ = ["Muon", "make_optimizer"]

# A matrix with a side below this has few directions: AdamW serves it as well.
_SMALLEST = 16
_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def make_optimizer(
    module: nn.Module, name: str, rate: float, decay: float, threads: int = 1
) -> Any:
    """`"adamw"` or `"muon"`, with the interface of `torch.optim.Optimizer` that training uses.

    Args:
        module: whose parameters are trained.
        name: of the optimiser.
        rate: learning rate.
        decay: of weights, not of biases and gains.
        threads: that Muon may use; the result does not depend on them.
    """
    if name == "muon":
        return Muon(module, rate, decay, threads)
    return _adamw(list(module.parameters()), rate, decay)


class Muon:
    """Muon for the weights of linear maps and convolutions, AdamW for what is left.

    Args:
        module: whose parameters are trained.
        rate: learning rate.
        decay: of weights, not of biases and gains.
        threads: each orthogonalises some of the matrices.
    """

    def __init__(self, module: nn.Module, rate: float, decay: float, threads: int = 1) -> None:
        self.threads = threads
        self.kernels = _kernels(module)
        seen = {id(p) for p in self.kernels}
        # The same memory as the kernels: a step of one is a step of the other.
        self.matrices = [nn.Parameter(p.detach().view(len(p), -1)) for p in self.kernels]
        rest = [p for p in module.parameters() if id(p) not in seen]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(some, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            for some in _equal_work(self.matrices, threads)
        ]
        if rest:
            self.parts.append(_adamw(rest, rate, decay))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for p in self.kernels:
            p.grad = None
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """One step of both."""
        for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.view(len(kernel), -1)
        if self.threads == 1:
            for part in self.parts:
                part.step()
            return
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(lambda part: part.step(), self.parts))

    def state_dict(self) -> dict[str, Any]:
        """The states of both, numbered one after the other."""
        out: dict[int, Any] = {}
        for first, part in zip(self._firsts(), self.parts, strict=True):
            out |= {first + i: row for i, row in part.state_dict()["state"].items()}
        return {"state": out}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for first, part in zip(self._firsts(), self.parts, strict=True):
            end = first + sum(len(group["params"]) for group in part.param_groups)
            state = {i - first: row for i, row in values["state"].items() if first <= i < end}
            part.load_state_dict({**part.state_dict(), "state": state})

    def _firsts(self) -> list[int]:
        sizes = [sum(len(g["params"]) for g in part.param_groups) for part in self.parts]
        return [sum(sizes[:i]) for i in range(len(sizes))]


def _equal_work(matrices: list[nn.Parameter], n: int) -> list[list[nn.Parameter]]:
    """At most n runs of consecutive matrices that take equally long to orthogonalise."""
    work = [min(m.shape) * m.numel() for m in matrices]
    out: list[list[nn.Parameter]] = [[] for _ in range(n)]
    for i, matrix in enumerate(matrices):
        out[min(n - 1, int(n * (sum(work[:i]) + work[i] / 2) / sum(work)))].append(matrix)
    return [some for some in out if some]


def _kernels(module: nn.Module) -> list[nn.Parameter]:
    """Weights of linear maps and convolutions that are not too small.

    Other weights with more than one axis need not be matrices: those of networks that are stacked
    to be run at once, say.
    """
    found = {id(m.weight): m.weight for m in module.modules() if isinstance(m, _MAPS)}
    large = (p for p in found.values() if min(len(p), p[0].numel()) >= _SMALLEST)
    return [p for p in large if isinstance(p, nn.Parameter)]  # what is computed is not trained


def _adamw(parameters: list[nn.Parameter], rate: float, decay: float) -> torch.optim.AdamW:
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
              {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]  # fmt: skip
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=rate)
