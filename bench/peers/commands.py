"""Whole commands: how long a script takes from its start to its end, and how long an import takes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

SCRIPTS = Path(__file__).parent.parent / "scripts"


def _goproc_command() -> list[str]:
    """The installed ``goproc`` command, else the module."""
    command = Path(sys.executable).parent / "goproc"
    return [str(command)] if command.exists() else [sys.executable, "-m", "goproc"]


def _seconds(command: list[str], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        times.append(perf_counter() - start)
        if done.returncode or not done.stdout.startswith("hello"):
            lines = done.stderr.strip().splitlines() or [f"it printed {done.stdout!r}"]
            raise RuntimeError(f"exit status {done.returncode}: {lines[0]}")
    return statistics.median(times[1:])


def python(script: str, repeats: int) -> dict[str, Any]:
    """``python script``."""
    return {"value": _seconds([sys.executable, str(SCRIPTS / script)], repeats)}


def goproc_run(script: str, procs: int, repeats: int) -> dict[str, Any]:
    """``goproc run script --procs N``."""
    return {
        "value": _seconds([*_goproc_command(), "run", str(SCRIPTS / script), "--procs", str(procs)], repeats)
    }


def printed(script: str, procs: int, repeats: int, plain: bool = False) -> dict[str, Any]:
    """Return the time in seconds that a script prints at its end. Its argument is its start, by the monotonic clock.

    Args:
        plain: start it by ``python script``, not by ``goproc run script --procs N``.
    """
    start = [sys.executable] if plain else [*_goproc_command(), "run", "--procs", str(procs)]
    environ = {**os.environ, "GOPROC_PROCS": str(procs)}
    times = []
    for _ in range(repeats + 1):
        command = [*start, str(SCRIPTS / script), str(monotonic())]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        times.append(float(done.stdout.split()[-1]))
    return {"value": statistics.median(times[1:])}


def imported(statement: str, repeats: int) -> dict[str, Any]:
    """An import statement, measured inside a fresh interpreter that has imported nothing else."""
    code = f"from time import perf_counter as t; a = t(); {statement}; print(t() - a)"
    times = []
    for _ in range(repeats + 1):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        times.append(float(done.stdout))
    return {"value": statistics.median(times[1:])}
