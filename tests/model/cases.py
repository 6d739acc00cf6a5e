"""All configurations."""

from __future__ import annotations

from importlib import import_module

from model.configurations import CONFIGURATIONS, Configuration

__all__ = ["CONFIGURATIONS", "Configuration"]

REGISTER = (
    "channel_cases",
    "lock_cases",
    "task_cases",
    "context_cases",
    "futex_lock",
    "doorbell",
    "detector",
    "collection_cases",
    "extents",
    "watching",
)

for name in REGISTER:
    import_module(f"model.{name}")
