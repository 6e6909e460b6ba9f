"""The one training loop, and the batches that are streamed to it."""

from __future__ import annotations

from .loader import StreamingLoader, split
from .loop import TrainingHistory, TrainingOptions, run_training
from .parallel import mean_loss
from .run_state import read_metrics
from .trackers import CSVTracker, TensorBoardTracker

__all__ = [
    "CSVTracker", "StreamingLoader", "TensorBoardTracker", "TrainingHistory", "TrainingOptions",
    "mean_loss", "read_metrics", "run_training", "split",
]  # fmt: skip
