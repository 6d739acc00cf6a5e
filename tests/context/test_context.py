"""Contexts beyond the conformance cases: as values, across processes, and of foreign classes."""

from __future__ import annotations

import gc
import threading
from time import monotonic

import pytest
from peek import until, until_waiting
from programs import run

import goproc
from goproc import _propagation, chan, context, default, go, select
from goproc.context import Canceled, DeadlineExceeded
from goproc.errors import GoprocError
from goproc.shm import _core

INFINITY = float("inf")


def state(ctx):
    """Return a context's state as another process sees it."""
    return (
        type(ctx.err()).__name__,
        repr(context.cause(ctx)),
        select(ctx.done(), default).index == 0,
        str(ctx).partition("(")[0],
    )


# -- the exceptions ---------------------------------------------------------------------------------------------------


def test_exceptions():
    assert context.Canceled is goproc.errors.Canceled
    assert context.DeadlineExceeded is goproc.errors.DeadlineExceeded
    assert str(Canceled()) == "context canceled"
    assert str(DeadlineExceeded()) == "context deadline exceeded"
    assert str(DeadlineExceeded("other")) == "other"
    assert issubclass(Canceled, GoprocError) and not issubclass(Canceled, TimeoutError)
    assert issubclass(DeadlineExceeded, GoprocError) and issubclass(DeadlineExceeded, TimeoutError)


def test_err_is_new_each_time(runtime0):
    ctx, cancel = context.with_cancel(context.background())
    cancel()
    assert ctx.err() is not ctx.err()  # what is raised carries a traceback, and that keeps frames alive


@pytest.mark.parametrize("kind", [Canceled, DeadlineExceeded])
def test_exceptions_cross_processes(runtime2, kind):
    def fails():
        raise kind()

    g = go.on(1)(fails)
    exc = g.exception(20)
    assert type(exc) is kind and str(exc) == str(kind())


# -- contexts as values -----------------------------------------------------------------------------------------------


def test_not_to_be_constructed():
    with pytest.raises(TypeError, match="background"):
        context.Context()


def test_identity(runtime0):
    background = context.background()
    assert background == context.background() != context.todo()
    ctx, cancel = context.with_cancel(background)
    one, two = context.with_value(ctx, "k", 1), context.with_value(ctx, "k", 1)
    free, free_too = context.without_cancel(ctx), context.without_cancel(ctx)
    other, _ = context.with_cancel(background)
    everything = [background, context.todo(), ctx, one, two, free, free_too, other]
    for i, a in enumerate(everything):
        for j, b in enumerate(everything):
            assert (a == b) is (i == j)
    assert len(set(everything)) == len(everything)
    assert ctx != ctx.done()
    cancel()
    ctx, _ = context.with_cancel(background)
    for original in (
        background,
        context.todo(),
        ctx,
        context.with_value(ctx, "k", 1),
        context.without_cancel(ctx),
    ):
        ch = chan(1)
        ch.send(original)
        copy = ch.recv()
        assert copy == original and hash(copy) == hash(original)
        assert str(copy) == str(original)
        assert copy.done() == original.done()


def test_travels(runtime4):
    class Key:
        """Its type counts, and is the same again when it comes back."""

        def __init__(self, n):
            self.n = n

        def __eq__(self, other):
            return self.n == other.n

        def __hash__(self):
            return self.n

    ctx, cancel = context.with_cancel_cause(context.background())
    ctx = context.with_value(ctx, Key(1), {"a": [1, 2]})
    ctx, _ = context.with_timeout(ctx, 3600)
    hop = chan()

    def derives(ctx, key, hop):
        assert ctx.value(key) == {"a": [1, 2]}
        child, cancel = context.with_cancel(context.with_value(ctx, "proc", goproc.proc()))
        hop.send((child, cancel))

    for proc in range(4):
        go.on(proc)(derives, ctx, Key(1), hop)
        child, cancel_child = hop.recv(timeout=20)
        assert child.value("proc") == proc
        assert child.value(Key(1)) == {"a": [1, 2]}
        assert child.value(1) is None
        assert child.deadline() == ctx.deadline()
        assert child.err() is None
        assert go.on(2)(state, child).result(20) == ("NoneType", "None", False, str(child).partition("(")[0])
        cancel_child()
        assert type(child.err()) is Canceled and ctx.err() is None
    go.on(3)(cancel, LookupError("far away")).result(20)
    for proc in range(4):
        got = go.on(proc)(state, ctx).result(20)
        assert got[:3] == ("Canceled", "LookupError('far away')", True)


def test_many_layers_travel(runtime2):
    ctx = context.background()
    for i in range(2000):
        ctx = context.with_value(ctx, i, i)
    assert go.on(1)(lambda ctx: (ctx.value(0), ctx.value(1999), ctx.value(-1)), ctx).result(20) == (
        0,
        1999,
        None,
    )


def test_values_that_cannot_travel(runtime2):
    ctx = context.with_value(context.background(), "lock", threading.Lock())
    with pytest.raises(goproc.PickleError):
        go(print, ctx)


def test_value_keys(runtime0):
    ctx = context.with_value(context.background(), 1, "int")
    assert [ctx.value(k) for k in (1, True, 1.0, "1")] == ["int", None, None, None]
    ctx = context.with_value(ctx, (1, "a"), "tuple")
    assert ctx.value((1, "a")) == "tuple"
    assert ctx.value(None) is None
    assert ctx.value([]) is None


def test_bad_arguments(runtime0):
    background = context.background()
    for bad in (float("nan"), -float("nan")):
        with pytest.raises(ValueError, match="NaN"):
            context.with_timeout(background, bad)
        with pytest.raises(ValueError, match="NaN"):
            context.with_deadline(background, bad)
        with pytest.raises(ValueError, match="NaN"):
            context.timeout(bad)
        with pytest.raises(ValueError, match="NaN"):
            context.deadline(bad)
    for call in (
        lambda: context.with_timeout(background, "5"),
        lambda: context.with_deadline(background, None),
        lambda: context.timeout("5"),
        lambda: context.deadline(None),
        lambda: context.with_cancel(7),
        lambda: context.with_value("parent", "k", "v"),
        lambda: context.without_cancel(chan()),
        lambda: context.cause(3),
        lambda: context.after_func(background, "f"),
        lambda: context.with_timeout(background, 1, cause="late"),
        lambda: context.with_cancel_cause(background)[1]("late"),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(ValueError, match="nil parent"):
        context.cause(None)


def test_infinite_deadlines(runtime0):
    ctx, cancel = context.with_timeout(context.background(), INFINITY)
    assert ctx.deadline() is None and ctx.err() is None
    assert str(ctx) == "context.Background.WithCancel"
    cancel()
    assert type(ctx.err()) is Canceled
    ctx, _ = context.with_timeout(context.background(), -INFINITY)
    assert type(ctx.err()) is DeadlineExceeded
    for far in (1e12, 10**400):
        ctx, _ = context.with_deadline(context.background(), far)
        assert ctx.err() is None and ctx.deadline() is None
    ctx, _ = context.with_timeout(context.background(), 3e9)
    assert ctx.err() is None and ctx.deadline() > monotonic() + 1e9


def test_nothing_is_left_of_contexts(runtime0):
    """Cancelled or not: what nobody refers to goes, and a child keeps what it hangs on."""

    def use():
        ctx, cancel = context.with_cancel(context.background())
        for _ in range(3):
            ctx, _ = context.with_timeout(context.with_value(ctx, "k", "v"), 3600)
        if cancelled:
            cancel()
        return ctx

    for cancelled in (True, False):
        use()
        gc.collect()
        _core.collect()
        before = _core.census()["objects"]
        for _ in range(500):
            use()
        gc.collect()
        _core.collect()
        assert _core.census()["objects"] <= before
        leaf = use()
        gc.collect()
        _core.collect()
        assert (leaf.err() is None) is not cancelled
        del leaf


def test_wide_tree_forgets_its_dead_children(runtime0):
    parent, cancel = context.with_cancel(context.background())
    for _ in range(1000):
        context.with_cancel(parent)
    gc.collect()
    _core.collect()
    last, _ = context.with_cancel(parent)
    assert _core.context_children(parent._node) == 1
    cancel()
    assert type(last.err()) is Canceled


# -- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proc", [0, 1, 2])
def test_cancel_wakes_waiters_of_all_processes(runtime4, proc):
    parent, cancel = context.with_cancel(context.background())
    child, _ = context.with_timeout(parent, 3600)

    def receives(ctx):
        ctx.done().recv_ok()
        return type(ctx.err()).__name__

    def selects(ctx):
        return select(chan().recv, ctx).index, type(ctx.err()).__name__

    gs = [go.on(p)(f, child) for p in range(4) for f in (receives, selects)]
    until_waiting(child.done(), receivers=8)
    go.on(proc)(cancel).result(20)
    assert [g.result(20) for g in gs] == ["Canceled", (1, "Canceled")] * 4


@pytest.mark.parametrize("proc", [0, 1])
def test_deadline_wakes_waiters(runtime2, proc):
    ctx, _ = context.with_timeout(context.background(), 0.05, cause=ValueError("slow"))
    below, _ = context.with_cancel(context.with_value(ctx, "k", "v"))

    def waits(ctx):
        index = select(chan(), ctx).index
        return index, type(ctx.err()).__name__, repr(context.cause(ctx)), monotonic() >= ctx.deadline()

    wanted = (1, "DeadlineExceeded", "ValueError('slow')", True)
    gs = [go.on(proc)(waits, c) for c in (ctx, below, ctx)]
    assert [g.result(20) for g in gs] == [wanted] * 3


def test_iteration_over_done_ends(runtime0):
    ctx, cancel = context.with_cancel(context.background())
    g = go.local(lambda: list(ctx.done()))
    goproc.yield_now()
    cancel()
    assert g.result(20) == []


def test_a_passed_deadline_wins_over_a_later_cancel(runtime2):
    """Nobody looked in between; in Go the timer would have fired."""
    parent, cancel = context.with_cancel(context.background())
    child, cancel_child = context.with_timeout(parent, 0.005, cause=ValueError("slow"))
    goproc.sleep(0.02)  # past the deadline
    cancel()
    assert state(child)[:2] == ("DeadlineExceeded", "ValueError('slow')")
    assert type(parent.err()) is Canceled
    child, cancel_child = context.with_timeout(context.background(), 0.005)
    goproc.sleep(0.02)  # past the deadline
    cancel_child()
    assert type(child.err()) is DeadlineExceeded


def test_done_cannot_be_sent_to_or_closed(runtime0):
    ctx, cancel = context.with_cancel(context.background())
    with pytest.raises(TypeError):
        ctx.done().send(1)
    with pytest.raises(TypeError):
        ctx.done().close()
    cancel()


def test_cancel_from_a_thread(runtime2):
    ctx, cancel = context.with_cancel(context.background())
    g = go.on(1)(lambda ctx: ctx.done().recv_ok(), ctx)
    thread = threading.Thread(target=cancel)
    thread.start()
    assert g.result(20) == (None, False)
    ctx.done().recv_ok()
    thread.join()


# -- after_func -------------------------------------------------------------------------------------------------------


def test_after_func_runs_where_it_was_registered(runtime2):
    ctx, cancel = context.with_cancel(context.background())
    out = chan(2)

    def registers(ctx, out):
        context.after_func(ctx, lambda: out.send(goproc.proc()))

    for p in range(2):
        go.on(p)(registers, ctx, out).result(20)
    go.on(1)(cancel).result(20)
    assert sorted(out.recv(timeout=20) for _ in range(2)) == [0, 1]


def test_stop_from_another_process(runtime2):
    ctx, cancel = context.with_cancel(context.background())
    called = []
    stop = context.after_func(ctx, lambda: called.append(1))
    assert go.on(1)(stop).result(20) is True
    assert go.on(1)(stop).result(20) is False
    assert stop() is False
    cancel()
    goproc.sleep(0.01)  # nothing is to happen
    assert called == []


def test_after_func_of_a_context_that_never_ends(runtime0):
    before = goproc.num_goroutine()
    for ctx in (context.background(), context.without_cancel(context.with_cancel(context.background())[0])):
        stop = context.after_func(ctx, lambda: None)
        assert goproc.num_goroutine() == before
        assert stop() and not stop()


def test_after_func_from_a_thread(runtime0):
    ctx, cancel = context.with_cancel(context.background())
    called = chan(1)
    thread = threading.Thread(
        target=lambda: context.after_func(ctx, lambda: called.send(threading.get_ident()))
    )
    thread.start()
    thread.join()
    cancel()
    assert called.recv(timeout=20) == threading.get_ident()


def test_stop_and_cancel_race(runtime4):
    """Exactly one of them wins."""
    for _ in range(50):
        ctx, cancel = context.with_cancel(context.background())
        called = chan(1)
        stop = context.after_func(ctx, lambda called=called: called.send(True))
        canceller, stopper = go.on(1)(cancel), go.on(2)(stop)
        canceller.result(20)
        if stopper.result(20):
            goproc.sleep(0.001)  # nothing is to happen
            assert len(called) == 0
        else:
            assert called.recv(timeout=20)


# -- contexts of other classes ----------------------------------------------------------------------------------------


class Request:
    """A context as a web framework might have: done when the client hangs up."""

    def __init__(self, until=None):
        self.hung_up = chan()
        self.error = None
        self.until = until

    def done(self):
        return self.hung_up

    def err(self):
        return self.error

    def deadline(self):
        return self.until

    def value(self, key):
        return "10.0.0.1" if key == "peer" else None


def test_foreign_parent(runtime0):
    request = Request(until=monotonic() + 100)
    named = context.with_value(request, "user", "me")
    assert named.err() is None and named.done() == request.hung_up and named.deadline() == request.until
    ctx, _ = context.with_cancel(named)
    assert ctx.deadline() == request.until
    assert ctx.value("peer") == "10.0.0.1" and ctx.value("user") == "me"
    later, _ = context.with_timeout(ctx, 3600, cause=ValueError("unused"))
    assert str(later).endswith("WithCancel") and later.deadline() == request.until
    sooner, _ = context.with_timeout(ctx, 50)
    assert sooner.deadline() < request.until
    free = context.without_cancel(ctx)
    assert free.deadline() is None and free.value("peer") == "10.0.0.1"
    assert context.cause(named) is None and context.cause(request) is None
    request.error = ConnectionResetError("bye")
    request.hung_up.close()
    ctx.done().recv_ok(timeout=20)
    assert type(ctx.err()) is Canceled
    assert repr(context.cause(ctx)) == repr(context.cause(later)) == "ConnectionResetError('bye')"
    assert named.err() is request.error and context.cause(named) is request.error
    assert free.err() is None
    late, _ = context.with_cancel(request)
    assert repr(context.cause(late)) == "ConnectionResetError('bye')"


def test_foreign_parent_that_times_out(runtime0):
    request = Request()
    ctx, _ = context.with_timeout(request, 3600, cause=ValueError("not by this one"))
    request.error = TimeoutError("the client's")
    request.hung_up.close()
    ctx.done().recv_ok(timeout=20)
    assert type(ctx.err()) is DeadlineExceeded
    assert repr(context.cause(ctx)) == """TimeoutError("the client's")"""


def test_foreign_parent_with_own_timeout_below(runtime0):
    before = goproc.num_goroutine()
    request = Request()
    ctx, _ = context.with_timeout(request, 0.01)
    until(lambda: goproc.num_goroutine() == before)  # the helper ends with the child, by its deadline, too
    assert type(ctx.err()) is DeadlineExceeded


def test_children_of_foreign_children_need_no_helper(runtime0):
    before = goproc.num_goroutine()
    request = Request()
    ctx, cancel = context.with_cancel(request)
    for _ in range(5):
        ctx, _ = context.with_cancel(context.with_value(ctx, "k", "v"))
    assert goproc.num_goroutine() == before + 1
    cancel()
    assert type(ctx.err()) is Canceled
    until(lambda: goproc.num_goroutine() == before)


def test_registrations_of_ended_children_are_dropped(runtime0):
    class Registering(Request):
        registered = 0

        def after_func(self, f):
            self.registered += 1

            def stop():
                self.registered -= 1
                return True

            return stop

    request = Registering()
    for _ in range(300):
        context.with_timeout(request, 0)  # its deadline calls nobody
    assert request.registered <= 130
    assert len(_propagation._stops) == request.registered
    _propagation._stops.clear()


# -- whole programs ---------------------------------------------------------------------------------------------------


def test_a_registered_function_holds_no_deadlock_off(tmp_path):
    done = run(
        tmp_path,
        """
        import goproc
        from goproc import context

        ctx, cancel = context.with_cancel(context.background())
        context.after_func(ctx, print)
        goproc.chan().recv()
        """,
    )
    assert done.status == 2
    assert done.err.startswith("fatal error: all goroutines are asleep - deadlock!\n")
    assert "context.after_func" in done.err


def test_deadlines_to_come_are_no_deadlock(tmp_path):
    done = run(
        tmp_path,
        """
        import goproc
        from goproc import context, go

        ctx, cancel = context.with_timeout(context.background(), 0.4)
        below, _ = context.with_cancel(ctx)
        g = go.on(1)(lambda ctx: (ctx.done().recv_ok(), str(ctx.err())), below)
        below.done().recv_ok()
        print(g.result())
        try:
            with context.timeout(0.4):
                goproc.chan().recv()
        except context.DeadlineExceeded as error:
            print(error)
        """,
    )
    assert (done.status, done.err) == (0, "")
    assert done.out == "((None, False), 'context deadline exceeded')\ncontext deadline exceeded\n"


# -- life in shared memory --------------------------------------------------------------------------------------------


def test_sent_while_its_parent_is_cancelled_elsewhere(runtime2):
    """That it is done is written into it by another process, at the moment at which this one marks it as shared."""
    parents, ready = chan(), chan(1)

    def cancel():
        for parent in parents:
            ready.send(None)
            _core.context_cancel(parent, 1, None)

    g = go.on(1)(cancel)
    nodes = chan(200)
    end = monotonic() + 2
    while monotonic() < end:
        parent = _core.context_new(None, None)
        children = [_core.context_new(parent, None) for _ in range(200)]
        parents.send(parent)
        ready.recv()
        for child in children:
            nodes.send(child)
        del child
        children.clear()  # they are in flight only: gone, had they not been marked
        for _ in range(200):
            nodes.recv().recv_ok()
    parents.close()
    g.join()


@pytest.mark.parametrize("order", ["parents first", "children first"])
def test_a_chain_that_was_sent_is_collected_at_once(runtime0, order):
    def census():
        gc.collect()
        _core.collect()
        return _core.census()["objects"]

    before = census()
    nodes = [_core.context_new(None, None)]
    while len(nodes) < 300:
        nodes.append(_core.context_new(nodes[-1], None))
    messages = chan(300)
    for node in nodes:
        messages.send(node)
    for _ in range(300):
        messages.recv()
    if order == "children first":
        nodes.reverse()
    while nodes:
        nodes.pop(0)
    del node, messages
    assert census() == before


def test_parents_dropped_before_their_children_do_not_pile_up(runtime0):
    def family():
        parent = _core.context_new(None, None)
        child = _core.context_new(parent, None)
        del parent
        return child

    family()
    before = _core.census()["objects"]
    for _ in range(5000):
        family()
    assert _core.census()["objects"] < before + 1000
