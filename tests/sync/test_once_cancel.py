"""A goroutine that is cancelled in the middle of a Once leaves it to the next."""

from __future__ import annotations

import pytest

import goproc
from goproc import Atomic, Once, chan, go
from goproc.sync import once_value


def test_a_cancelled_once_is_done_by_the_next(runtime2):
    once, runs, ready = Once(), Atomic(0), chan(1)

    def first():
        runs.add(1)
        ready.send(True)
        goproc.sleep(100)

    g = go.on(1)(lambda: once.do(first))
    assert ready.recv(timeout=10)
    assert g.cancel()
    assert isinstance(g.exception(10), goproc.Cancelled)
    once.do(runs.add, 10)
    once.do(runs.add, 100)
    assert runs.load() == 11


def test_a_cancelled_once_value_is_computed_by_the_next(runtime2):
    runs, ready = Atomic(0), chan(1)

    def value():
        if runs.add(1) == 1:
            ready.send(True)
            goproc.sleep(100)
        return 42

    f = once_value(value)
    g = go.local(f)
    assert ready.recv(timeout=10)
    assert g.cancel()
    with pytest.raises(goproc.Cancelled):
        g.result(10)
    assert f() == f() == 42
    assert runs.load() == 2
