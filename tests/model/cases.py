"""All configurations."""

from __future__ import annotations

from model import (
    channel_cases,
    detector,
    doorbell,
    futex_lock,
    lock_cases,
    task_cases,
)  # they register theirs
from model.configurations import CONFIGURATIONS, Configuration

__all__ = [
    "CONFIGURATIONS",
    "Configuration",
    "channel_cases",
    "detector",
    "doorbell",
    "futex_lock",
    "lock_cases",
    "task_cases",
]
