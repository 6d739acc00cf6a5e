"""Exceptions as users and libraries define them arrive as what was raised: see zoo.py."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import programs
import pytest
import zoo
from wire import Wire

from goproc import chan, go
from goproc.pickling import failure

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
    script = Path(zoo.__file__).read_text() + MAIN
    done = programs.run(tmp_path, script)
    assert programs.ok(done) == f"{len(zoo.CASES)}\n"
