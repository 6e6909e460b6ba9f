"""One job after the other for `scattering_speed.py`, in foscat's own environment.

Reads lines of JSON and answers each with one; whatever foscat prints goes to stderr. Nothing of
this project is imported here, and foscat is imported nowhere else.

    {"do": "prepare", "nside": 16, "levels": 4, "batch": 8}   number of statistics of a map
    {"do": "step"}                                            seconds of a value and gradient
    {"do": "response", "nside": 16}                           variance of white noise, rms / mean
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

__all__ = ["main"]


class Worker:
    """Keeps the operator and the maps of the last `prepare`."""

    def __init__(self, folder: str) -> None:
        import foscat.scat_cov as scat  # pyright: ignore[reportMissingImports]
        import torch

        torch.set_num_threads(1)
        self.torch, self.scat, self.folder = torch, scat, folder
        self.levels = 0
        self.operator: Any = None
        self.maps: Any = None
        self.target: Any = None

    def prepare(self, nside: int, levels: int, batch: int) -> int:
        """Numbers per map, the mean and its error, S1 and S2 real, S3 and S4 complex."""
        self.levels = levels
        self.operator = self.scat.funct(
            NORIENT=4, KERNELSZ=3, BACKEND="torch", all_type="float32", silent=True,
            TEMPLATE_PATH=self.folder,
        )  # fmt: skip
        generator = self.torch.Generator().manual_seed(1)
        self.maps = self.torch.randn(batch, 12 * nside**2, generator=generator)
        with self.torch.no_grad():
            parts = self._statistics(self.maps)
        self.target = [0.9 * p.mean(0) for p in parts]
        self.step()
        return sum(p[0].numel() for p in parts)

    def step(self) -> float:
        """Seconds of the loss |mean over the batch - target|^2 and its gradient."""
        begun = time.perf_counter()
        x = self.maps.clone().requires_grad_()
        parts = zip(self._statistics(x), self.target, strict=True)
        loss: Any = sum((p.mean(0) - t).abs().square().sum() for p, t in parts)
        loss.backward()
        return time.perf_counter() - begun

    def response(self, nside: int) -> float:
        """Of the wavelets at the finest level, all orientations together, by maps of one pixel."""
        deltas = self.torch.eye(12 * nside**2)
        total: Any = 0.0
        with self.torch.no_grad():
            for some in deltas.split(64):
                total = total + self.operator.convol(some).abs().square().sum(0).double()
        return float(total.std() / total.mean())

    def _statistics(self, x: Any) -> tuple[Any, ...]:
        s = self.operator.eval(x, Jmax=self.levels)
        return s.S0, s.S1, s.S2, s.S3, s.S4


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="foscat-") as folder:
        worker = Worker(folder)
        for line in sys.stdin:
            job = json.loads(line)
            result = getattr(worker, job.pop("do"))(**job)
            print(json.dumps(result), file=answers)


if __name__ == "__main__":
    main()
