"""Programs that run out of descriptors, processes, address space, shared memory, or room on a disk.

Each gets a clear error at the line that needed more, or ends with one report. The rest works as before.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from typing import Any

import programs
import pytest
import scarce_files
import scarce_memory
import scarce_processes
from programs import Done
from scenarios import HEAD, Scenario

HERE = Path(__file__).parent
SCENARIOS = [*scarce_files.SCENARIOS, *scarce_processes.SCENARIOS, *scarce_memory.SCENARIOS]
LIMIT = 20.0  # seconds


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls fail."""
    library = tmp_path_factory.mktemp("scarce") / "scarce.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, HERE / "scarce.c", "-ldl", "-o", library], check=True)
    return library


def execute(scenario: Scenario, folder: Path, shim: Path) -> Done:
    env: dict[str, str | None] = {"PYTHONPATH": str(HERE)}
    if scenario.shim:
        env |= {"LD_PRELOAD": str(shim), "SCARCE": str(folder)}
    streams: dict[str, Any] = {}
    with ExitStack() as stack:
        if scenario.full:
            streams[f"std{scenario.full}"] = stack.enter_context(open("/dev/full", "wb"))
        return programs.run(
            folder,
            dedent(HEAD) + dedent(scenario.text),
            procs=scenario.procs,
            how=scenario.how,
            options=scenario.options,
            env=env,
            limit=LIMIT,
            **streams,
        )


def wrong(scenario: Scenario, done: Done) -> str:
    """Return which of status, output and errors is not as expected, or ""."""
    if done.status != scenario.status:
        return f"status {scenario.status} expected"
    for name, pattern, text in (("output", scenario.out, done.out), ("errors", scenario.err, done.err)):
        if not re.fullmatch(pattern, text, re.DOTALL):
            return f"{name} {pattern!r} expected"
    return ""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_exhaustion(scenario: Scenario, tmp_path: Path, shim: Path) -> None:
    done = execute(scenario, tmp_path, shim)
    assert not (complaint := wrong(scenario, done)), (complaint, done)
