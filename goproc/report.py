"""What the program says about its goroutines."""

from __future__ import annotations

from goproc.shm._core import num_goroutine as num_goroutine
