"""``worker_local``: a value per process, made at its first use there: a database connection, a model, a cache."""

from __future__ import annotations

import atexit
import itertools
import os
import pickle
import threading
from typing import Any, Generic, TypeVar

from goproc._misuse import not_callable, not_called
from goproc._pickling import store
from goproc._pickling.messages import dump_in_band
from goproc._proc import forked
from goproc._public import public
from goproc._tracebacks import ends_at_user, function_line
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

__all__ = ["WorkerLocal", "worker_local"]

_numbers = itertools.count(1)
_known: dict[tuple[int, int], WorkerLocal[Any]] = store.cache({})
_mutexes: dict[tuple[int, int], Any] = store.cache({})  # of this runtime, by the number of the WorkerLocal
_MISSING: Any = object()


class WorkerLocal(Generic[T]):
    """A value that each process makes for itself. `worker_local` returns it; call it to get the value.

    It can be sent to other goroutines, kept in globals and captured by closures. A call returns the value of the
    process where the call is made.
    """

    __slots__ = ("_blob", "_factory", "_id", "_making", "_value")
    __goproc_constant__ = True

    def __init__(
        self, factory: Callable[[], T] | None, id_: tuple[int, int], blob: bytes | None = None
    ) -> None:
        self._factory = factory
        self._id = id_
        self._blob = blob  # the factory, pickled
        self._value: T = _MISSING
        self._making: int | None = None  # number of the goroutine or thread that makes the value

    def __call__(self) -> T:
        """Return the value of this process. The first call makes it; others wait meanwhile.

        Raises:
            RuntimeError: the factory calls this itself.
            Exception: raised by the factory. The next call tries again.
        """
        value = self._value
        if value is not _MISSING:
            return value
        with function_line:
            return self._make()

    if not TYPE_CHECKING:  # else every attribute would be there for a type checker

        def __getattr__(self, name: str) -> Any:
            said = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name.startswith("_"):
                raise AttributeError(said)
            raise not_called(f"{said}; a call returns the value of this process", name, f"value().{name}")

    def _make(self) -> T:
        if forked.is_child:  # it has no runtime
            self._value = self._get_factory()()
            return self._value
        _core.ensure()
        me = _who()
        if self._making == me:
            raise RuntimeError("the factory of a worker_local() asks for the value that it is to make")
        mutex = _mutexes.get(self._id)
        if mutex is None:
            mutex = _mutexes.setdefault(self._id, _core.Mutex())
        with mutex:
            if self._value is not _MISSING:
                return self._value
            self._making = me
            try:
                value = self._get_factory()()
            finally:
                self._making = None
            self._value = value
        close = getattr(value, "close", None)
        if callable(close):
            atexit.register(_close, os.getpid(), close)
        return value

    def _get_factory(self) -> Callable[[], T]:
        if self._factory is None:
            assert self._blob is not None
            self._factory = pickle.loads(self._blob)
        return self._factory

    def __reduce__(self) -> Any:
        if self._blob is None:
            self._blob = dump_in_band(self._factory)
        _known[self._id] = self
        return _local, (self._id, self._blob)

    def __repr__(self) -> str:
        state = "not made yet" if self._value is _MISSING else repr(self._value)
        return f"<worker_local {state}>"


def _who() -> int:
    """Return a number that no other goroutine or thread of this process has now."""
    if _core.on_scheduler_thread():
        from goproc._sched import scheduler

        return scheduler.current.id
    return -threading.get_ident()


def _close(pid: int, close: Callable[[], object]) -> None:
    if pid == os.getpid():  # not in a child that the program has forked
        close()


def _local(id_: tuple[int, int], blob: bytes) -> WorkerLocal[Any]:
    found = _known.get(id_)
    if found is None:
        found = _known[id_] = WorkerLocal(None, id_, blob)
    return found


@public
@ends_at_user
def worker_local(factory: Callable[[], T]) -> WorkerLocal[T]:
    """Have a value per process, made at its first use there.

        connection = worker_local(lambda: sqlite3.connect("data.db"))

        def count(table):
            return connection().execute(f"select count(*) from {table}").fetchone()

    Args:
        factory: makes the value, without arguments. It runs once in each process that needs the value, the host
            included. Goroutines and threads of the process share the value. If the value has a method ``close()``,
            goproc calls it when the process ends in order.

    Returns:
        A callable that returns the value of the process where it is called.

    Raises:
        TypeError: the factory cannot be called.

    Cost: a call takes about 0.1 us once the value is there.
    """
    if not callable(factory):
        said = f"worker_local() takes a function that makes the value, not {type(factory).__name__}"
        raise not_callable(said, factory, "use worker_local(lambda: ...)", gets="nothing")
    return WorkerLocal(factory, (_core.proc(), next(_numbers)))
