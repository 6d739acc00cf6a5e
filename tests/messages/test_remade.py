"""Objects that Python refuses to pickle and that are made again where they arrive: thread-locals, context managers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import programs
import pytest
from programs import Run

from goproc import PickleError, chan, go


class Counted(threading.local):
    scale = 2

    def __init__(self, start: int, *, step: int = 1) -> None:
        self.value = start
        self.step = step

    def next(self) -> int:
        self.value += self.step
        return self.value * self.scale


class Slotted(threading.local):
    __slots__ = ("shared",)


@contextlib.contextmanager
def section(log: list[str], name: str = "section") -> Iterator[str]:
    log.append(f"begin {name}")
    yield name
    log.append(f"end {name}")


def received(value: Any) -> Any:
    ch: Any = chan(1)
    ch.send(value)
    return ch.recv()


# -- thread-locals -------------------------------------------------------------------------------------------


def test_a_local_arrives_without_attributes(runtime1: Any) -> None:
    local = threading.local()
    local.value = 1

    def f() -> Any:
        before = vars(local).copy()
        local.value = 2
        return type(local) is threading.local, before, local.value

    assert go(f).result() == go(f).result() == (True, {}, 2)
    assert local.value == 1


def test_each_thread_there_runs_the_init_of_its_class(runtime1: Any) -> None:
    counted = Counted(5, step=3)
    counted.value = 100

    def f() -> list[int]:
        found = [counted.next(), counted.next()]
        thread = threading.Thread(target=lambda: found.append(counted.next()))
        thread.start()
        thread.join()
        return found

    assert go(f).result() == [16, 22, 16]
    assert go(counted.next).result() == 16


def test_slots_of_a_local_belong_to_all_threads(runtime1: Any) -> None:
    local = Slotted()
    local.shared = {"a": 1}
    back = received([local, local])
    assert back[0] is back[1]
    assert (type(back[0]), back[0].shared, vars(back[0])) == (Slotted, {"a": 1}, {})


def test_locals_of_a_script(run: Run) -> None:
    script = """
        import threading
        from goproc import go
        LOCAL = threading.local()
        class Session:
            current = threading.local()
            def __init__(self): self.local = threading.local()
            def get(self):
                if not hasattr(self.local, "made"): self.local.made = []
                self.local.made.append(1)
                return len(self.local.made), hasattr(self.current, "name")
        session = Session()
        session.get()
        Session.current.name = "main"
        def enter(): LOCAL.depth = getattr(LOCAL, "depth", 0) + 1
        def f():
            enter()
            enter()
            return LOCAL.depth, session.get(), session.get()
        enter()
        print(*[go.on(proc)(f).result() for proc in (1, 1)], LOCAL.depth)
        print(go.on(1)(session.get).result())
    """
    found = (2, (1, False), (2, False))
    assert programs.ok(run(script, procs=1)) == f"{found} {found} 1\n(1, False)\n"


# -- context managers ----------------------------------------------------------------------------------------


def test_a_manager_that_has_not_been_entered(runtime1: Any) -> None:
    log: list[str] = []
    manager = section(log, name="own")

    def f() -> tuple[str, list[str]]:
        with manager as name:
            log.append("inside")
        return name, log

    assert go(f).result() == go(f).result() == ("own", ["begin own", "inside", "end own"])
    with received(section(log)) as name:
        assert name == "section"


def test_an_entered_one_is_refused_by_its_path(runtime1: Any) -> None:
    manager = section([])
    with manager, pytest.raises(PickleError, match="closure 'manager'"):
        go(lambda: manager)


def test_managers_as_decorators(run: Run) -> None:
    script = """
        import asyncio, contextlib
        from goproc import go
        LOG = []
        @contextlib.contextmanager
        def timed(name):
            LOG.append(name)
            yield
        @contextlib.asynccontextmanager
        async def opened(name): yield name
        class Track(contextlib.ContextDecorator):
            def __init__(self, name): self.name = name
            def __enter__(self): LOG.append(self.name)
            def __exit__(self, *error): return False
        class Base:
            def __init__(self): self.log = []
            @contextlib.contextmanager
            def transaction(self):
                self.log.append("begin")
                yield
            @timed("method")
            def work(self): return list(LOG)
            @classmethod
            @Track("class")
            def made(cls): return cls.__name__, list(LOG)
        base = Base()
        @timed("function")
        def work(n): return work(n - 1) if n else list(LOG)
        @Track("track")
        def tracked(): return list(LOG)
        @base.transaction()
        def insert(): return base.log
        @opened("file")
        async def read(): return "read"
        def use():
            with base.transaction(): return base.work(), Base.made(), asyncio.run(read())
        print(*[go.on(1)(f).result() for f in (lambda: work(1), tracked, insert, use, base.work)])
    """
    found = (
        "['function', 'function'] ['track'] ['begin'] "
        "(['method'], ('Base', ['method', 'class']), 'read') ['method']"
    )
    assert programs.ok(run(script, procs=1)) == f"{found}\n"
