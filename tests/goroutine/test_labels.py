"""Names, labels and contextvars: what a goroutine is given by its creator, and how it knows itself."""

from __future__ import annotations

import decimal
import re
import threading
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest
from programs import run as run_program

import goproc
from goproc import Atomic, Cancelled, WaitGroup, chan, current, go, sleep
from goproc._labels import format_labels


# How a goroutine can be started: by each of these the same has to come out.
@pytest.fixture(params=["local", "on0", "on1", "any"])
def opts(request: pytest.FixtureRequest, runtime2: Any) -> Any:
    """``opts(labels=...)(f, ...)``, in some way of starting a goroutine."""
    return {
        "local": lambda **options: go.opts(**options).local,
        "on0": go.on(0).opts,
        "on1": go.on(1).opts,
        "any": go.opts,
    }[request.param]


# -- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({}, ""),
        ({"fizzle": "bit", "foobar": "baz"}, " {fizzle: bit, foobar: baz}"),
        ({"foobar": "baz", "fizzle": "bit"}, " {fizzle: bit, foobar: baz}"),
        ({"a": "b c"}, ' {a: "b c"}'),
        ({"a b": "c"}, ' {"a b": c}'),
        ({"k": "path/to.x_1"}, " {k: path/to.x_1}"),
        ({"k": "a\nb"}, ' {k: "a\\nb"}'),
        ({"k": 'say "hi"\\\t'}, ' {k: "say \\"hi\\"\\\\\\t"}'),
        ({"k": "\x00\x7f\u200b\U000e0001é"}, ' {k: "\\x00\\x7f\\u200b\\U000e0001é"}'),
        ({"k": ""}, ' {k: ""}'),
        ({"k": "a-b"}, ' {k: "a-b"}'),
    ],
)
def test_M07_format(labels: dict[str, str], text: str) -> None:
    assert format_labels(labels) == text


def test_labels_are_known_on_the_handle_and_inside(opts: Any) -> None:
    g = opts(labels={"job": "x", "n": 7})(lambda: goproc.current().labels)
    assert g.labels == g.result(10) == {"job": "x", "n": "7"}
    g.labels["job"] = "y"
    assert g.labels["job"] == "x"


def test_M07_children_inherit_labels(opts: Any) -> None:
    def parent() -> Any:
        def labels() -> dict[str, str]:
            return goproc.current().labels

        own = goproc.go.opts(labels={"job": "mine", "more": "b"})
        children = [
            goproc.go(labels),
            goproc.go.on(0)(labels),
            goproc.go.on(1)(labels),
            goproc.go.local(labels),
            own(labels),
        ]
        return [(child.labels, child.result(10)) for child in children]

    inherited, own = {"job": "x", "a": "b"}, {"job": "mine", "a": "b", "more": "b"}
    result = opts(labels=inherited)(parent).result(10)
    assert result == [(inherited, inherited)] * 4 + [(own, own)]
    assert go(lambda: goproc.current().labels).result(10) == {} == current().labels


def test_a_thread_inherits_nothing_from_the_goroutine_that_happens_to_run(runtime2: Any) -> None:
    def f() -> Any:
        def in_thread() -> None:
            handles.append(goproc.go(lambda: goproc.current().labels))

        handles: list[Any] = []
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        return handles[0].result(10)

    assert go.opts(labels={"a": "b"}).on(1)(f).result(10) == {}


def test_options_add_up(runtime2: Any) -> None:
    placed = go.opts(name="n", labels={"a": "1", "b": "1"}).opts(labels={"b": "2"}).on(1).opts()
    g = placed(lambda: (goproc.current().labels, goproc.current().name, goproc.proc()))
    assert g.result(10) == ({"a": "1", "b": "2"}, "n", 1) and g.name == "n"


def test_wait_groups_and_groups_hand_labels_on(runtime2: Any) -> None:
    def parent() -> Any:
        wg = goproc.WaitGroup()
        g = wg.go(lambda: goproc.current().labels)
        wg.wait()
        return g.result()

    assert go.opts(labels={"a": "b"})(parent).result(10) == {"a": "b"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"labels": {1: "a"}}, r"go\.opts\(labels=\.\.\.\): the names of labels are strings, not int"),
        ({"labels": 5}, "int"),
        ({"name": 5}, r"go\.opts\(name=\.\.\.\) takes a string, not int"),
    ],
)
def test_bad_options(runtime2: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        go.opts(**options)


@pytest.mark.parametrize(
    "how", ["go.opts(labels=l)(f)", "go.opts(labels=l).local(f)", "go.opts(labels=l).on(1)(f)"]
)
def test_labels_in_panics(tmp_path: Path, how: str) -> None:
    script = f"""
        from goproc import go, sleep
        def f():
            raise ValueError("boom")
        l = {{"job": "a b", "id": 3}}
        {how}
        sleep(20)
    """
    done = run_program(tmp_path, script)
    assert done.status == 2
    assert re.match(r'panic: boom\n\ngoroutine \d+ \[running\] \{id: 3, job: "a b"\}:\n', done.err), done.err


@pytest.mark.parametrize(
    "how", ["go.opts(labels=l)(f)", "go.opts(labels=l).local(f)", "go.opts(labels=l).on(1)(f)"]
)
def test_labels_of_failures_that_nobody_reads(tmp_path: Path, how: str) -> None:
    script = f"""
        from goproc import go
        def f():
            raise ValueError("boom")
        l = {{"job": "a b", "id": 3}}
        g = {how}
        g.join()
        g = None
        print("goes on")
    """
    done = run_program(tmp_path, script)
    assert (done.status, done.out) == (0, "goes on\n")
    title = r'goroutine \d+ \(f\) failed and nobody read its result \{id: 3, job: "a b"\}:\nTraceback '
    assert re.match(title, done.err), done.err


# -- current() -------------------------------------------------------------------------------------------------------


def test_current_is_the_handle(opts: Any) -> None:
    def f(handles: Any) -> Any:
        me = goproc.current()
        assert me is goproc.current()
        handles.send(me)
        return me.id, me.name, me.state, me == handles.recv()

    handles = chan(1)
    g = opts(name="x")(f, handles)
    assert g.result(10) == (g.id, "x", "running", True)


def test_current_of_main(runtime2: Any) -> None:
    me = current()
    assert (me.id, me.name, me.state, me.labels) == (1, "main", "running", {}) and me is current()
    assert repr(me) == "<Goroutine 1 main running>"
    assert go.on(1)(lambda main: (main.id, main.state), me).result(10) == (1, "running")


def test_a_goroutine_does_not_keep_its_own_failure(runtime2: Any) -> None:
    """Its handle inside is gone with it; the one outside has the exception."""

    def f() -> None:
        me = goproc.current()
        raise KeyError(me.id)

    g = go.on(1)(f)
    assert g.exception(10).args == (g.id,)


def test_cancel_oneself(opts: Any) -> None:
    def f() -> Any:
        assert goproc.current().cancel()
        try:
            goproc.chan().recv()
        except goproc.Cancelled:
            return "cancelled"

    assert opts()(f).result(10) == "cancelled"


def test_cancel_main(runtime2: Any) -> None:
    go.on(1)(lambda main: main.cancel(), current())
    with pytest.raises(Cancelled):
        chan().recv(20)
    sleep(0)  # once


def test_current_in_a_plain_thread(runtime2: Any) -> None:
    errors = []

    def f() -> None:
        try:
            current()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=f, name="mine")
    thread.start()
    thread.join()
    assert errors == ["this is no goroutine: the code runs in the thread 'mine'"]


def test_current_starts_the_runtime_in_main_only(tmp_path: Path) -> None:
    script = """
        import threading, goproc
        def f():
            try: goproc.current()
            except RuntimeError as e: print(e)
        t = threading.Thread(target=f, name="T"); t.start(); t.join()
        print(goproc.num_goroutine(), goproc.shm._core.attached(), goproc.current(), goproc.num_goroutine())
    """
    done = run_program(tmp_path, script)
    text = "this is no goroutine: the code runs in the thread 'T'\n1 False <Goroutine 1 main running> 1\n"
    assert (done.status, done.out, done.err) == (0, text, "")


# -- contextvars -----------------------------------------------------------------------------------------------------


def in_context(f: Any, *values: tuple[ContextVar[Any], Any]) -> Any:
    def call() -> Any:
        for var, value in values:
            var.set(value)
        return f()

    return copy_context().run(call)


@pytest.mark.parametrize("value", [5, "x", None, [1, {"a": (2,)}], b"x" * 100_000, 1.5])
def test_values_are_inherited(opts: Any, value: Any) -> None:
    var: ContextVar[Any] = ContextVar("var")
    assert in_context(lambda: opts()(lambda: var.get()), (var, value)).result(10) == value


def test_an_unset_variable_keeps_its_default(opts: Any) -> None:
    plain: ContextVar[Any] = ContextVar("plain")
    default: ContextVar[Any] = ContextVar("default", default=(7,))

    def f() -> Any:
        try:
            plain.get()
        except LookupError:
            return default.get()

    assert opts()(f).result(10) == (7,)


def test_the_values_at_go_count(opts: Any) -> None:
    var: ContextVar[Any] = ContextVar("var", default=0)

    def f() -> Any:
        def child() -> int:
            seen = var.get()
            var.set(99)  # nobody else's business
            return seen

        var.set(1)
        g = opts()(child)
        var.set(2)
        h = opts()(child)
        return g.result(10), h.result(10), var.get()

    assert copy_context().run(f) == (1, 2, 2) and var.get() == 0


def test_grandchildren_inherit(runtime2: Any) -> None:
    var: ContextVar[Any] = ContextVar("var")

    def child() -> Any:
        return goproc.go.on(0)(lambda: (var.get(), goproc.go.on(1)(lambda: var.get()).result())).result()

    assert in_context(lambda: go.on(1)(child), (var, 3)).result(10) == (3, 3)


def test_a_variable_comes_home_as_itself(runtime2: Any) -> None:
    var: ContextVar[Any] = ContextVar("var", default=5)
    there_and_back = chan(1)

    def f(there: Any, var: Any) -> Any:
        assert var is there.recv()
        var.set(6)
        there.send(var)
        return var.name, var.get()

    there_and_back.send(var)
    assert go.on(1)(f, there_and_back, var).result(10) == ("var", 6)
    assert there_and_back.recv() is var and var.get() == 5


def test_variables_of_modules_are_looked_up_there(runtime2: Any) -> None:
    def find() -> Any:
        import decimal

        import context_variables as module

        return module.first, module.other_name, module.Holder.var, decimal.getcontext().prec

    first, second, third, _ = find()

    def f() -> Any:
        *found, precision = find()
        return [var.get() for var in found], precision

    def start() -> Any:
        decimal.getcontext().prec = 11
        return go.on(1)(f), go.on(0)(f)

    try:
        remote, local = in_context(start, (first, 1), (second, 2), (third, 3))
        assert remote.result(10) == local.result(10) == ([1, 2, 3], 11)
    finally:
        decimal.getcontext().prec = 28


def test_handles_are_values_like_others(opts: Any) -> None:
    var: ContextVar[Any] = ContextVar("var")
    ch, count = chan(1), Atomic(0)

    def f() -> None:
        ch, (count,) = var.get()
        ch.send(count.add(3))

    in_context(lambda: opts()(f), (var, (ch, [count]))).join(10)
    assert (ch.recv(), count.load()) == (3, 3)


def test_context_variables_that_cannot_be_pickled_are_left_out(runtime2: Any) -> None:
    bad: ContextVar[Any] = ContextVar("bad", default=None)
    worse: ContextVar[Any] = ContextVar("worse")
    good: ContextVar[Any] = ContextVar("good")

    class Raises:
        def __reduce__(self) -> Any:
            raise SystemError("no")

    values = (bad, threading.Lock()), (worse, Raises()), (good, 1)
    g = in_context(lambda: go.on(1)(lambda: (bad.get(), good.get())), *values)
    assert g.result(10) == (None, 1)
    assert in_context(
        lambda: go.local(lambda: (type(bad.get()), good.get()) == (type(threading.Lock()), 1)), *values
    )


def test_labels_contexts_and_wait_groups_together(runtime2: Any) -> None:
    var: ContextVar[Any] = ContextVar("var")
    wg = WaitGroup()

    def parent() -> Any:
        g = wg.go(lambda: (var.get(), goproc.current().labels))
        wg.wait(10)
        return g.result(10)

    assert in_context(lambda: go.opts(labels={"a": "b"})(parent), (var, 4)).result(10) == (4, {"a": "b"})


def test_of_a_script(tmp_path: Path) -> None:
    script = """
        from contextvars import ContextVar
        from goproc import go
        request = ContextVar("request", default="none")
        def log(text): return f"{request.get()}: {text}"
        def handle(n): return log(n), go(log, "child").result()
        print(go.on(1)(handle, 0).result())
        request.set("r1")
        print(go.on(1)(handle, 1).result(), go.local(handle, 2).result())
        request.set("r2")
        print(go.on(1)(handle, 3).result())
    """
    done = run_program(tmp_path, script)
    lines = [
        "('none: 0', 'none: child')",
        "('r1: 1', 'r1: child') ('r1: 2', 'r1: child')",
        "('r2: 3', 'r2: child')",
    ]
    assert (done.status, done.out.splitlines(), done.err) == (0, lines, "")
