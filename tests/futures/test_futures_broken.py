"""goproc.futures: an Executor whose worker has died, from the moment when a call tells of that."""

from __future__ import annotations

import pytest
from programs import Run

READS = {
    "result": "try: future.result(30)\nexcept BrokenExecutor: pass",
    "exception": "future.exception(30)",
    "done": "while not future.done(): time.sleep(0.001)",
}

PROGRAM = """
import os, signal, threading, time
from goproc import chan
from goproc.futures import BrokenExecutor, Executor

entered, leave, gate = threading.Event(), threading.Event(), chan(1)

def wait(_):  # the watcher of the Executor makes this call, and is late for the others
    entered.set()
    leave.wait(30)

executor = Executor(2)
executor.submit(gate.recv).add_done_callback(wait)
gate.send(None)
assert entered.wait(30)
future = executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))
{read}
for call in (lambda: executor.submit(abs, -1), lambda: executor.map(abs, [-1])):
    try:
        call()
    except BrokenExecutor as error:
        print("signal 9" in str(error))
leave.set()
executor.shutdown()
"""


@pytest.mark.parametrize("read", READS)
def test_it_takes_no_call_once_one_is_lost(run: Run, read: str) -> None:
    done = run(PROGRAM.format(read=READS[read]))
    assert (done.status, done.out) == (0, "True\nTrue\n"), done
