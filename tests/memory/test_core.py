"""The core by itself: what `goproc.shm._core` promises to the Python above it."""

from __future__ import annotations

import threading

import pytest
from peek import until, waiters

import goproc
from goproc import chan, go
from goproc.shm import _core


def test_without_a_runtime():
    assert _core.attached() is False and _core.procs() == 0 and _core.proc() == 0 and _core.pids() == []
    assert _core.drain() == _core.DRAIN_STOPS and _core.failed() is None
    assert _core.idle(None) is None and _core.wake() is None
    assert _core.task_next([], False, True) is False


@pytest.mark.parametrize("procs", [0, 257, 2**31])
def test_create_checks_its_arguments(procs):
    with pytest.raises(ValueError):
        _core.create(procs, 64 << 20, 1)


def test_only_one_runtime(runtime0):
    with pytest.raises(RuntimeError, match="already"):
        _core.create(1, 64 << 20, 1)
    with pytest.raises(RuntimeError, match="already"), goproc.runtime(procs=1):
        pass
    assert go(int).result(10) == 0


def test_census_counts(runtime0):
    before = _core.census()
    c = chan(10)
    after = _core.census()
    assert (after["objects"], after["blocks"], after["handles"]) == (
        before["objects"] + 1,
        before["blocks"] + 1,
        before["handles"] + 1,
    )
    c.send("x" * 100)
    assert _core.census()["blocks"] == before["blocks"] + 2
    c.recv()
    assert _core.census()["blocks"] == before["blocks"] + 1
    del c
    assert {k: v for k, v in _core.census().items() if k != "committed"} == {
        k: v for k, v in before.items() if k != "committed"
    }


def test_no_wakeup_is_ever_missed(runtime4):
    """The belt under the sleeping scheduler: it must never be what found the work."""
    a, b = chan(), chan()

    def echo(a, b):
        for v in a:
            b.send(v)
        b.close()

    g = go.on(1)(echo, a, b)
    for i in range(2000):
        a.send(i)
        assert b.recv() == i
    a.close()
    g.join(10)
    assert _core.census()["missed_wakeups"] == 0


def test_definitions_are_stored_once(runtime2):
    def f(i):
        return i

    go.on(1)(f, 0).result(10)
    before = _core.census()["definitions"]
    for i in range(50):
        go.on(1)(f, i).result(10)
    assert _core.census()["definitions"] <= before + 1


@pytest.mark.parametrize("arg", [0, 1, 2**20, 2**32 - 1, 2**40])
def test_definition_that_does_not_exist(runtime0, arg):
    with pytest.raises((RuntimeError, OverflowError)):
        _core.definition_get(arg)


@pytest.mark.parametrize(
    "args",
    [
        (1, 1, 1, 3),
        (2**20, 1, 1, 3),
        (2**31, 5, 1, 3),
        (5, 5, 99, 3),
        (0, 0, 1, 0),
        (0, 0, 1, 4),
        (7, 7, 0, 3),
        (2**32 - 1,) * 4,
    ],
)
def test_handle_that_does_not_exist(runtime0, args):
    """A ref that only a damaged message could contain is refused, not followed."""
    with pytest.raises((RuntimeError, ValueError)):
        _core._handle(*args)


def test_stale_handle_is_recognised(runtime0):
    """An object's number is never used again in the same generation."""
    seen = set()
    for _ in range(200):
        c = chan()
        assert hash(c) not in seen
        seen.add(hash(c))


def test_waiters_come_and_go(runtime0):
    c = chan()
    gs = [go.local(c.recv) for _ in range(300)]
    until(lambda: waiters(c) == (300, 0))
    for g in gs[::2]:
        g.cancel()
    until(lambda: waiters(c) == (150, 0))
    for i in range(150):
        c.send(i)
    assert [g.result(10) for g in gs[1::2]] == list(range(150))
    for g in gs[::2]:
        g.exception(10)


def test_nil_is_always_the_same():
    assert _core.make_nil() is goproc.nil and hash(goproc.nil) == hash(_core.make_nil())


def test_handles_are_collected_by_the_garbage_collector(runtime0):
    import gc

    before = _core.census()["handles"]
    for _ in range(10):
        c, box = chan(), []
        box.append((c.tx, box))
        del c, box
    gc.collect()
    assert _core.census()["handles"] == before


def test_forked_child_is_refused(runtime0):
    import os

    c = chan(1)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            c.send(1)
        except RuntimeError as error:
            status = 0 if "os.fork" in str(error) else 2
        except BaseException:
            status = 3
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(c) == 0
    c.send(2)
    assert c.recv() == 2


def test_operations_of_many_threads_at_once(runtime0):
    """One journal per process: threads must not enter the core together."""
    chans = [chan(2) for _ in range(4)]
    errors = []

    def work(k):
        try:
            for i in range(3000):
                c = chans[(i + k) % 4]
                if i % 3 == 0:
                    c.try_recv()
                else:
                    c.try_send((k, i, "x" * (i % 100)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    for c in chans:
        assert len(c.recv_many(10) if len(c) else []) <= 2


def test_start_and_stop_again_and_again():
    for i in range(12):
        with goproc.runtime(procs=1 + i % 3):
            c = chan(i % 2)
            g = go.on(i % (1 + i % 3))(lambda c, i: c.send(i), c, i)
            assert c.recv(timeout=20) == i
            g.join(20)


def test_stopped_while_workers_still_start():
    for procs in (2, 4):
        with goproc.runtime(procs=procs):
            pass
