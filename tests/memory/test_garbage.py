"""Garbage that only Python's collector frees does not fill the shared memory, in whichever process it is."""

from __future__ import annotations

import pytest
from programs import Run, ok

CALLS = {
    "arguments": "go(lambda b: b.total(), Batch(t)).result(30)",
    "a bound method": "go(Batch(t).total).result(30)",
    "results": "go(Batch, t).result(30).total()",
    "messages": "(ch.send(Batch(t)), ch.recv().total())[1]",
}


@pytest.mark.parametrize("kind", CALLS)
def test_objects_that_refer_to_themselves(run: Run, kind: str) -> None:
    text = f"""
import numpy, goproc
from goproc import chan, go
class Batch:
    def __init__(self, t): self.a, self.me = numpy.full(1_000_000, t), self
    def total(self): return int(self.a[0])
with goproc.runtime(procs=1, memory="64M"):
    ch = chan(1)
    print([{CALLS[kind]} for t in range(16)] == list(range(16)))
"""
    assert ok(run(text)) == "True\n"


def test_memory_that_is_full(run: Run) -> None:
    text = """
import numpy, goproc
with goproc.runtime(procs=1, memory="64M"):
    kept = [goproc.go(numpy.ones, 1_000_000).result(30) for _ in range(5)]
    for _ in range(3):
        try:
            goproc.go(len, numpy.ones(8_000_000)).result(30)
        except goproc.OutOfSharedMemory:
            print("full")
    print(goproc.go(len, kept[0]).result(30))
"""
    assert ok(run(text)) == "full\nfull\nfull\n1000000\n"
