"""Campaigns: the act of filling a store, on local processes or a Dask cluster."""

from __future__ import annotations

from sbitools.store.parts import RejectedSimulation

from .campaign import CampaignInterrupted, plan, simulate

__all__ = ["CampaignInterrupted", "RejectedSimulation", "plan", "simulate"]
