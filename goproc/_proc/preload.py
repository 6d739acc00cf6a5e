"""Imports that the zygote makes ahead of need. They can stop in the middle and be finished in a worker.

The zygote imports the script's modules in a greenlet of their own, the importer. When the host wants its workers, the
importer gives way at once. The workers are forked, each with the importer as it is at that moment.

    zygote, main greenlet    waits for GO ------------- forks the workers
    zygote, importer         import numpy; import pan|
    worker                                            |... a goroutine needs pandas: |das  -> the goroutine goes on

The importer gives way when a signal says that the host has sent something (ring): between two statements of a module,
or before the next module is loaded. A function may hold a lock, so the importer leaves a function only if the call goes
on for long.

In a worker no code may see a half imported module, or import it a second time beside the importer. So all such modules,
and everything in their packages, are taken out of sys.modules (hide). An import of one of them comes to the import
system's slow path, which is replaced (_find_and_load): it continues the importer as far as needed. A module that the
importer was about to load is not in sys.modules yet; the frames of the import system name it. Only this thread can
continue the importer, so a worker finishes all imports before it starts a thread.
"""

from __future__ import annotations

import _imp
import _thread
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from goproc import _isolation
from goproc._record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType, ModuleType

RETRY = 0.002  # seconds until the importer is asked again to give way
PATIENT = 25  # the number of requests after which the importer leaves a function as well
# Names of threads that end with a fork by intention. jemalloc, the allocator inside PyArrow, takes its own locks before a
# fork, and its child does the work of the thread itself.
_SAFE_TO_LOSE = (b"jemalloc_bg_thd",)
EVERYTHING = ""  # in place of a module's name: all modules that the importer has begun
_STARTERS = ("start_new_thread", "start_joinable_thread", "_start_new_thread", "_start_joinable_thread")


class Statement(Record):
    """``import module``, or ``from module import names``."""

    module: str
    names: tuple[str, ...] = ()

    def execute(self) -> None:
        __import__(self.module, {}, {}, self.names)


class Importer:
    """The importer of the modules of one program into this process.

    Attributes:
        done: the statements that were executed.
        open: True if add() may bring statements: the importer waits for them.
        unfit: True if an import has started a thread, so that this process can no longer fork.
    """

    def __init__(self, statements: Callable[[], Sequence[Statement]]) -> None:
        self.done: list[Statement] = []
        self.unfit = False
        self.on_finished: Callable[[Sequence[str]], None] = lambda names: None
        self._statements = statements
        self.open = False
        self._added: list[Statement] = []
        self._waits = False
        self._thread = _thread.get_ident()
        self._greenlet = greenlet(self._run)
        self._watched = True
        self._rung = False
        self._asked = 0
        self._forking = False  # from here on only a goroutine that needs a module continues the importer
        self._wanted = EVERYTHING
        self._busy = False  # True while the importer is continued for a goroutine
        # Name -> module; None if the importer was about to load it.
        self._hidden: dict[str, ModuleType | None] = {}
        self._replaced: list[tuple[Any, str, Any]] = []

    @property
    def over(self) -> bool:
        """True if nothing is left to import."""
        return bool(self._greenlet.dead)

    @property
    def busy(self) -> bool:
        """True if there is a statement to execute."""
        return not self.over and (not self._waits or bool(self._added))

    def add(self, statements: Iterable[Statement]) -> None:
        """Have the importer execute more statements after the others."""
        self._added += statements

    # -- in the zygote

    def watch(self) -> None:
        """Have the importer give way at SIGURG, which has no effect before this call."""
        signal.signal(signal.SIGURG, self._ring)
        signal.signal(signal.SIGALRM, self._ring)
        sys.meta_path.insert(0, self)

    def unwatch(self) -> None:
        """Answer SIGURG no more. The handler stays installed: a signal may be under way."""
        self._watched = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def work(self) -> None:
        """Import until no statement is left, or until the host rings."""
        self._greenlet.parent = getcurrent()
        self._greenlet.switch()
        self._rung = False
        self._asked = 0
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not forkable():
            self.unfit = True

    def _run(self) -> None:
        for statement in self._all_statements():
            if self._rung:
                self._give_way()
            if self._forking:
                return  # in a worker each goroutine imports the modules that it needs
            try:
                statement.execute()
            except BaseException:  # SystemExit, too: the script, or a goroutine, meets the error by itself
                continue
            if not forkable():
                self.unfit = True
                return
            self.done.append(statement)

    def _all_statements(self) -> Iterator[Statement]:
        yield from self._statements()
        while self._added or self.open:
            if self._added:
                yield self._added.pop(0)
            else:
                self._waits = True
                self._greenlet.parent.switch()
                self._waits = False

    def _ring(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGURG, the bell: between two bytecodes of the importer, or while a system call waits."""
        if not self._watched:
            return
        self._rung = True
        self._asked += 1
        if getcurrent() is self._greenlet and _may_leave(frame, self._asked > PATIENT):
            self._give_way()
        else:
            signal.setitimer(signal.ITIMER_REAL, RETRY)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Return None. As the first finder of sys.meta_path, this method is called before each module is loaded."""
        if getcurrent() is not self._greenlet:
            return
        if self._rung or (self._forking and self._enough(sys._getframe(1))):
            self._give_way()

    def _give_way(self) -> None:
        # The import system's own lock would keep the other threads of a worker from importing anything.
        count = 0
        while _imp.lock_held():
            _imp.release_lock()
            count += 1
        depth = _isolation.pause()
        self._greenlet.parent.switch()
        _isolation.resume(depth)
        for _ in range(count):
            _imp.acquire_lock()

    def prepare_fork(self) -> None:
        """Hide half imported modules from this process and its children."""
        self._forking = True
        self.open = False
        if self._waits:
            self._greenlet.switch()  # the importer ends
        if self.over or not self._begun():
            self._leave()
            return
        self._hide(())
        bootstrap: Any = sys.modules["_frozen_importlib"]
        self._replace(bootstrap, "_find_and_load", self._finding(bootstrap._find_and_load))
        for module in (_thread, threading):
            for name in _STARTERS:
                if hasattr(module, name):
                    self._replace(module, name, self._starting(getattr(module, name)))

    def _begun(self) -> bool:
        return bool(self._greenlet)

    # -- in a worker

    def finish(self, wanted: str) -> None:
        """Continue the imports until a module is there, or has failed.

        Args:
            wanted: the module's name; EVERYTHING: all modules that were begun when the workers were forked.
        """
        from goproc._sched import waits

        while self._busy:  # an import of it has blocked in an operation of goproc
            waits.yield_now()
        if self.over:
            return
        others = set(_initialising())
        hidden, self._hidden = self._hidden, {}
        for name, module in hidden.items():
            if module is not None:
                sys.modules.setdefault(name, module)
        self._wanted = wanted
        self._busy = True
        quiet = _Quiet()
        try:
            while not self.over and not self._enough(self._greenlet.gr_frame):
                self._greenlet.parent = getcurrent()
                self._greenlet.switch()
        finally:
            quiet.end()
            self._busy = False
        if self.over:
            self._leave()
        else:
            self._hide(others)
        self.on_finished([name for name in hidden if name in sys.modules])

    def _enough(self, frame: FrameType | None) -> bool:
        """Return True if the importer is through with the wanted module.

        `frame` is the importer's innermost frame.
        """
        return self._wanted != EVERYTHING and self._wanted not in _under_way(frame)

    def _finding(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def _find_and_load(name: str, import_: Any) -> Any:
            while (wanted := find(name)) is not None:  # first a package, then the module in it
                finish(wanted)
            return original(name, import_)

        find, finish = self._hidden_by, self.finish
        # The import system cuts frames of this file name out of tracebacks, and warnings skip them.
        code = _find_and_load.__code__
        _find_and_load.__code__ = code.replace(co_filename="<frozen importlib._bootstrap>")
        return _find_and_load

    def _starting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def start(*args: Any, **kwargs: Any) -> Any:
            if getcurrent() is self._greenlet:
                self._wanted = EVERYTHING  # the importer must not be left halfway beside a thread
            elif _thread.get_ident() == self._thread:
                self.finish(EVERYTHING)
            return original(*args, **kwargs)

        return start

    def _hidden_by(self, name: str) -> str | None:
        """Return the outermost hidden module that a name is in, or None.

        Only this thread can continue the importer.
        """
        if not self._hidden or getcurrent() is self._greenlet or _thread.get_ident() != self._thread:
            return None
        return next((prefix for prefix in _prefixes(name) if prefix in self._hidden), None)

    def _hide(self, others: Sequence[str] | set[str]) -> None:
        """Take half imported modules, and everything in their packages, out of sys.modules.

        Args:
            others: modules that another thread is about to import; they stay.
        """
        broken = {
            name for name in (*_initialising(), *_under_way(self._greenlet.gr_frame)) if name not in others
        }
        for name in list(sys.modules):
            if any(prefix in broken for prefix in _prefixes(name)):
                self._hidden[name] = sys.modules.pop(name)
        self._hidden.update({name: None for name in broken if name not in self._hidden})

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def _leave(self) -> None:
        """Restore the import system when nothing is left to finish."""
        while self._replaced:
            owner, name, value = self._replaced.pop()
            setattr(owner, name, value)
        if self in sys.meta_path:
            sys.meta_path.remove(self)


class _Quiet:
    """Point descriptors 1 and 2 to /dev/null until end(): the script's own import has shown the banner of a module."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, int]] = []
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for fd in (1, 2):
                self._kept.append((fd, os.dup(fd)))
                os.dup2(null, fd)
        finally:
            os.close(null)

    def end(self) -> None:
        flush()
        for fd, kept in self._kept:
            os.dup2(kept, fd)
            os.close(kept)


def flush() -> None:
    """Write out the text that a module may have left in the streams that Python began with."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass


def forkable() -> bool:
    """Return True if a child of this process can go on without the other threads, also those unknown to Python."""
    others = os.listdir("/proc/self/task")
    if len(others) > 1:
        others.remove(str(_thread.get_native_id()))
        return all(_thread_name(number) in _SAFE_TO_LOSE for number in others)
    return True


def _thread_name(number: str) -> bytes:
    try:
        with open(f"/proc/self/task/{number}/comm", "rb") as file:
            return file.read().rstrip(b"\n")
    except OSError:
        return b""  # the thread has just ended: it may have left anything behind


def of_program(words: Sequence[str]) -> Importer:
    """Return an importer of the modules that a program imports; see imports.of_program."""

    def statements() -> Sequence[Statement]:
        from goproc._proc import (
            # Reading the source takes a while: it begins after the order to fork if that is there already.
            imports,
        )

        return imports.of_program(words)

    return Importer(statements)


def of_statements(statements: Sequence[tuple[str, tuple[str, ...]]]) -> Importer:
    return Importer(lambda: [Statement(module, tuple(names)) for module, names in statements])


def _may_leave(frame: FrameType | None, at_last: bool) -> bool:
    """Return True if no running function can hold a lock: each frame is a module's top level, or the import system's.

    Args:
        at_last: True to allow functions of modules, too.
    """
    if frame is None or _is_import_system(frame):
        return False
    while frame is not None and frame.f_code is not Statement.execute.__code__:
        if not (at_last or frame.f_code.co_name == "<module>" or _is_import_system(frame)):
            return False
        frame = frame.f_back
    return True


def _is_import_system(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith("<frozen importlib")


def _under_way(frame: FrameType | None) -> set[str]:
    """Return the names of the modules that the import system loads, or is about to load, in a frame or its callers."""
    found = set()
    while frame is not None:
        if frame.f_code.co_name == "_find_and_load_unlocked" and _is_import_system(frame):
            found.add(frame.f_locals["name"])
        frame = frame.f_back
    return found


def _initialising() -> Iterator[str]:
    return (name for name, module in list(sys.modules.items()) if _is_initialising(module))


def _is_initialising(module: object) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _prefixes(name: str) -> Iterator[str]:
    """Yield ``a``, ``a.b`` and ``a.b.c`` for ``a.b.c``."""
    end = name.find(".")
    while end >= 0:
        yield name[:end]
        end = name.find(".", end + 1)
    yield name
