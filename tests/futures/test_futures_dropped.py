"""goproc.futures: calls whose futures are dropped at once, as by a program that submits them for their effect."""

from __future__ import annotations

from typing import Any

from programs import Run, ok

from goproc import chan
from goproc.futures import Executor
from goproc.sync import Atomic


def test_they_run_on_all_workers_at_once(runtime2: Any) -> None:
    begun, gate = chan(2), chan()
    with Executor(2) as executor:
        try:
            for i in range(2):
                executor.submit(lambda i: (begun.send(i), gate.recv_ok()), i)
            assert {begun.recv(20), begun.recv(20)} == {0, 1}
        finally:
            gate.close()


def test_shutdown_cancels_those_that_have_not_begun(runtime2: Any) -> None:
    begun, gate, made = chan(1), chan(), Atomic(0)
    executor = Executor(1)
    executor.submit(lambda: (begun.send(1), gate.recv_ok()))
    for _ in range(50):
        executor.submit(made.add, 1)
    begun.recv(20)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.close()
    executor.shutdown()
    assert made.load() == 0


def test_none_is_lost_where_shared_memory_is_full(run: Run) -> None:
    done = run("""
        import goproc
        from goproc import chan
        from goproc.futures import Executor
        from goproc.sync import Atomic

        with goproc.runtime(procs=1, memory="32M"), Executor() as executor:
            gate, made = chan(), Atomic(0)
            executor.submit(gate.recv_ok)
            for i in range(100):
                executor.submit(lambda data: made.add(1), bytes([i]) * 1_000_000)
            gate.close()
            executor.shutdown()
            print(made.load())
    """)
    assert ok(done) == "100\n"
