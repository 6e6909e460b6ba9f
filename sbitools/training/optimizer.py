"""AdamW, and Muon for matrices.

Muon moves a matrix by its orthogonalised momentum: every direction of the gradient, weak ones
too, counts the same (Jordan et al. 2024, kellerjordan.github.io/posts/muon; scaled to the steps of
AdamW, so that one learning rate serves both: Liu et al. 2025, arXiv:2502.16982). The kernels of
convolutions are seen as matrices. PyTorch's own orthogonalises in bfloat16, which a processor that
does not multiply bfloat16 in hardware takes 20 times as long for.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "make_optimizer", "orthogonalised"]

# A matrix with a side below this has few directions: AdamW serves it as well.
_SMALLEST = 16
_MOMENTUM = 0.95
# Of Newton-Schulz: a singular value s becomes a s + b s^3 + c s^5, five times; those from 0.003 of
# the matrix's norm on end within 0.68 and 1.21.
_A, _B, _C, _TIMES = 3.4445, -4.775, 2.0315, 5
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
            _MatrixMuon(some, {"lr": rate, "weight_decay": decay})
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


class _MatrixMuon(torch.optim.Optimizer):
    """Muon for matrices alone, with Nesterov's momentum."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                momentum = state["momentum_buffer"].lerp_(p.grad, 1 - _MOMENTUM)
                update = orthogonalised(p.grad.lerp(momentum, _MOMENTUM))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                # Entries of the size of AdamW's steps: 0.2 in the root mean square.
                p.add_(update, alpha=-0.2 * max(p.shape) ** 0.5 * group["lr"])


def orthogonalised(x: Tensor) -> Tensor:
    """The matrix (m, n) with singular values near 1, in place of those it has.

    Newton-Schulz, for the Gram matrix of the shorter side: x is multiplied once, at the end, by a
    polynomial of x x^T, which leaves 40 % of the operations for a matrix of 128 x 1152. Products
    have to be those of float32: rounding of the Gram matrix grows 10,000 times in directions that
    x hardly has.
    """
    wide = x if x.shape[0] <= x.shape[1] else x.mT
    wide = wide / wide.norm().clamp(min=1e-7)
    gram = wide @ wide.mT
    total = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for _ in range(_TIMES):
        factor = torch.addmm(gram, gram, gram, beta=_B, alpha=_C)
        factor.diagonal().add_(_A)
        total = factor @ total
        gram = factor @ gram @ factor
    wide = total @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.mT


def _equal_work(matrices: list[nn.Parameter], n: int) -> list[list[nn.Parameter]]:
    """At most n runs of consecutive matrices that take equally long to orthogonalise."""
    work = [min(m.shape) ** 2 * (2 * max(m.shape) + 4 * _TIMES * min(m.shape)) for m in matrices]
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
