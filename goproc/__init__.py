"""goproc: Go's concurrency for Python, with real parallelism.

``go(f, x)`` runs a call as a goroutine on any core, ``chan(n)`` makes a channel that all of them can use. See README.md.

This file is the whole public surface. Names are loaded at their first use, so that ``import goproc`` costs little.
"""

from __future__ import annotations

from goproc import isolation as _isolation
from goproc.interrupts import held as _interrupts_held

_isolation.begin()

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc import context as context
    from goproc import errors as errors
    from goproc import patterns as patterns
    from goproc import rate as rate
    from goproc import singleflight as singleflight
    from goproc import sync as sync
    from goproc.channel import Chan as Chan
    from goproc.channel import RecvChan as RecvChan
    from goproc.channel import SendChan as SendChan
    from goproc.channel import chan as chan
    from goproc.channel import nil as nil
    from goproc.completion import as_completed as as_completed
    from goproc.errors import Canceled as Canceled
    from goproc.errors import Cancelled as Cancelled
    from goproc.errors import ChanClosed as ChanClosed
    from goproc.errors import CopiedAgain as CopiedAgain
    from goproc.errors import DeadlineExceeded as DeadlineExceeded
    from goproc.errors import GoprocError as GoprocError
    from goproc.errors import OutOfSharedMemory as OutOfSharedMemory
    from goproc.errors import OwnerDied as OwnerDied
    from goproc.errors import PickleError as PickleError
    from goproc.errors import RemoteError as RemoteError
    from goproc.errors import RuntimeStopped as RuntimeStopped
    from goproc.errors import SharedWrite as SharedWrite
    from goproc.errors import WorkerDied as WorkerDied
    from goproc.goroutine import Goroutine as Goroutine
    from goproc.goroutine import current as current
    from goproc.goroutine import go as go
    from goproc.goroutine import goexit as goexit
    from goproc.group import Group as Group
    from goproc.host import main as main
    from goproc.host import proc as proc
    from goproc.host import procs as procs
    from goproc.host import run as run
    from goproc.host import runtime as runtime
    from goproc.host import workers as workers
    from goproc.rate import Limiter as Limiter
    from goproc.report import dump as dump
    from goproc.report import num_goroutine as num_goroutine
    from goproc.scheduler import sleep as sleep
    from goproc.scheduler import yield_now as yield_now
    from goproc.selection import Selected as Selected
    from goproc.selection import Selector as Selector
    from goproc.selection import default as default
    from goproc.selection import select as select
    from goproc.sharing import Shared as Shared
    from goproc.sharing import share as share
    from goproc.sync import Atomic as Atomic
    from goproc.sync import Barrier as Barrier
    from goproc.sync import Cond as Cond
    from goproc.sync import Mutex as Mutex
    from goproc.sync import Once as Once
    from goproc.sync import RWMutex as RWMutex
    from goproc.sync import Semaphore as Semaphore
    from goproc.sync import WaitGroup as WaitGroup
    from goproc.timer import Ticker as Ticker
    from goproc.timer import Timer as Timer
    from goproc.timer import after as after
    from goproc.timer import after_func as after_func
    from goproc.timer import tick as tick

__version__ = "0.2.0"

_HOMES = {
    "goproc.channel": ("Chan", "RecvChan", "SendChan", "chan", "nil"),
    "goproc.completion": ("as_completed",),
    "goproc.errors": (
        "Canceled",
        "Cancelled",
        "ChanClosed",
        "CopiedAgain",
        "DeadlineExceeded",
        "GoprocError",
        "OutOfSharedMemory",
        "OwnerDied",
        "PickleError",
        "RemoteError",
        "RuntimeStopped",
        "SharedWrite",
        "WorkerDied",
    ),
    "goproc.goroutine": ("Goroutine", "current", "go", "goexit"),
    "goproc.group": ("Group",),
    "goproc.host": ("main", "proc", "procs", "run", "runtime", "workers"),
    "goproc.rate": ("Limiter",),
    "goproc.report": ("dump", "num_goroutine"),
    "goproc.scheduler": ("sleep", "yield_now"),
    "goproc.selection": ("Selected", "Selector", "default", "select"),
    "goproc.sharing": ("Shared", "share"),
    "goproc.sync": ("Atomic", "Barrier", "Cond", "Mutex", "Once", "RWMutex", "Semaphore", "WaitGroup"),
    "goproc.timer": ("Ticker", "Timer", "after", "after_func", "tick"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = ("context", "errors", "patterns", "rate", "singleflight", "sync")

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None and name not in _MODULES:
        raise AttributeError(f"module 'goproc' has no attribute {name!r}")
    with _interrupts_held(), _isolation.isolated:
        import importlib

        importlib.import_module("goproc._wiring")
        if home is None:
            value: object = importlib.import_module(f"goproc.{name}")
        else:
            value = getattr(importlib.import_module(home), name)
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
