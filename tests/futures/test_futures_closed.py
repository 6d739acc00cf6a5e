"""goproc.futures: an Executor that is closed while a call is being submitted."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from peek import until_blocked

from goproc import chan, go
from goproc._executor import pool
from goproc.futures import Executor


class Closing:
    """Closes an Executor when it is pickled."""

    executor: Executor | None = None

    def __reduce__(self) -> Any:
        assert self.executor is not None
        self.executor.shutdown(wait=False)
        return int, (7,)


def test_a_first_call_that_another_thread_overtakes_is_refused(
    runtime2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Executor(1)

    def closing(size: int) -> Any:
        thread = threading.Thread(target=executor.shutdown)
        thread.start()
        thread.join(20)
        return chan(size)

    monkeypatch.setattr(pool, "chan", closing)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)
    executor.shutdown()
    assert not executor._pool.thread.is_alive()


def test_a_call_that_closes_its_executor_is_made(runtime2: Any) -> None:
    executor = Executor(1)
    executor.submit(abs, -1).result(20)
    Closing.executor = executor
    try:
        future = executor.submit(abs, Closing())
    finally:
        Closing.executor = None
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    assert future.result(20) == 7
    assert called.wait(20)
    executor.shutdown()


def test_a_submit_that_waits_for_room_is_refused(runtime2: Any) -> None:
    gate = chan()
    executor = Executor(1, max_pending=1)
    first = executor.submit(gate.recv_ok)
    waiting = go.local(executor.submit, abs, -1)
    until_blocked(waiting)
    executor.shutdown(wait=False)
    gate.close()
    assert first.result(20) == (None, False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        waiting.result(20)
    executor.shutdown()
