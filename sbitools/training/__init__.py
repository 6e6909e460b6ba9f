"""The one training loop, and the batches that are streamed to it."""

from __future__ import annotations

from .loader import StreamingLoader, split
from .loop import TrainingHistory, TrainingOptions, read_metrics, run_training

__all__ = [
    "StreamingLoader", "TrainingHistory", "TrainingOptions", "read_metrics", "run_training", "split",
]  # fmt: skip
