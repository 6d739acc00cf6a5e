"""The traceback of an error of `go` and its kin, of a send and of a result: the user's line is its last, without goproc's."""

from __future__ import annotations

import pickle
import re
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from goproc import Group, PickleError, Supervisor, WaitGroup, chan, go, goexit, select, share, sleep
from goproc._frames import PACKAGE
from goproc._pickling import pickler

pytestmark = pytest.mark.usefixtures("runtime2")

LOCK = threading.Lock()


class Angry:
    def __reduce__(self) -> Any:
        raise KeyError("leave me alone")


def same(x: Any) -> Any:
    return x


def capturing(lock: Any) -> Callable[[], Any]:
    return lambda: lock


def locked() -> Any:
    return threading.Lock()


def in_a_group(method: str, f: Any) -> None:
    group = Group()
    getattr(group, method)(f, LOCK)


def failing_group() -> None:
    with Group() as group:
        group.go(divide, 0)


def supervised(f: Any) -> None:
    with Supervisor("one_for_one") as supervisor:
        supervisor.go(f, LOCK)


def too_late(method: str) -> None:
    g = go.local(sleep, 60)
    try:
        getattr(g, method)(timeout=0.01)
    finally:
        g.cancel()
        g.exception()


def divide(n: int) -> float:
    return 1 / n


CASES: dict[str, Callable[[], Any]] = {
    "go, argument": lambda: go(same, LOCK),
    "go, function": lambda: go(capturing(LOCK)),
    "go, reduce": lambda: go(same, Angry()),
    "go, not callable": lambda: go(3),  # type: ignore[arg-type]
    "go, None": lambda: go(None),  # type: ignore[arg-type]
    "go.local": lambda: go.local(3),  # type: ignore[arg-type]
    "go.on, number": lambda: go.on(99),
    "go.on, type": lambda: go.on("1"),  # type: ignore[arg-type]
    "go.on, argument": lambda: go.on(1)(same, LOCK),
    "go.on.on": lambda: go.on(1).on(99),
    "go.opts, timeout": lambda: go.opts(timeout=-1),
    "go.opts, labels": lambda: go.opts(labels=3),  # type: ignore[arg-type]
    "go.opts, local": lambda: go.opts(retries=2).local(same, 1),
    "go.opts, argument": lambda: go.opts(name="x").on(1)(same, LOCK),
    "go.opts.opts": lambda: go.opts(name="x").opts(name=3),  # type: ignore[arg-type]
    "Group.go": lambda: in_a_group("go", same),
    "Group.go, not callable": lambda: in_a_group("go", 3),
    "Group.try_go": lambda: in_a_group("try_go", same),
    "Group.local": lambda: in_a_group("local", 3),
    "WaitGroup.go": lambda: WaitGroup().go(same, LOCK),
    "Supervisor.go": lambda: supervised(same),
    "Supervisor.go, not callable": lambda: supervised(3),
    "Group, left": failing_group,
    "chan, size": lambda: chan(-1),
    "chan, type": lambda: chan(str),  # type: ignore[arg-type]
    "send": lambda: chan(1).send(LOCK),
    "try_send": lambda: chan(1).try_send({"a": LOCK}),
    "send_many": lambda: chan(1).send_many([LOCK]),
    "select": lambda: select((chan(1).send, LOCK)),
    "recv, timeout": lambda: chan().recv(timeout=0.01),
    "share": lambda: share(LOCK),
    "result": lambda: go(divide, 0).result(),
    "result, local": lambda: go.local(divide, 0).result(),
    "result, not pickled": lambda: go(locked).result(),
    "result, timeout": lambda: too_late("result"),
    "join, timeout": lambda: too_late("join"),
}


def own_lines(exc: BaseException) -> list[str]:
    """Return the names of goproc's functions in the tracebacks of an exception and of its causes."""
    found: list[str] = []
    current: BaseException | None = exc
    while current is not None:
        frames = traceback.extract_tb(current.__traceback__)
        found += [frame.name for frame in frames if frame.filename.startswith(PACKAGE)]
        current = current.__cause__
    return found


@pytest.mark.parametrize("case", CASES)
def test_no_line_of_goproc_is_shown(case: str) -> None:
    with pytest.raises(Exception) as raised:
        CASES[case]()
    assert own_lines(raised.value) == []
    assert traceback.extract_tb(raised.value.__traceback__)[-1].filename == __file__


def test_lines_of_a_reduce_method_are_shown() -> None:
    with pytest.raises(PickleError) as raised:
        go(same, [Angry()])
    cause = raised.value.__cause__
    assert isinstance(cause, KeyError)
    assert [frame.name for frame in traceback.extract_tb(cause.__traceback__)] == ["__reduce__"]


def test_a_file_open_for_writing_has_no_lines_of_cloudpickle(tmp_path: Any) -> None:
    with open(tmp_path / "x", "w") as file, pytest.raises(PickleError) as raised:
        go(same, file)
    assert isinstance(raised.value.__cause__, pickle.PicklingError)
    assert raised.value.__cause__.__traceback__ is None


def test_a_defect_of_goproc_keeps_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        return {}["no such key"]

    broken.__code__ = broken.__code__.replace(co_filename=pickler.__file__)
    monkeypatch.setattr(pickler.Pickler, "reducer_override", broken)
    with pytest.raises(PickleError) as raised:
        chan(1).send([goexit, object()])
    assert isinstance(raised.value.__cause__, KeyError)
    assert "broken" in own_lines(raised.value)


@pytest.mark.parametrize(
    ("cap", "told"),
    [
        (int, r"not type; write chan\[int\]\(n\) for a channel of this type$"),
        ("3", "not str$"),
        (None, "not NoneType$"),
        (1.5, "not float$"),
    ],
)
def test_the_size_of_a_channel(cap: Any, told: str) -> None:
    with pytest.raises(TypeError, match=r"^chan\(\) takes the number of values that it buffers, " + told):
        chan(cap)


def test_labels_that_are_no_dict() -> None:
    with pytest.raises(TypeError, match=r"^go.opts\(labels=...\) takes a dict of texts by name, not int$"):
        go.opts(labels=3)  # type: ignore[arg-type]


class NotMadeAgain:
    def __init__(self, part: Any) -> None:
        self.part = part

    def __reduce__(self) -> Any:
        return NotMadeAgain, ()


class Refuses:
    def __init__(self, number: int) -> None:
        self.number = number

    def __setstate__(self, state: Any) -> None:
        raise LookupError("no")


@pytest.mark.parametrize(
    ("value", "kind", "functions"),
    [(NotMadeAgain(1), TypeError, set()), (Refuses(1), LookupError, {"__setstate__"})],
)
def test_a_call_that_a_worker_cannot_read_says_so(value: Any, kind: type, functions: set[str]) -> None:
    for g in (go(same, value), go(lambda: value)):
        with pytest.raises(kind) as raised:
            g.result()
        first, *rest = raised.value.__notes__
        assert first.startswith(f"raised while the worker read the call of {g.name[:30]}")
        assert own_lines(raised.value) == []
        told = "\n".join(rest)
        assert PACKAGE not in told
        assert set(re.findall(r", in (\w+)", told)) == functions
