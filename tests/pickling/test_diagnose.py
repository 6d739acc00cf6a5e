"""Errors that name the path to the object."""

from __future__ import annotations

import collections
import contextlib
import functools
import pickle
import socket
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from wire import Handle

from goproc._pickling import calls, diagnose, messages
from goproc.errors import PickleError

pytestmark = pytest.mark.usefixtures("wire")


class Client:
    def __init__(self, sock: Any) -> None:
        self.sock = sock


class Slots:
    __slots__ = ("db", "other")


class SlotError(Exception):
    __slots__ = ("slot",)

    def __init__(self, slot: Any) -> None:
        self.slot = slot
        super().__init__()


class Reduced:
    def __init__(self, inner: Any) -> None:
        self.get = lambda: inner

    def __reduce__(self):
        return Reduced, (self.get(),)


def failing(obj: Any) -> str:
    with pytest.raises(PickleError) as info:
        messages.dumps(obj)
    assert isinstance(info.value.__cause__, Exception)
    assert isinstance(info.value, pickle.PicklingError)
    return str(info.value)


def test_path_through_containers_and_instances():
    sock = socket.socket()
    with sock:
        text = failing({"a": 1, "conn": Client(sock)})
    first, advice = text.split("\n", 1)
    assert first == (
        "cannot pickle message -> ['conn'] -> .sock -> socket.socket: TypeError: cannot pickle 'socket' object"
    )
    assert "goroutine" in advice


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda x: [1, (x,)], "message -> [1] -> [0] -> "),
        (lambda x: {"k": {"l": x}}, "message -> ['k'] -> ['l'] -> "),
        (lambda x: {x}, "message -> element -> "),
        (lambda x: {x: 1}, "message -> key "),
        (lambda x: lambda: x, "message -> closure 'x' -> "),
        (lambda x: lambda y=x: y, "message -> default of 'y' -> "),
        (lambda x: functools.partial(print, 1, x), "message -> argument 2 of partial -> "),
        (lambda x: collections.deque([1, x]), "message -> [1] -> "),
        (lambda x: collections.OrderedDict(a=x), "message -> ['a'] -> "),
        (lambda x: Reduced(x), "message -> part 0 of Reduced -> "),
        (lambda x: ValueError("a", x), "message -> .args[1] -> "),
        (lambda x: SlotError(x), "message -> .slot -> "),
        (
            lambda x: ExceptionGroup("g", [KeyError(1), SlotError(x)]),
            "message -> .args[1] -> [1] -> .slot -> ",
        ),
        (lambda x: Client(x).__init__, "message -> self -> .sock -> "),
    ],
)
@pytest.mark.parametrize(
    "make", [threading.Lock, lambda: sqlite3.connect(":memory:"), lambda: (i for i in ())]
)
def test_paths(wrap, path, make):
    bad = make()
    with contextlib.closing(bad) if hasattr(bad, "close") else contextlib.nullcontext():
        text = failing(wrap(bad))
    kind = type(bad)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    assert text.startswith("cannot pickle " + path)
    assert f"-> {name}: " in text


def test_path_through_slots_and_cycles():
    obj = Slots()
    obj.other = obj
    obj.db = threading.Lock()
    loop: list[Any] = []
    loop += [loop, obj]
    assert failing(loop).startswith("cannot pickle message -> [1] -> .db -> _thread.lock: ")


def test_path_into_a_class():
    class Local:
        lock = threading.Lock()

    assert failing([Local]).startswith("cannot pickle message -> [0] -> .lock -> _thread.lock: ")
    assert failing([Local()]).startswith("cannot pickle message -> [0] -> ")


def test_failure_inside_a_reduce_method():
    class Angry:
        def __reduce__(self):
            raise RuntimeError("leave me alone")

    text = failing([Angry()])
    assert "message -> [0] -> " in text and "RuntimeError: leave me alone" in text


def test_too_deep():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "too deeply nested" in failing(deep)
    while deep:
        deep = deep.pop()


def test_cause_is_the_original_error():
    with pytest.raises(PickleError) as info:
        messages.dumps(threading.Lock())
    assert type(info.value.__cause__) is TypeError


def test_error_names_the_global(wire):
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("import threading\nlock = threading.Lock()\ndef f():\n    with lock: pass", namespace)
    payload = calls.pack_call(namespace["f"], (), {})
    with pytest.raises(PickleError) as info:
        messages.dumps(payload)
    error = diagnose.explain_call(info.value, namespace["f"], (), {})
    assert str(error).startswith("cannot pickle f -> global 'lock' -> _thread.lock: ")


def test_explain_call(wire):
    import sqlite3

    db = sqlite3.connect(":memory:")

    def f(*args, **kwargs):
        return db

    def g(*args, **kwargs):
        return 1

    for function, args, kwargs, path in (
        (f, (), {}, "f -> closure 'db' -> sqlite3.Connection"),
        (g, (1, db), {}, "argument 2 of g -> sqlite3.Connection"),
        (g, (1, f), {}, "argument 2 of g -> closure 'db' -> sqlite3.Connection"),
        (g, (), {"key": [db]}, "argument 'key' of g -> [0] -> sqlite3.Connection"),
    ):
        with pytest.raises(PickleError) as info:
            messages.dumps(calls.pack_call(function, args, kwargs))
        error = diagnose.explain_call(info.value, function, args, kwargs)
        assert str(error).startswith(f"cannot pickle {path}: TypeError: cannot pickle")
        assert "in the goroutine" in str(error)
    db.close()


def test_closed_or_tty_files(wire):
    with open(__file__) as file:
        assert wire.send(file).read(3) == '"""'
    assert "closed files" in failing(file)


def test_still_works_after_a_failure(wire):
    failing(threading.Lock())
    assert wire.send([1, "x", Path("/")]) == [1, "x", Path("/")]


def test_handles_are_not_to_blame(wire):
    class Refuses(Handle):
        def __reduce__(self):
            raise TypeError("cannot pickle it by itself")

    results = Refuses(1)

    def f(*args):
        return results

    error = diagnose.explain_call(PickleError("x"), f, (results, threading.Lock()), {})
    assert str(error).startswith("cannot pickle argument 2 of f -> _thread.lock: ")
