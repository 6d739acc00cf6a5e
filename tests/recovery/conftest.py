"""Programs whose workers die say nothing about that, unless a test file is about what they say: it has LOUD = True."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import programs
import pytest

import goproc


def _env(request: pytest.FixtureRequest, env: dict[str, str | None] | None) -> dict[str, str | None]:
    loud = getattr(request.module, "LOUD", False)
    return {**({} if loud else {"GOPROC_QUIET_DEATHS": "1"}), **(env or {})}


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> programs.Run:
    """Runs a script to its end: programs.run()."""

    def run(
        text: str, *words: str, env: dict[str, str | None] | None = None, **options: Any
    ) -> programs.Done:
        return programs.run(tmp_path, text, *words, env=_env(request, env), **options)

    return run


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> programs.Start:
    """Starts a script: programs.start()."""

    def start(
        text: str, *words: str, env: dict[str, str | None] | None = None, **options: Any
    ) -> AbstractContextManager[programs.Program]:
        return programs.start(tmp_path, text, *words, env=_env(request, env), **options)

    return start


@pytest.fixture
def workers2() -> Iterator[None]:
    """A runtime of the test's own, with two workers, which may be replaced."""
    with goproc.runtime(procs=2):
        yield
