"""`go`, its options, and the handle."""

from __future__ import annotations

import contextvars
import gc
import os
import sys

import pytest
from peek import until, until_blocked, until_waiting, waiters

import goproc
from goproc import Atomic, Cancelled, Goroutine, chan, go, goexit, sleep, yield_now


@pytest.fixture(params=["local", "on0", "on1", "any"])
def start(request, runtime2):
    """Every way to start a goroutine."""
    return {"local": go.local, "on0": go.on(0), "on1": go.on(1), "any": go}[request.param]


# -- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["go", "on", "opts"])
def test_arguments_are_copied_now(runtime2, way):
    x = [1]
    g = {"go": go, "on": go.on(1), "opts": go.opts(name="n")}[way](lambda x, *, y: (x, y), x, y=x)
    x.append(2)
    assert g.result(10) == ([1], [1])


def test_local_shares_memory(runtime2):
    x = [1]
    thing = object()
    g = go.local(lambda x, y: x.append(thing), x, y=1)
    g.join(10)
    assert x == [1, thing]


def test_all_kinds_of_arguments(start):
    def f(a, b=2, *args, c, d=4, **kwargs):
        return (a, b, args, c, d, kwargs)

    assert start(f, 1, c=3).result(10) == (1, 2, (), 3, 4, {})
    assert start(f, 1, 5, 6, 7, c=8, d=9, e=10).result(10) == (1, 5, (6, 7), 8, 9, {"e": 10})
    # names that options have elsewhere belong to f
    assert start(lambda **k: k, name="n", proc=1, f=2, timeout=3).result(10) == {
        "name": "n",
        "proc": 1,
        "f": 2,
        "timeout": 3,
    }


def test_all_kinds_of_callables(start):
    class Callable:
        def __call__(self, x):
            return x + 1

        def method(self, x):
            return x + 2

        @classmethod
        def make(cls, x):
            return x + 3

        @staticmethod
        def static(x):
            return x + 4

    import functools

    calls = (
        Callable(),
        Callable().method,
        Callable.make,
        Callable.static,
        functools.partial(pow, 2),
        "x".__add__,
        int,
        abs,
        [].append,
    )
    got = [start(f, "1" if i == 5 else 1).result(10) for i, f in enumerate(calls)]
    assert got == [2, 3, 4, 5, 2, "x1", 1, 1, None]


@pytest.mark.parametrize("bad", [None, 1, "f", [], {}])
def test_objects_that_cannot_be_called(start, bad):
    with pytest.raises(TypeError, match="go of nil func value" if bad is None else "callable"):
        start(bad)


@pytest.mark.parametrize("proc", [3, -1, 256, 10**20])
def test_on_a_process_that_is_not_there(runtime2, proc):
    with pytest.raises(ValueError, match="there are proc 0, the host, and the workers 1 to 2"):
        go.on(proc)


@pytest.mark.parametrize("proc", ["0", 1.0, None, True])
def test_on_something_that_is_no_number(runtime2, proc):
    with pytest.raises(TypeError):
        go.on(proc)


def test_on_runs_there(runtime4):
    from goproc.shm import _core

    for p in range(4):
        gs = [go.on(p)(lambda: (goproc.proc(), os.getpid(), goproc.procs())) for _ in range(20)]
        assert {g.result(10) for g in gs} == {(p, _core.pids()[p], 4)}
    assert go.local(goproc.proc).result(10) == 0
    assert go.on(2)(lambda: go.local(goproc.proc).result()).result(10) == 2


def test_options_combine(runtime2):
    def where():
        return goproc.proc()

    for starter in (go.opts(name="x").on(1), go.on(1).opts(name="x")):
        g = starter(where)
        assert (g.name, g.result(10)) == ("x", 1)
    g = go.opts(name="y").local(where)
    assert (g.name, g.result(10)) == ("y", 0)


def test_names(runtime2):
    def worker():
        return None

    gs = [go(worker), go.opts(name="n" * 200)(worker), go.opts(name="späße")(worker), go(int)]
    names = [g.name for g in gs]
    assert names[0].endswith("worker") and names[1].startswith("nnnn") and names[2:] == ["späße", "int"]
    for g in gs:
        g.join(10)


def test_ids_are_unique(runtime4):
    def nest(n):
        gs = [go(nest, n - 1) for _ in range(3)] if n else []
        return [g.id for g in gs] + [i for g in gs for i in g.result()]

    top = [go(nest, 3) for _ in range(5)]
    ids = [g.id for g in top] + [i for g in top for i in g.result(30)]
    assert len(ids) == len(set(ids)) == 5 * (1 + 3 + 9 + 27)
    assert 1 not in ids and min(ids) > 1


def test_nested_everywhere(runtime4):
    def fib(n):
        if n < 2:
            return n
        a, b = go(fib, n - 1), go(fib, n - 2)
        return a.result() + b.result()

    assert go(fib, 9).result(30) == 34


def test_context_variables(runtime2):
    var = contextvars.ContextVar("var", default="default")
    var.set("mine")
    assert go.local(lambda: var.get()).result(10) == "mine"

    def change():
        var.set("other")
        yield_now()
        return var.get()

    assert go.local(change).result(10) == "other"
    assert var.get() == "mine"


# -- results ----------------------------------------------------------------------------------------------------------


def test_result(start):
    g = start(lambda: {"a": [1, 2]})
    first = g.result(10)
    assert first == {"a": [1, 2]} and g.result() is first
    assert g.exception() is None and g.join() is None
    assert g.state == "done"


def test_join_waits_and_times_out(start):
    c = chan()
    g = start(lambda c: c.recv(), c)
    until_waiting(c, receivers=1)
    assert g.state == "running"
    for wait in (g.join, g.result, g.exception):
        for timeout in (0, 0.002, -1):
            with pytest.raises(TimeoutError):
                wait(timeout)
    assert waiters(g) == (0, 0)
    c.send("x")
    g.join()
    assert (g.state, g.result(timeout=0)) == ("done", "x")


def test_state_of_a_queued_goroutine(runtime0):
    g = go(int)
    assert g.state == "queued"
    assert g.result(10) == 0


def test_many_joiners_over_processes(runtime4):
    c = chan()
    g = go.on(1)(lambda c: c.recv(), c)
    joiners = [go.on(i % 4)(lambda g: g.result(), g) for i in range(12)]
    until_waiting(g, receivers=12)
    c.send("answer")
    assert [j.result(10) for j in joiners] == ["answer"] * 12


def test_exception(start):
    def f():
        raise KeyError("k")

    g = start(f)
    error = g.exception(10)
    assert isinstance(error, KeyError) and error.args == ("k",)
    with pytest.raises(KeyError) as caught:
        g.result()
    assert caught.value is not error  # one that is raised keeps the frames of its caller alive
    assert caught.value.args == ("k",) and g.exception() is error
    assert g.state == "failed"
    notes = "\n".join(getattr(error, "__notes__", []))
    assert "in f" in notes and "test_goroutine.py" in notes


def test_exceptions_are_read_by_all_holders(runtime2):
    def f():
        raise KeyError("k")

    g = go.on(1)(f)
    others = [go.on(p)(lambda g: type(g.exception()).__name__, g) for p in (0, 1)]
    assert [o.result(10) for o in others] == ["KeyError"] * 2
    assert isinstance(g.exception(10), KeyError)


def test_result_that_cannot_be_copied(start):
    g = start(lambda: (i for i in ()))
    with pytest.raises(goproc.PickleError, match="result of"):
        g.result(10)


def test_result_that_nobody_asked_for_needs_no_copy(tmp_path):
    """The statement form: however short the life of the handle that is dropped, its result is nobody's business."""
    import subprocess

    script = tmp_path / "s.py"
    script.write_text(
        "from goproc import go, WaitGroup\n"
        "wg = WaitGroup()\n"
        "def f():\n"
        "    wg.done()\n"
        "    return (i for i in ())\n"
        "for i in range(2000):\n"
        "    wg.add(1)\n"
        "    go(f)\n"
        "wg.wait()\n"
        "print('end')\n"
    )
    env = dict(os.environ, GOPROC_PROCS="2")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=env, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_exception_that_cannot_be_copied(start):
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a}{b}")
            self.lock = __import__("threading").Lock()

    def f():
        raise Odd("o", "dd")

    g = start(f)
    error = g.exception(10)
    if isinstance(error, goproc.RemoteError):
        assert "Odd" in error.type_name and error.text == "odd"
    else:
        assert type(error).__name__ == "Odd" and str(error) == "odd"


def test_goexit(start):
    log = chan(3)

    def f(log):
        try:
            goexit()
        finally:
            log.send("deferred")
        log.send("never")

    g = start(f, log)
    assert g.result(10) is None and g.state == "done"
    assert log.recv_many(3) == ["deferred"]


def test_handle_is_a_value(runtime2):
    g = go.on(1)(lambda: 5)
    way = chan(1)
    way.send({"g": g})
    got = way.recv()["g"]
    assert got is g and got == g and hash(got) == hash(g) and {g: 1}[got] == 1
    assert type(go.on(1)(lambda g: (g.result(), type(g).__name__), g).result(10)) is tuple
    assert isinstance(g, Goroutine) and Goroutine[int]
    assert g.result(10) == 5


def test_repr(runtime0):
    g = go.opts(name="named")(int)
    assert "named" in repr(g) and str(g.id) in repr(g)
    g.join(10)
    assert "done" in repr(g)
    assert repr(go) == "go"


def test_result_with_channels_in_it(runtime2):
    c = go.on(1)(lambda: {"c": [chan(2)]}).result(10)["c"][0]
    c.send(1)
    assert c.recv() == 1


# -- cancellation -----------------------------------------------------------------------------------------------------


BLOCKING = {
    "recv": lambda c: c.recv(),
    "recv_timeout": lambda c: c.recv(timeout=100),
    "send": lambda c: c.send(1),
    "iterate": lambda c: list(c),
    "sleep": lambda c: sleep(100),
    "nil": lambda c: goproc.nil.recv(),
    "group": lambda c: (wg := goproc.WaitGroup(), wg.add(1), wg.wait()),
    "join": lambda c: join_one_that_sleeps(),
}


def join_one_that_sleeps():
    sleeper = go.local(sleep, 100)
    try:
        sleeper.join()
    finally:
        sleeper.cancel()


@pytest.mark.parametrize("what", BLOCKING)
def test_cancel_while_blocked(start, what):
    def f(ready, c, wait):
        ready.send(None)
        wait(c)
        return "went on"

    ready, c = chan(1), chan()
    g = start(f, ready, c, BLOCKING[what])
    ready.recv(timeout=10)
    until_blocked(g)
    assert g.cancel() is True
    with pytest.raises(Cancelled):
        g.result(10)
    assert g.cancel() is False
    assert waiters(c) == (0, 0)


def test_cancel_of_an_ended_goroutine(start):
    g = start(int)
    g.join(10)
    assert g.cancel() is False
    assert g.result() == 0


def test_cancel_before_start(runtime0):
    c = chan(1)
    g = go(lambda c: c.send("ran"), c)
    assert g.cancel() is True and g.cancel() is False
    with pytest.raises(Cancelled):
        g.result(10)
    assert c.try_recv() == (None, False)


def test_cancel_strikes_at_the_next_blocking_point(start):
    def f(ready, cancelled):
        ready.send(None)
        while not cancelled.load():
            pass
        try:
            sleep(10)
        except Cancelled:
            return "cancelled later"

    ready, cancelled = chan(1), Atomic(False)
    g = start(f, ready, cancelled)
    ready.recv(timeout=10)
    g.cancel()
    cancelled.store(True)
    assert g.result(10) == "cancelled later"


def test_cancelled_goroutine_may_clean_up(start):
    """Cancelled is raised once: what the goroutine then does may block, whatever else happens in its process."""

    def f(c, back, other):
        try:
            c.recv()
        except Cancelled:
            back.send("cleaning")
            other.cancel()  # makes this process look around for cancelled goroutines
            return back.recv()

    def idle():
        sleep(100)

    c, back = chan(), chan()
    other = start(idle)
    g = start(f, c, back, other)
    until_waiting(c, receivers=1)
    g.cancel()
    assert back.recv(timeout=10) == "cleaning"
    other.exception(10)
    back.send("done", timeout=10)
    assert g.result(10) == "done"


def test_cancel_from_another_process(runtime4):
    c = chan()
    gs = [go.on(i % 4)(lambda c: c.recv(), c) for i in range(8)]
    until_waiting(c, receivers=8)
    killers = [go.on(3 - i % 4)(lambda g: g.cancel(), g) for i, g in enumerate(gs)]
    assert [k.result(10) for k in killers] == [True] * 8
    assert [type(g.exception(10)) for g in gs] == [Cancelled] * 8


def test_cancelled_is_not_an_exception():
    assert not issubclass(Cancelled, Exception)


def test_cancel_reaches_a_process_that_is_never_idle(start):
    """Goroutines that only sleep for moments keep their scheduler busy; it must look around all the same."""

    def nap(stop):
        while not stop.closed:
            sleep(1e-7)

    stop, c = chan(), chan()
    nappers = [start(nap, stop) for _ in range(3)]
    g = start(lambda c: c.recv(), c)
    until_waiting(c, receivers=1)
    g.cancel()
    try:
        assert isinstance(g.exception(10), Cancelled)
    finally:
        stop.close()
        for n in nappers:
            n.exception(10)


# -- ends of handles --------------------------------------------------------------------------------------------------


def test_unread_cancelled_is_quiet(runtime2):
    c = chan()
    for start in (go.local, go.on(1)):
        g = start(lambda c: c.recv(), c)
        until_waiting(c, receivers=1)
        g.cancel()
        g.join(10)
        del g
        gc.collect()


def test_handles_die_in_any_order(runtime2):
    for i in range(300):
        g = go.on(i % 2)(lambda: None)
        if i % 3 == 0:
            g.join(10)
        if i % 3 == 1:
            yield_now()
        del g
    from goproc.shm import _core

    until(lambda: _core.census()["queued"] == 0)


def test_recursive_handle(runtime2):
    """A goroutine that gets its own handle."""
    way = chan(1)
    g = go.on(1)(lambda c: c.recv().id, way)
    way.send(g)
    assert g.result(10) == g.id
