"""``with timeout(...)``, deadline() and shield(): around any operation, nested, and of several goroutines."""

from __future__ import annotations

import threading
from time import monotonic

import pytest

import goproc
from goproc import Cancelled, _timer, chan, context, default, go, select
from goproc.context import DeadlineExceeded

INFINITY = float("inf")
BLOCKING = {
    "recv": lambda ch: ch.recv(),
    "recv_ok": lambda ch: ch.recv_ok(),
    "send": lambda ch: ch.send(1),
    "iterate": lambda ch: list(ch),
    "recv_many": lambda ch: ch.recv_many(3),
    "select": lambda ch: select(ch),
    "select2": lambda ch: select(ch, chan()),
    "select_send": lambda ch: select((ch.send, 1)),
    "sleep": lambda ch: goproc.sleep(3600),
    "timer": lambda ch: _timer.after(3600).recv(),
    "context": lambda ch: context.with_timeout(context.background(), 3600)[0].done().recv_ok(),
    "long timeout": lambda ch: ch.recv(timeout=3600),
    "nil": lambda ch: goproc.nil.recv(),
    "result": lambda ch: go.local(ch.recv_ok).result(),
}


@pytest.mark.parametrize("what", BLOCKING)
@pytest.mark.parametrize(
    "block", [lambda: context.timeout(0.02), lambda: context.deadline(monotonic() + 0.02)]
)
def test_blocking_operations_raise(runtime0, what, block):
    ch = chan()
    until_ = monotonic() + 0.02
    with pytest.raises(DeadlineExceeded, match=r"^context deadline exceeded$"), block():
        BLOCKING[what](ch)
    assert monotonic() >= until_
    ch.close()
    goproc.yield_now()


@pytest.mark.parametrize("proc", [0, 1])
def test_wait_groups_and_goroutines_of_other_processes(runtime2, proc):
    def works(ch):
        wg = goproc.WaitGroup()
        wg.add(1)
        caught = []
        for wait in (wg.wait, go(ch.recv_ok).join, ch.recv):
            try:
                with context.timeout(0.01):
                    wait()
            except DeadlineExceeded as error:
                caught.append(str(error))
        return caught

    ch = chan()
    assert go.on(proc)(works, ch).result(20) == ["context deadline exceeded"] * 3
    ch.close()


def test_operation_that_does_not_block_is_not_interrupted(runtime0):
    ch = chan(4)
    with context.timeout(-1):
        ch.send(1)
        ch.send(2)
        assert ch.recv() == 1
        assert select(ch, default) == (0, 2, True)
        assert select(ch, default).index == 1
        ch.try_recv()
        with pytest.raises(DeadlineExceeded):
            ch.recv()
        with pytest.raises(DeadlineExceeded):  # again, as long as the block lasts
            ch.recv()
    g = go.local(lambda: ch.recv())
    goproc.yield_now()
    ch.send("after the block")
    assert g.result(20) == "after the block"


def test_own_timeout_may_be_shorter(runtime0):
    with context.timeout(3600):
        with pytest.raises(TimeoutError) as caught:
            chan().recv(timeout=0.01)
        assert not isinstance(caught.value, DeadlineExceeded)


def test_blocks_nest(runtime0):
    with context.timeout(3600):
        with pytest.raises(DeadlineExceeded), context.timeout(0.01):
            chan().recv()
        with pytest.raises(TimeoutError) as caught:
            chan().recv(timeout=0.02)  # the outer one is valid again
        assert type(caught.value) is TimeoutError
    with pytest.raises(DeadlineExceeded), context.timeout(0.01), context.timeout(3600):
        chan().recv()  # the earlier one counts
    with pytest.raises(DeadlineExceeded), context.timeout(0.01), context.timeout(INFINITY):
        chan().recv()
    with context.timeout(INFINITY), pytest.raises(TimeoutError) as caught:
        chan().recv(timeout=0.01)
    assert type(caught.value) is TimeoutError
    with pytest.raises(TimeoutError) as caught:
        chan().recv(timeout=0.01)
    assert type(caught.value) is TimeoutError


def test_a_block_is_restored_after_any_exception(runtime0):
    with pytest.raises(ZeroDivisionError), context.timeout(0):
        1 / 0  # noqa: B018
    goproc.sleep(0.001)  # no deadline is left that would be raised here
    block = context.timeout(0.01)
    for _ in range(2):  # it can be used again, and counts anew
        with pytest.raises(DeadlineExceeded), block:
            chan().recv()
    with context.timeout(3600), pytest.raises(DeadlineExceeded), block, block:
        chan().recv()
    goproc.sleep(0.001)  # as above


def test_blocks_belong_to_their_goroutine(runtime0):
    ch, ready = chan(), chan()

    def bounded():
        with context.timeout(0.01):
            ready.send(True)
            try:
                return ch.recv()
            except DeadlineExceeded:
                return "late"

    def unbounded():
        ready.recv()
        goproc.sleep(0.03)  # longer than the other one's time
        return "in time"

    with context.timeout(3600):
        one, two = go.local(bounded), go.local(unbounded)
        assert (one.result(20), two.result(20)) == ("late", "in time")


def test_a_goroutine_does_not_inherit_the_block(runtime2):
    def sleeps():
        goproc.sleep(0.03)  # longer than the time of the block
        return "in time"

    with pytest.raises(DeadlineExceeded), context.timeout(0.005):
        gs = [go.local(sleeps), go.on(1)(sleeps)]
        goproc.sleep(3600)
    assert [g.result(20) for g in gs] == ["in time"] * 2


def test_shield_keeps_the_deadline_out(runtime0):
    after = []
    with pytest.raises(DeadlineExceeded), context.timeout(0.01):
        with context.shield():
            goproc.sleep(0.03)  # past the deadline
            with context.shield():
                goproc.sleep(0.01)
            goproc.sleep(0.01)
            after.append("cleaned up")
        goproc.sleep(0.01)
        after.append("not reached")
    assert after == ["cleaned up"]


@pytest.mark.parametrize("proc", [0, 1])
def test_shield_holds_cancel_back(runtime2, proc):
    entered, go_on, out = chan(1), chan(1), chan(2)

    def works(entered, go_on, out):
        try:
            with context.shield():
                entered.send(True)
                out.send(go_on.recv())
            goproc.sleep(3600)
        except Cancelled:
            with context.shield():
                goproc.sleep(0.001)
            out.send("cancelled")
            raise

    g = go.on(proc)(works, entered, go_on, out)
    entered.recv(timeout=20)
    assert g.cancel()
    goproc.sleep(0.02)  # nothing to wait on: the shield keeps out what comes meanwhile
    go_on.send("finished")
    assert out.recv(timeout=20) == "finished"
    assert out.recv(timeout=20) == "cancelled"
    assert type(g.exception(20)) is Cancelled


@pytest.mark.parametrize("block", [lambda: context.timeout(5), lambda: context.deadline(5), context.shield])
def test_blocks_in_a_thread(runtime0, block):
    raised = []

    def thread():
        try:
            with block():
                raised.append(None)
        except RuntimeError as error:
            raised.append(error)

    t = threading.Thread(target=thread)
    t.start()
    t.join()
    assert type(raised[0]) is RuntimeError
    assert "goroutine" in str(raised[0])


# -- blocks within blocks -----------------------------------------------------------------------------------------------


def test_a_timeout_inside_a_shield_counts(runtime0):
    """The clean-up of what is out of time has a limit of its own."""
    with context.timeout(0), context.shield():
        goproc.sleep(0.001)  # that one was outside
        with pytest.raises(DeadlineExceeded), context.timeout(0.01):
            chan().recv()
        with context.shield():
            goproc.sleep(0.001)
        with pytest.raises(DeadlineExceeded), context.timeout(0.01):
            goproc.sleep(60)
        goproc.Limiter(1, 1).wait()


def test_a_cancel_waits_for_a_shield_with_a_timeout(runtime0):
    begun, over = chan(), chan(1)

    def f():
        try:
            begun.send(1)
            chan().recv()
        finally:
            with context.shield():
                try:
                    with context.timeout(0.01):
                        chan().recv()
                except DeadlineExceeded:
                    over.send("limit")

    g = go.local(f)
    begun.recv()
    g.cancel()
    assert over.recv(timeout=20) == "limit"
    with pytest.raises(Cancelled):
        g.result(20)


def test_one_block_for_several_goroutines(runtime0):
    """As a constant of a module: each has its own deadline, and none when it has left."""
    limit, shield = context.timeout(0.05), context.shield()
    entered = chan()

    def short():
        with limit, shield:
            entered.send(1)
        goproc.sleep(0.1)  # past the deadline of the block that it has left
        return "fine"

    def long():
        with pytest.raises(DeadlineExceeded), limit:
            with shield:
                entered.send(1)
            chan().recv()
        goproc.sleep(0.001)  # no deadline is left that would be raised here
        return "fine"

    gs = [go.local(f) for f in (short, long, short, long)]
    for _ in gs:
        entered.recv(timeout=20)
    assert [g.result(20) for g in gs] == ["fine"] * 4
