"""A process has no memory of its own left; tests/stress/test_exhaustion.py runs whole programs in little address space."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

import goproc
from goproc import _life, go


def no_memory(*args: object) -> NoReturn:
    raise MemoryError


@pytest.fixture
def ends_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goroutines of this process that fail end without memory."""
    monkeypatch.setattr(_life, "_fail", no_memory)


@pytest.mark.usefixtures("runtime2", "ends_fail")
def test_failure_that_finds_no_memory_is_a_memory_error_of_the_handle() -> None:
    g = go.local(int, "x")
    with pytest.raises(
        MemoryError, match="the process of the goroutine had no memory left for its exception"
    ):
        g.result(20)
    assert go.local(abs, -5).result(20) == 5


@pytest.mark.usefixtures("runtime2", "ends_fail")
def test_failure_that_finds_no_memory_and_no_handle_is_reported(capfd: Any) -> None:
    g = go.local(int, "x")
    del g
    goproc.sleep(0)
    go.local(abs, -5).join(20)
    assert (
        "failed and nobody read its result:\nMemoryError: the process of the goroutine"
        in capfd.readouterr().err
    )


def test_lack_of_memory_after_the_call_is_the_outcome(runtime2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_life.line_output, "finish", no_memory)
        g = go.local(abs, -5)
        goproc.sleep(0.001)
    with pytest.raises(MemoryError):
        g.result(20)
