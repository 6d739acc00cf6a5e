"""Context: cases J01 to J22 of the conformance list."""

from __future__ import annotations

import gc
import random
from time import monotonic

import pytest
from peek import until

import goproc
from goproc import Atomic, chan, context, default, go, select
from goproc.context import Canceled, DeadlineExceeded
from goproc.shm import _core

HOURS = 3600.0


class Wrapper:
    """A context of the user's own class around another one: everything is passed on."""

    def __init__(self, inner):
        self.inner = inner

    def done(self):
        return self.inner.done()

    def err(self):
        return self.inner.err()

    def deadline(self):
        return self.inner.deadline()

    def value(self, key):
        return self.inner.value(key)


class Own:
    """A context of the user's own class that is none of goproc's underneath."""

    def __init__(self):
        self.channel = chan()
        self.error = None

    def done(self):
        return self.channel.rx

    def err(self):
        return self.error

    def deadline(self):
        return None

    def value(self, key):
        return None

    def end(self, error=None):
        self.error = error or Canceled()
        self.channel.close()


class Registering(Own):
    """As Own, with an after_func method; counts what is registered."""

    def __init__(self):
        super().__init__()
        self.functions = {}
        self.registered = 0

    def after_func(self, f):
        key = object()
        self.functions[key] = f
        self.registered += 1
        return lambda: self.functions.pop(key, None) is not None

    def end(self, error=None):
        super().end(error)
        functions, self.functions = self.functions, {}
        for f in functions.values():
            go.local(f).join(10)


def is_done(ctx):
    index, _, ok = select(ctx.done(), default)
    assert not ok
    return index == 0


def assert_live(*contexts):
    for ctx in contexts:
        assert ctx.done() != goproc.nil
        assert not is_done(ctx)
        assert ctx.err() is None
        assert context.cause(ctx) is None


def assert_ended(kind, *contexts):
    for ctx in contexts:
        assert is_done(ctx)
        assert type(ctx.err()) is kind
        assert str(ctx.err()) == {Canceled: "context canceled"}.get(kind, "context deadline exceeded")


def children(ctx):
    return _core.context_children(ctx._node)


def until_done(ctx):
    assert ctx.done().recv_ok(timeout=20) == (None, False)


@pytest.mark.parametrize(
    "make, text", [(context.background, "context.Background"), (context.todo, "context.TODO")]
)
def test_J01_background_todo(runtime0, make, text):
    ctx = make()
    assert ctx.done() == goproc.nil
    assert select(ctx.done(), default).index == 1
    assert ctx.err() is None
    assert ctx.deadline() is None
    assert ctx.value("key") is None
    assert context.cause(ctx) is None
    assert str(ctx) == text


@pytest.mark.parametrize("proc", [0, 1, 3])
def test_J02_cancel_propagates_synchronously(runtime4, proc):
    c1, cancel = context.with_cancel(context.background())
    wrapper = Wrapper(c1)
    c2, cancel2 = context.with_cancel(wrapper)
    assert str(c1) == "context.Background.WithCancel"
    assert_live(c1, wrapper, c2)
    # Called in whichever process, it has reached all of them when it returns.
    go.on(proc)(cancel).result(20)
    assert_ended(Canceled, c1, wrapper, c2)
    ended = go.on(2)(lambda *contexts: [type(ctx.err()).__name__ for ctx in contexts], c1, c2)
    assert ended.result(20) == ["Canceled", "Canceled"]
    cancel()
    cancel2()
    assert_ended(Canceled, c1, wrapper, c2)


def test_J03_parent_finishes_child(runtime0):
    parent, cancel = context.with_cancel(context.background())
    child, stop_child = context.with_cancel(parent)
    value = context.with_value(parent, "key", "value")
    timer, stop_timer = context.with_timeout(value, 10 * HOURS)
    called = chan(1)
    stop = context.after_func(parent, lambda: called.send(True))
    assert_live(parent, child, value, timer)
    assert children(parent) == 3
    assert children(child) == children(timer) == 0

    cancel()
    assert_ended(Canceled, parent, child, value, timer)
    assert children(parent) == 0
    assert called.recv(timeout=20)
    assert not stop()

    late = context.with_value(parent, "key", "value")
    assert_ended(Canceled, late)
    stop_child()
    stop_timer()


def test_J04_child_finishes_first(runtime0):
    for parent, end in ((context.background(), None), context.with_cancel(context.background())):
        child, cancel = context.with_cancel(parent)
        assert_live(child)
        if end is not None:
            assert children(parent) == 1
        cancel()
        assert_ended(Canceled, child)
        assert parent.err() is None
        if end is not None:
            assert children(parent) == 0
            assert_live(parent)
            end()


def test_J05_cancel_removes(runtime0):
    parent, cancel = context.with_cancel(context.background())
    assert children(parent) == 0
    _, cancel_child = context.with_cancel(parent)
    assert children(parent) == 1
    cancel_child()
    assert children(parent) == 0
    _, cancel_child = context.with_timeout(parent, 60 * HOURS)
    assert children(parent) == 1
    cancel_child()
    assert children(parent) == 0
    stop = context.after_func(parent, lambda: None)
    assert children(parent) == 1
    assert stop()
    assert children(parent) == 0
    cancel()


def test_J06_deadlines(runtime2):
    soon = monotonic() + 0.001
    plain, _ = context.with_deadline(context.background(), soon)
    assert str(plain).startswith("context.Background.WithDeadline(")
    assert plain.deadline() == pytest.approx(soon, abs=1e-6)
    wrapped = Wrapper(context.with_deadline(context.background(), monotonic() + 0.001)[0])
    inner, _ = context.with_deadline(context.background(), monotonic() + 0.001)
    outer, _ = context.with_deadline(Wrapper(inner), monotonic() + 1000 * HOURS)
    timed, _ = context.with_timeout(context.background(), 0.001)
    for ctx in (plain, wrapped, inner, outer, timed):
        until_done(ctx)
        assert_ended(DeadlineExceeded, ctx)
        assert type(context.cause(ctx)) is DeadlineExceeded
    past, _ = context.with_deadline(context.background(), monotonic() - 0.001)
    now, _ = context.with_deadline(context.background(), monotonic())
    never_was, _ = context.with_timeout(context.background(), -HOURS)
    assert_ended(DeadlineExceeded, past, now, never_was)
    assert isinstance(past.err(), TimeoutError)

    def waits(ctx):
        ctx.done().recv_ok()
        return str(ctx.err())

    there, _ = context.with_timeout(context.background(), 0.05)
    assert go.on(1)(waits, there).result(20) == "context deadline exceeded"


def test_J07_timeout_cancel(runtime0):
    ctx, cancel = context.with_timeout(Wrapper(context.background()), 1000 * HOURS)
    assert_live(ctx)
    cancel()
    assert_ended(Canceled, ctx)


class Key1(int):
    pass


class Key2(int):
    pass


def test_J08_values(runtime2):
    def check(ctx, *wanted):
        assert [ctx.value(k) for k in (Key1(1), Key2(1), Key2(3))] == list(wanted)

    check(context.background(), None, None, None)
    c1 = context.with_value(context.background(), Key1(1), "c1k1")
    check(c1, "c1k1", None, None)
    c2 = context.with_value(c1, Key2(1), "c2k2")
    check(c2, "c1k1", "c2k2", None)
    c3 = context.with_value(c2, Key2(3), "c3k3")
    check(c3, "c1k1", "c2k2", "c3k3")
    c4 = context.with_value(c3, Key1(1), None)
    check(c4, None, "c2k2", "c3k3")
    o0 = Wrapper(context.background())
    check(o0, None, None, None)
    o1 = Wrapper(context.with_value(context.background(), Key1(1), "c1k1"))
    check(o1, "c1k1", None, None)
    o2 = context.with_value(o1, Key2(1), "o2k2")
    check(o2, "c1k1", "o2k2", None)
    o3 = Wrapper(c4)
    check(o3, None, "c2k2", "c3k3")
    o4 = context.with_value(o3, Key2(3), None)
    check(o4, None, "c2k2", None)

    named = context.with_value(context.background(), "key", "value")
    assert str(named) == "context.Background.WithValue(key, value)"
    assert str(context.with_value(named, 7, object())) == f"{named}.WithValue(int, object)"
    assert str(c1) == f"context.Background.WithValue({__name__}.Key1, c1k1)"
    assert str(context.with_cancel(named)[0]) == f"{named}.WithCancel"
    assert str(context.without_cancel(named)) == f"{named}.WithoutCancel"


def test_J09_simultaneous_cancels(runtime4):
    root, cancel_root = context.with_cancel(context.background())
    tree = [(root, cancel_root)]
    for i in range(160):
        tree.append(context.with_cancel(tree[i // 4][0]))
    shuffled = tree[:]
    random.shuffle(shuffled)
    callers = [go.on(i % 4)(cancel) for i, (_, cancel) in enumerate(shuffled)]
    for ctx, _ in tree:
        until_done(ctx)
        assert_ended(Canceled, ctx)
    for g in callers:
        g.result(20)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("timers", [False, True], ids=["cancel", "timeout"])
def test_J11_layers(runtime0, seed, timers):
    choice = random.Random(seed)
    ctx = context.background()
    values, cancels, layers = [], [], 0
    while layers < 30 or not cancels:
        kind = choice.randrange(3)
        if kind == 0:
            values.append((object(), layers))
            ctx = context.with_value(ctx, *values[-1])
        elif kind == 1:
            ctx, cancel = context.with_cancel(ctx)
            cancels.append(cancel)
        else:
            ctx, cancel = context.with_timeout(ctx, 0.001 if timers else 10 * HOURS)
            cancels.append(cancel)
        layers += 1
    if timers and str(ctx).find("WithDeadline") < 0:
        ctx, cancel = context.with_timeout(ctx, 0.001)

    def check_values():
        for key, value in values:
            assert ctx.value(key) == value

    check_values()
    if timers:
        until_done(ctx)
        assert_ended(DeadlineExceeded, ctx)
    else:
        assert_live(ctx)
        choice.choice(cancels)()
        assert_ended(Canceled, ctx)
    check_values()
    for cancel in cancels:
        cancel()


def test_J12_child_of_cancelled(runtime2):
    parent, cancel = context.with_cancel_cause(context.background())
    cancel(ValueError("because"))
    for proc in (0, 1):

        def derive(parent):
            child, _ = context.with_cancel(parent)
            return type(child.err()).__name__, repr(context.cause(child)), child.done().recv_ok()

        got = go.on(proc)(derive, parent).result(20)
        assert got == ("Canceled", "ValueError('because')", (None, False))


@pytest.mark.parametrize("proc", [0, 1])
def test_J13_child_created_during_cancel(runtime2, proc):
    for i in range(100):
        parent, cancel = context.with_cancel_cause(context.background())
        canceller = go.on(proc)(cancel, ValueError(i))
        if i % 2:
            goproc.yield_now()
        child, _ = context.with_cancel(parent)
        canceller.result(20)
        assert_ended(Canceled, child)
        assert repr(context.cause(child)) == f"ValueError({i})"


def test_J14_key_checks(runtime0):
    background = context.background()
    with pytest.raises(TypeError, match=r"^key is not comparable$"):
        context.with_value(background, [], "value")
    with pytest.raises(ValueError, match=r"^nil key$"):
        context.with_value(background, None, "value")
    text = r"^cannot create context from nil parent$"
    for make in (
        lambda: context.with_cancel(None),
        lambda: context.with_cancel_cause(None),
        lambda: context.with_deadline(None, monotonic() + 60),
        lambda: context.with_timeout(None, 60),
        lambda: context.with_value(None, "key", "value"),
        lambda: context.without_cancel(None),
        lambda: context.after_func(None, print),
    ):
        with pytest.raises(ValueError, match=text):
            make()


@pytest.mark.parametrize("proc", [0, 1])
def test_J16_cause_poll(runtime2, proc):
    ctx, cancel = context.with_cancel_cause(context.background())
    g = go.on(proc)(cancel, ValueError("TestCauseRace"))
    until(lambda: context.cause(ctx) is not None)
    cause = context.cause(ctx)
    assert type(cause) is ValueError and str(cause) == "TestCauseRace"
    assert type(ctx.err()) is Canceled
    g.result(20)


def test_J17_causes(runtime2):
    """The first to cancel decides on error and cause; a deadline's own cause counts if that deadline passed."""

    def ends(ctx):
        return type(ctx.err()).__name__, repr(context.cause(ctx))

    def checked(ctx):
        there = go.on(1)(ends, ctx).result(20)
        assert there == ends(ctx)
        return there

    background = context.background
    parent, cancel_parent = context.with_cancel_cause(background())
    child, cancel_child = context.with_cancel_cause(parent)
    cancel_parent(ValueError("parent"))
    cancel_child(ValueError("child"))
    assert checked(parent) == checked(child) == ("Canceled", "ValueError('parent')")

    parent, cancel_parent = context.with_cancel_cause(background())
    child, cancel_child = context.with_cancel_cause(parent)
    cancel_child(ValueError("child"))
    cancel_parent(ValueError("parent"))
    assert checked(parent) == ("Canceled", "ValueError('parent')")
    assert checked(child) == ("Canceled", "ValueError('child')")

    ctx, cancel = context.with_cancel_cause(background())
    cancel(None)
    cancel(ValueError("late"))
    assert checked(ctx) == ("Canceled", "Canceled('context canceled')")

    ctx, cancel = context.with_timeout(background(), 0, cause=ValueError("time"))
    below, _ = context.with_cancel(ctx)
    cancel()
    assert checked(ctx) == checked(below) == ("DeadlineExceeded", "ValueError('time')")

    ctx, cancel = context.with_timeout(background(), HOURS, cause=ValueError("time"))
    cancel()
    assert checked(ctx) == ("Canceled", "Canceled('context canceled')")

    early, _ = context.with_timeout(background(), 0.02, cause=ValueError("early"))
    late, _ = context.with_timeout(early, HOURS, cause=ValueError("late"))
    assert str(late).endswith("s]).WithCancel")
    below, _ = context.with_cancel(context.with_value(late, "key", "value"))
    until_done(below)
    assert checked(below) == checked(late) == ("DeadlineExceeded", "ValueError('early')")

    outer, _ = context.with_timeout(background(), HOURS, cause=ValueError("outer"))
    inner, _ = context.with_timeout(outer, 0.02, cause=ValueError("inner"))
    until_done(inner)
    assert checked(inner) == ("DeadlineExceeded", "ValueError('inner')")
    assert outer.err() is None

    free = context.without_cancel(early)
    assert context.cause(free) is None
    fresh, _ = context.with_timeout(free, 0)
    assert checked(fresh) == ("DeadlineExceeded", "DeadlineExceeded('context deadline exceeded')")


def test_J18_without_cancel(runtime0):
    parent, cancel = context.with_timeout(context.background(), HOURS)
    ctx = context.without_cancel(context.with_value(parent, "key", "value"))
    cancel()
    assert ctx.value("key") == "value"
    assert ctx.deadline() is None
    assert ctx.done() == goproc.nil
    assert ctx.err() is None
    assert context.cause(ctx) is None
    child, cancel = context.with_cancel(ctx)
    assert_live(child)
    cancel()
    assert_ended(Canceled, child)


@pytest.fixture(params=["cancel", "own", "registering"])
def ending(request, runtime0):
    """Makes a context and what ends it: goproc's, one of the user's class, and one that has its own after_func."""

    def make():
        if request.param == "cancel":
            return context.with_cancel(context.background())
        ctx = {"own": Own, "registering": Registering}[request.param]()
        return ctx, ctx.end

    return make


def test_J19_afterfunc_called_after_cancel(ending):
    ctx, end = ending()
    called = chan(2)
    stop = context.after_func(ctx, lambda: called.send(True))
    goproc.sleep(0.01)  # nothing is to happen
    assert select(called, default).index == 1
    end()
    assert called.recv(timeout=20)
    assert not stop()
    goproc.sleep(0.01)  # nothing is to happen
    assert select(called, default).index == 1


def test_J19_afterfunc_called_after_timeout(runtime0):
    ctx, _ = context.with_timeout(context.background(), 0.01)
    called = chan(1)
    stop = context.after_func(ctx, lambda: called.send(True))
    assert called.recv(timeout=20)
    assert not stop()


def test_J19_afterfunc_called_immediately(ending):
    ctx, end = ending()
    end()
    called = chan(1)
    stop = context.after_func(ctx, lambda: called.send(True))
    assert called.recv(timeout=20)
    assert not stop()


def test_J19_afterfunc_not_called_after_stop(ending):
    ctx, end = ending()
    called = chan(1)
    stop = context.after_func(ctx, lambda: called.send(True))
    assert stop()
    end()
    goproc.sleep(0.01)  # nothing is to happen
    assert select(called, default).index == 1
    assert not stop()


def test_J19_afterfunc_cancel_does_not_wait(ending):
    ctx, end = ending()
    hold, entered, left = chan(), chan(1), chan(1)

    def f():
        entered.send(True)
        hold.recv()
        left.send(True)

    if isinstance(ctx, Registering):
        ctx.end, end = None, lambda: Own.end(ctx)  # what calls f is then the test
        stop = context.after_func(ctx, f)
        end()
        for registered in ctx.functions.values():
            registered()
    else:
        stop = context.after_func(ctx, f)
        end()
    assert entered.recv(timeout=20)
    assert select(left, default).index == 1
    assert not stop()  # does not wait for it either
    hold.send(True)
    assert left.recv(timeout=20)


def test_J20_afterfunc_multiple(runtime0):
    ctx, cancel = context.with_cancel(context.background())
    calls = chan(10)
    stops = [context.after_func(ctx, lambda i=i: calls.send(i)) for i in range(3)]
    cancel()
    cancel()
    assert sorted(calls.recv(timeout=20) for _ in range(3)) == [0, 1, 2]
    goproc.sleep(0.01)  # nothing is to happen
    assert len(calls) == 0
    assert not any(stop() for stop in stops)


def test_J21_custom_afterfunc_method(runtime0):
    before = goproc.num_goroutine()
    parent = Registering()
    ctx1, cancel1 = context.with_cancel(parent)
    assert parent.registered == len(parent.functions) == 1
    ctx2, cancel2 = context.with_timeout(parent, HOURS)
    assert parent.registered == len(parent.functions) == 2
    assert goproc.num_goroutine() == before
    assert_live(ctx1, ctx2)
    cancel1()
    assert len(parent.functions) == 1
    cancel2()
    assert len(parent.functions) == 0

    stop = context.after_func(parent, lambda: None)
    assert parent.registered == 3 and len(parent.functions) == 1
    assert stop()
    assert len(parent.functions) == 0

    ctx, cancel = context.with_cancel(parent)
    below, _ = context.with_timeout(ctx, HOURS)
    assert parent.registered == 4
    parent.end(DeadlineExceeded())
    assert_ended(DeadlineExceeded, ctx, below)
    assert type(context.cause(below)) is DeadlineExceeded
    cancel()


def test_J22_no_helper_goroutine(runtime0):
    gc.collect()
    before = goproc.num_goroutine()
    top, cancel_top = context.with_cancel(context.background())
    cancels = [cancel_top]
    for parent in (
        top,
        Wrapper(top),
        context.with_value(Wrapper(top), "key", "value"),
        Wrapper(Wrapper(top)),
    ):
        ctx, cancel = context.with_cancel(parent)
        cancels.append(cancel)
        ctx, cancel = context.with_timeout(ctx, HOURS)
        cancels.append(cancel)
    assert goproc.num_goroutine() == before
    for cancel in cancels:
        cancel()

    own = Own()
    children = [context.with_cancel(own) for _ in range(2)]
    assert goproc.num_goroutine() == before + 2
    children[0][1]()
    until(lambda: goproc.num_goroutine() == before + 1)
    assert_live(children[1][0])
    children[1][1]()
    until(lambda: goproc.num_goroutine() == before)

    child, _ = context.with_cancel(own)
    own.end()
    until_done(child)
    assert_ended(Canceled, child)
    until(lambda: goproc.num_goroutine() == before)
    ended = Atomic(0)
    late, _ = context.with_cancel(own)
    context.after_func(late, lambda: ended.add(1))
    assert_ended(Canceled, late)
    until(lambda: ended.load() == 1)
    until(lambda: goproc.num_goroutine() == before)
