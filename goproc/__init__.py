"""goproc: Go's concurrency for Python, with real parallelism.

``go(f, x)`` runs a call as a goroutine on any core, ``chan(n)`` makes a channel that all of them can use. See
README.md.

This file is the whole public surface. Names are loaded at their first use, so that ``import goproc`` costs little.
"""

import sys as _sys

from goproc import _isolation

if "goproc" in _sys._xoptions:  # see _proc/early.py
    from goproc._proc.sigint_early import end_in_one_line as _end_in_one_line

    _end_in_one_line()


class _LoggingFinder:
    """The finder that loads _logging_hook when the program imports logging."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        if name != "logging":
            return None
        from goproc import _logging_hook

        return _logging_hook.find(_LoggingFinder)


class _DebuggerFinder:
    """The finder that loads _debugger_hook when the program imports bdb, of which Python's debuggers are made."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        if name != "bdb":
            return None
        from goproc import _debugger_hook

        return _debugger_hook.find(_DebuggerFinder)


_isolation.begin()
if _isolation.loaded("logging") is None:
    _sys.meta_path.insert(0, _LoggingFinder)  # type: ignore[arg-type]
else:
    __import__("goproc._logging_hook")
if _isolation.loaded("bdb") is None:
    _sys.meta_path.insert(0, _DebuggerFinder)  # type: ignore[arg-type]
else:
    __import__("goproc._debugger_hook")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc import context as context
    from goproc import errors as errors
    from goproc import patterns as patterns
    from goproc import rate as rate
    from goproc import singleflight as singleflight
    from goproc import sync as sync
    from goproc import testing as testing
    from goproc._asyncio import aselect as aselect
    from goproc._blocking import blocking as blocking
    from goproc._channel import Chan as Chan
    from goproc._channel import RecvChan as RecvChan
    from goproc._channel import SendChan as SendChan
    from goproc._channel import chan as chan
    from goproc._channel import nil as nil
    from goproc._completion import as_completed as as_completed
    from goproc._data.checkpoint import checkpoint_reset as checkpoint_reset
    from goproc._data.flow import Flow as Flow
    from goproc._data.flow import flow as flow
    from goproc._data.kin import pfilter as pfilter
    from goproc._data.kin import pfor as pfor
    from goproc._data.kin import pmap_array as pmap_array
    from goproc._data.kin import preduce as preduce
    from goproc._data.pmap import PMap as PMap
    from goproc._data.pmap import pmap as pmap
    from goproc._data.policy import Failure as Failure
    from goproc._data.sort import psort as psort
    from goproc._data.states import worker_state as worker_state
    from goproc._deaths import kill as kill
    from goproc._dump import dump as dump
    from goproc._dump import num_goroutine as num_goroutine
    from goproc._go import go as go
    from goproc._goroutine import Goroutine as Goroutine
    from goproc._goroutine import current as current
    from goproc._goroutine import goexit as goexit
    from goproc._group import Group as Group
    from goproc._monitor import Down as Down
    from goproc._monitor import monitor as monitor
    from goproc._recycle import recycle as recycle
    from goproc._runtime import main as main
    from goproc._runtime import proc as proc
    from goproc._runtime import procs as procs
    from goproc._runtime import run as run
    from goproc._runtime import runtime as runtime
    from goproc._runtime import workers as workers
    from goproc._sched.waits import sleep as sleep
    from goproc._sched.waits import yield_now as yield_now
    from goproc._select import Selected as Selected
    from goproc._select import Selector as Selector
    from goproc._select import default as default
    from goproc._select import select as select
    from goproc._share import Shared as Shared
    from goproc._share import share as share
    from goproc._shared_array import shared_array as shared_array
    from goproc._supervisor import Supervisor as Supervisor
    from goproc._timer import Ticker as Ticker
    from goproc._timer import Timer as Timer
    from goproc._timer import after as after
    from goproc._timer import after_func as after_func
    from goproc._timer import tick as tick
    from goproc._worker_local import worker_local as worker_local
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
    from goproc.errors import TaskTimeout as TaskTimeout
    from goproc.errors import TooManyRestarts as TooManyRestarts
    from goproc.errors import WorkerDied as WorkerDied
    from goproc.rate import Limiter as Limiter
    from goproc.sync import Atomic as Atomic
    from goproc.sync import Barrier as Barrier
    from goproc.sync import Cond as Cond
    from goproc.sync import Mutex as Mutex
    from goproc.sync import Once as Once
    from goproc.sync import RWMutex as RWMutex
    from goproc.sync import Semaphore as Semaphore
    from goproc.sync import WaitGroup as WaitGroup

__version__ = "0.2.0"

_HOMES = {
    "goproc._asyncio": ("aselect",),
    "goproc._blocking": ("blocking",),
    "goproc._channel": ("Chan", "RecvChan", "SendChan", "chan", "nil"),
    "goproc._completion": ("as_completed",),
    "goproc._data.checkpoint": ("checkpoint_reset",),
    "goproc._data.flow": ("Flow", "flow"),
    "goproc._data.kin": ("pfilter", "pfor", "pmap_array", "preduce"),
    "goproc._data.pmap": ("PMap", "pmap"),
    "goproc._data.policy": ("Failure",),
    "goproc._data.sort": ("psort",),
    "goproc._data.states": ("worker_state",),
    "goproc._deaths": ("kill",),
    "goproc._dump": ("dump", "num_goroutine"),
    "goproc._go": ("go",),
    "goproc._goroutine": ("Goroutine", "current", "goexit"),
    "goproc._group": ("Group",),
    "goproc._monitor": ("Down", "monitor"),
    "goproc._runtime": ("main", "proc", "procs", "run", "runtime", "workers"),
    "goproc._recycle": ("recycle",),
    "goproc._sched.waits": ("sleep", "yield_now"),
    "goproc._select": ("Selected", "Selector", "default", "select"),
    "goproc._share": ("Shared", "share"),
    "goproc._shared_array": ("shared_array",),
    "goproc._supervisor": ("Supervisor",),
    "goproc._timer": ("Ticker", "Timer", "after", "after_func", "tick"),
    "goproc._worker_local": ("worker_local",),
    "goproc.errors": (
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
        "TaskTimeout",
        "TooManyRestarts",
        "WorkerDied",
    ),
    "goproc.rate": ("Limiter",),
    "goproc.sync": ("Atomic", "Barrier", "Cond", "Mutex", "Once", "RWMutex", "Semaphore", "WaitGroup"),
}
# For names that users of other libraries try.
_INSTEAD = {
    "Array": "shared_array",
    "Channel": "chan",
    "Event": "a chan() that is closed",
    "Executor": "goproc.futures.Executor",
    "Lock": "Mutex",
    "Manager": "a goroutine that owns the value, and a chan() to it",
    "Parallel": "pmap, and goproc.joblib",
    "Pool": "pmap and go",
    "Process": "go",
    "ProcessPoolExecutor": "goproc.futures.Executor",
    "Queue": "chan",
    "Thread": "go",
    "Value": "Atomic",
    "WorkerPool": "pmap",
    "apply_async": "go",
    "delayed": "pmap",
    "gather": "as_completed",
    "get": "result() of the handle that go returns",
    "imap": "pmap",
    "init": "runtime",
    "map": "pmap",
    "put": "share",
    "remote": "go",
    "spawn": "go",
    "starmap": "pmap",
    "submit": "go",
    "wait": "as_completed, Group and select",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_WITHOUT_WIRING = ("goproc._channel", "goproc._go", "goproc.errors")  # each of them imports little
_MODULES = ("context", "errors", "patterns", "rate", "singleflight", "sync", "testing")

# Written out, since type checkers do not run this file: `from goproc import *` gives these.
__all__ = [
    "Atomic",
    "Barrier",
    "Cancelled",
    "Chan",
    "ChanClosed",
    "Cond",
    "CopiedAgain",
    "DeadlineExceeded",
    "Down",
    "Failure",
    "Flow",
    "GoprocError",
    "Goroutine",
    "Group",
    "Limiter",
    "Mutex",
    "Once",
    "OutOfSharedMemory",
    "OwnerDied",
    "PMap",
    "PickleError",
    "RWMutex",
    "RecvChan",
    "RemoteError",
    "RuntimeStopped",
    "Selected",
    "Selector",
    "Semaphore",
    "SendChan",
    "Shared",
    "SharedWrite",
    "Supervisor",
    "TaskTimeout",
    "Ticker",
    "Timer",
    "TooManyRestarts",
    "WaitGroup",
    "WorkerDied",
    "after",
    "after_func",
    "as_completed",
    "aselect",
    "blocking",
    "chan",
    "checkpoint_reset",
    "context",
    "current",
    "default",
    "dump",
    "errors",
    "flow",
    "go",
    "goexit",
    "kill",
    "main",
    "monitor",
    "nil",
    "num_goroutine",
    "patterns",
    "pfilter",
    "pfor",
    "pmap",
    "pmap_array",
    "preduce",
    "proc",
    "procs",
    "psort",
    "rate",
    "recycle",
    "run",
    "runtime",
    "select",
    "share",
    "shared_array",
    "singleflight",
    "sleep",
    "sync",
    "testing",
    "tick",
    "worker_local",
    "worker_state",
    "workers",
    "yield_now",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None and name not in _MODULES:
        instead = _INSTEAD.get(name)
        hint = f"; goproc has {instead} for that (docs/coming-from.md)" if instead else ""
        raise AttributeError(f"module 'goproc' has no attribute {name!r}{hint}")
    from goproc._proc.sigint_early import held

    with held(), _isolation.isolated, _isolation.Uncollected():
        __import__("goproc._wiring" if home not in _WITHOUT_WIRING else "goproc._proc.begin")
        module = home or f"goproc.{name}"
        __import__(module)
        value: object = _sys.modules[module]
        if home is not None:
            value = getattr(value, name)
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
