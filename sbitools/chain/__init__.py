"""The chain, from simulations to a report: stages that are skipped, resumed or run again."""

from __future__ import annotations

from .chain import finished_record, run_chain, run_stage, stage_inputs
from .run import Run, Stage
from .stages import COMMANDS, STAGES, STORES, store_section, store_simulator, store_size

__all__ = [
    "COMMANDS", "STAGES", "STORES", "Run", "Stage", "finished_record", "run_chain", "run_stage",
    "stage_inputs", "store_section", "store_simulator", "store_size",
]  # fmt: skip
