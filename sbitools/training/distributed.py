"""Data parallelism under `torchrun`; every function is a no-op in a single process.

Gradients are averaged by hand after `backward`, so that losses may call any method of the module
and use forward-mode derivatives, which DistributedDataParallel does not support.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = [
    "agree", "average_gradients", "barrier", "broadcast", "local_device", "mean", "rank", "ratio",
    "session", "share", "world_size",
]  # fmt: skip


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def session(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, for as long as the block runs.

    Args:
        device: where the module is; GPUs talk by nccl, processors by gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def local_device() -> torch.device:
    """The GPU of this process among those of its machine, else the processor."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    index = int(os.environ.get("LOCAL_RANK", "0"))
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def barrier() -> None:
    """Wait for the others."""
    if dist.is_initialized():
        dist.barrier()


def share(batch: Sequence[Tensor]) -> tuple[list[Tensor], float]:
    """This rank's rows of a batch, and the weight that makes the ranks' mean the batch's mean."""
    n, world = len(batch[0]), world_size()
    if world == 1:
        return list(batch), 1.0
    rows = slice(rank(), None, world) if n >= world else slice(0, None)
    local = [t[rows] for t in batch]
    return local, len(local[0]) * world / n if n >= world else 1.0


def average_gradients(module: nn.Module) -> None:
    """Replace gradients by their mean over the ranks."""
    if world_size() == 1:
        return
    parameters = [p for p in module.parameters() if p.requires_grad]
    for p in parameters:  # every rank must send the same tensors
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    flat /= world_size()
    start = 0
    for p in parameters:
        if p.grad is not None:
            p.grad.copy_(flat[start : start + p.numel()].view_as(p))
            start += p.numel()


def broadcast(module: nn.Module) -> None:
    """Give every rank the first one's weights."""
    if world_size() > 1:
        for value in module.state_dict().values():
            dist.broadcast(value, 0)


def _sum(values: Sequence[float]) -> list[float]:
    if world_size() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    if dist.get_backend() == "nccl":
        total = total.cuda()
    dist.all_reduce(total)
    return total.tolist()


def mean(value: Tensor) -> float:
    """Mean over the ranks."""
    return _sum([float(value)])[0] / world_size()


def ratio(total: float, count: int) -> float:
    """Sum of totals over sum of counts."""
    all_total, all_count = _sum([total, float(count)])
    return all_total / max(all_count, 1.0)


def agree(flag: bool) -> bool:
    """True on every rank if it is true on one."""
    return _sum([float(flag)])[0] > 0
