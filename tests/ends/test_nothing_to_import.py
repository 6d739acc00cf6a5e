"""Failures and ends in a process that can import nothing any more: no descriptor is left, or no file is there."""

from __future__ import annotations

import os

import pytest
from programs import Run, ok

HEAD = """
    import os, resource, signal, subprocess, sys
    from goproc import Cancelled, ChanClosed, Group, chan, dump, go, sleep
    def no_descriptors():
        import os, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        while True:
            try: os.open("/dev/null", os.O_RDONLY)
            except OSError: return
    def no_files():
        import os
        os.makedirs("empty", exist_ok=True); os.chroot("empty"); os.chdir("/")
    def no_path():
        import os, sys
        sys.path.clear(); sys.path_importer_cache.clear(); os.chdir("/")
    def no_finders():
        import sys
        sys.meta_path.clear()
    for proc in (0, 1, 2): go.on(proc)(int).result()
"""
WAYS = ["no_descriptors", "no_files", "no_path", "no_finders"]
EACH = pytest.mark.parametrize("way", WAYS)
STARTS = {"local": "go.local", "host": "go.on(0)", "worker": "go.on(1)"}


@pytest.fixture(autouse=True)
def may_chroot(request: pytest.FixtureRequest) -> None:
    if "way" in request.fixturenames and request.getfixturevalue("way") == "no_files" and os.geteuid() != 0:
        pytest.skip("chroot() is root's")


@EACH
@pytest.mark.parametrize("started", STARTS)
def test_the_first_failure_of_a_process(run: Run, way: str, started: str) -> None:
    script = f"""{HEAD}
    def fail():
        {way}()
        try: {{}}["key"]
        except KeyError: raise ExceptionGroup("several", [ValueError("one"), OSError(2, "two")])
    try: {STARTS[started]}(fail).result()
    except ExceptionGroup as group:
        print(group.exceptions, repr(group.__context__))
    """
    assert ok(run(script)) == "(ValueError('one'), FileNotFoundError(2, 'two')) KeyError('key')\n"


@EACH
@pytest.mark.parametrize(
    "started", ["host", "worker"]
)  # cloudpickle is loaded when a function of the script travels
def test_a_failure_with_objects_of_the_script(run: Run, way: str, started: str) -> None:
    script = f"""{HEAD}
    import collections, enum
    class Colour(enum.Enum):
        RED = 1
    class Point(tuple):
        def __new__(cls, x, *, y): return super().__new__(cls, (x, y))
        def __getnewargs_ex__(self): return (self[0],), {{"y": self[1]}}
    class Hashed:
        def __init__(self): self.key = 1
        def __hash__(self): return self.key
        def __eq__(self, other): return self.key == other.key
    class Odd(Exception):
        def __init__(self, colour):
            super().__init__(colour)
            self.point, self.of = Point(1, y=2), {{Hashed(): collections.Counter("a")}}
    def fail():
        {way}()
        raise Odd(Colour.RED)
    try: {STARTS[started]}(fail).result()
    except Odd as error:
        print(error.args == (Colour.RED,), error.point, type(error.point) is Point, error.of[Hashed()])
    """
    assert ok(run(script)) == "True (1, 2) True Counter({'a': 1})\n"


@EACH
@pytest.mark.parametrize("started", STARTS)
def test_a_failure_of_goproc_s_own(run: Run, way: str, started: str) -> None:
    script = f"""{HEAD}
    def fail():
        {way}()
        ch = chan()
        ch.close()
        ch.close()
    try: {STARTS[started]}(fail).result()
    except ChanClosed as error: print(error)
    """
    assert ok(run(script)) == "close of closed channel\n"


ENDS = {
    "a panic here": ("{way}(); go.local(int, 'x'); sleep(60)", 2, "panic: invalid literal for int()"),
    "a panic in a worker": (
        "go.on(1)({way}).result(); go.on(1)(int, 'x'); sleep(60)",
        2,
        "panic: invalid literal",
    ),
    "main panics": ("{way}(); int('x')", 2, "panic: invalid literal for int()"),
    "an unread failure": (
        "go.on(1)({way}).result(); kept = go.on(1)(int, 'x'); kept.join()",
        2,
        "goroutine ",
    ),
    "a death": (
        "pid = go.on(1)(os.getpid).result(); {way}(); os.kill(pid, 9); sleep(60)",
        2,
        "fatal error: proc 1 ",
    ),
    "deadlock": ("{way}(); chan().recv()", 2, "fatal error: all goroutines are asleep"),
    "deadlock elsewhere": (
        "go.on(1)({way}).result(); chan().recv()",
        2,
        "fatal error: all goroutines are asleep",
    ),
    "SIGQUIT": ("{way}(); os.kill(os.getpid(), signal.SIGQUIT); sleep(60)", 2, "SIGQUIT: quit"),
    "Ctrl-C": (
        "{way}(); os.kill(os.getpid(), signal.SIGINT); sleep(60)",
        130,
        "goproc: interrupted (Ctrl-C)",
    ),
    "sys.exit": ("go.on(1)({way}).result(); go.on(1)(sys.exit, 'text'); sleep(60)", 1, "text\n"),
}


@EACH
@pytest.mark.parametrize("end", ENDS)
def test_ends(run: Run, way: str, end: str) -> None:
    line, status, report = ENDS[end]
    done = run(f"{HEAD}\n    {line.format(way=way)}\n", env={"GOPROC_ON_DEATH": "exit"})
    assert done.status == status, done
    assert done.err.startswith(report) and "Error: [Errno 24]" not in done.err, done


@EACH
def test_it_goes_on(run: Run, way: str) -> None:
    """Groups, cancellation, dumps and the end do without files."""
    script = f"""{HEAD}
    for proc in (0, 1): go.on(proc)({way}).result()
    try:
        with Group() as group:
            group.go(int, "x")
            group.go(sleep, 60)
    except ExceptionGroup as error: print(error.exceptions[0])
    g = go.on(1)(sleep, 60)
    g.cancel()
    try: g.result()
    except Cancelled: print("cancelled")
    print(dump().startswith("goroutine 1 [running]"))
    """
    assert ok(run(script)) == "invalid literal for int() with base 10: 'x'\ncancelled\nTrue\n"


def test_a_deadlock_of_a_thread_where_no_descriptor_is_left(run: Run) -> None:
    """The test for a thread that sleeps for ever reads files of the system; they are opened in another table."""
    script = f"""{HEAD}
    import threading
    lock = threading.Lock()
    lock.acquire()
    threading.Thread(target=lock.acquire, daemon=True).start()
    no_descriptors()
    chan().recv()
    """
    done = run(script)
    assert done.status == 2, done
    assert done.err.startswith("fatal error: all goroutines are asleep - deadlock!"), done
