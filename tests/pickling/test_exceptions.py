"""Exceptions as users and libraries define them arrive as what was raised: see the package zoo."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import programs
import pytest
import zoo
from wire import Wire

from goproc import WaitGroup, chan, go
from goproc._pickling import failure

SENT = sorted(set(zoo.CASES) - zoo.NOT_SENT)


@pytest.mark.parametrize("name", zoo.CASES)
def test_failure(name: str, wire: Wire) -> None:
    exc = zoo.caught(zoo.CASES[name])
    packed = pickle.dumps(failure.pack(exc))
    wire.hop()
    copy = failure.unpack(pickle.loads(packed))
    assert zoo.difference(exc, copy) is None
    note = copy.__notes__[-1]
    assert note.startswith(zoo.NOTE) and zoo.CASES[name].__name__ in note


@pytest.mark.parametrize("name", SENT)
def test_message(name: str, wire: Wire) -> None:
    exc = zoo.caught(zoo.CASES[name])
    assert zoo.difference(exc, wire.send(exc), name not in zoo.BY_CLASS) is None


@pytest.mark.parametrize("name", zoo.CASES)
def test_goroutine(name: str, runtime2: Any) -> None:
    f = zoo.CASES[name]
    exc = zoo.caught(f)
    for _ in range(2):
        copy = zoo.caught(go.on(1)(f).result)
        assert zoo.difference(exc, copy) is None


@pytest.mark.parametrize("name", SENT)
def test_channel(name: str, runtime2: Any) -> None:
    f = zoo.CASES[name]
    ch = chan(1)

    def send() -> None:
        ch.send([zoo.caught(f)])

    go.on(1)(send).result()
    assert zoo.difference(zoo.caught(f), ch.recv()[0], name not in zoo.BY_CLASS) is None


class Stopped(Exception):
    def __init__(self, ch: Any, group: Any) -> None:
        super().__init__("stopped", ch)
        self.ch, self.group = ch, group


def stop() -> None:
    ch = chan(3)
    ch.send(7)
    raise Stopped(ch, WaitGroup())


def wrap() -> None:
    try:
        stop()
    except Stopped as error:
        raise KeyError([error.ch]) from error


@pytest.mark.parametrize("proc", [0, 1])
def test_channels_in_exceptions(proc: int, runtime2: Any) -> None:
    g = go.on(proc)(stop)
    for _ in range(2):
        error = g.exception()
        assert type(error) is Stopped and error.ch is error.args[1] and len(error.ch) == 1
    error.group.wait()
    assert error.ch.recv() == 7
    error = go.on(proc)(wrap).exception()
    assert type(error) is KeyError and error.args[0][0] is not None
    error.args[0][0].send(8)
    assert (error.__cause__.ch.recv(), error.__cause__.ch.recv()) == (7, 8)


@pytest.mark.parametrize("proc", [0, 1])
def test_the_object_of_an_attribute_error_is_a_channel(proc: int, runtime2: Any) -> None:
    error = go.on(proc)(lambda: chan(1).no_such_name).exception()
    assert type(error) is AttributeError and error.name == "no_such_name" and error.obj is None


def test_a_class_of_a_function_is_caught(runtime2: Any) -> None:
    class Local(Exception):
        def __init__(self, a: int, b: int) -> None:
            self.sum = a + b

    def fail() -> None:
        raise Local(1, 2)

    for _ in range(2):
        with pytest.raises(Local) as caught:
            go.on(1)(fail).result()
        assert caught.value.sum == 3


MAIN = """
from goproc import chan, go

def send(f, ch):
    ch.send(caught(f))

ch = chan(1)
for name, f in CASES.items():
    exc, g = caught(f), go.on(1)(f)
    found = difference(exc, g.exception())
    if found is None and name not in NOT_SENT:
        go.on(1)(send, f, ch).result()
        found = difference(exc, ch.recv(), name not in BY_CLASS)
    if found is not None:
        print(name, found)
print(len(CASES))
"""


def test_classes_of_the_script(tmp_path: Path) -> None:
    script = zoo.script() + MAIN
    done = programs.run(tmp_path, script)
    assert programs.ok(done) == f"{len(zoo.CASES)}\n"
