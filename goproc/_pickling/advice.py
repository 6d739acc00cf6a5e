"""Advice for an object that cannot be pickled, by the kind of the object.

Types are known by their names, so that no module is imported. A subclass has the advice of its base.
"""

from __future__ import annotations

import sys

from goproc._raised import text_of
from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Advice(Record):
    """The advice for one kind of object.

    Attributes:
        sent: for an object in a call or in a message.
        returned: for an object in a result.
    """

    sent: str
    returned: str


def _in_place(what: str, instead: str, returned: str = "return the values that the caller needs") -> Advice:
    return Advice(f"{what} works in its own process only: use {instead}", returned)


_OTHER = Advice(
    "make it inside the goroutine that uses it, or once in each process by goproc.worker_local(make), or send what it is "
    "made from (a path, an address, the arguments)",
    "return the values that the caller needs, or what it is made from (a path, an address, the arguments)",
)
_FILE = Advice(
    "an open file belongs to its process: pass the path, and open the file in the goroutine\n"
    "to write one file from many goroutines, return the lines, or send them over a channel",
    "return the path of the file, or its content",
)
_DATABASE = Advice(
    "a database connection belongs to its process: connect in the goroutine, or once in each process by "
    "`db = goproc.worker_local(connect)` and `db()` (in pmap: init=connect and worker_state())",
    "return the rows, as a list",
)
_SOCKET = Advice(
    "a connection belongs to its process: pass the address, and connect in the goroutine, or once in each process by "
    "`connection = goproc.worker_local(connect)` and `connection()` (in pmap: init=connect and worker_state())",
    "return the data that was received",
)
_TLS = Advice(
    "settings of TLS belong to their process: make them in the goroutine, or once in each process by "
    "goproc.worker_local(make)",
    "return the arguments that they are made from",
)
_GENERATOR = Advice(
    "an iterator runs in its process: pass the values as a list, or send them over a channel",
    "return the values as a list, or send them over a channel",
)
_COROUTINE = Advice(
    "a coroutine runs in its event loop: pass the function and its arguments, and run it by asyncio.run() in the goroutine",
    "the function is asynchronous: run it by asyncio.run() in a function of your own, and start that as the goroutine",
)
_LOCK = _in_place("a lock of threading", "goproc.Mutex(), which works in all processes")
_SEMAPHORE = _in_place("a semaphore of threading", "goproc.Semaphore(n), which works in all processes")
_PROCESS_LOCK = Advice(
    "an object of multiprocessing goes to child processes of its own only: use goproc.Mutex, Semaphore, Atomic, chan or "
    "shared_array",
    "return the values that the caller needs",
)
_QUEUE = _in_place("a queue", "goproc.chan(n), which works in all processes", "return the values as a list")
_POOL = Advice(
    "a pool belongs to its process: make it in the goroutine, or call goproc.pmap() or go() in its place",
    "return the results of its calls",
)
_THREAD = Advice(
    "a thread belongs to its process: start it in the goroutine, and keep it out of objects that are sent",
    "return the values that the thread has made",
)
_PROGRAM = Advice(
    "a program that runs belongs to its process: start it in the goroutine, or pass its pid",
    "return its output and its returncode",
)
_LOGGING = Advice(
    "handlers of logging stay in the script: call logging.getLogger(name) in the goroutine; its records reach the handlers "
    "of the script",
    "return nothing of logging: records of goroutines reach the handlers of the script",
)
_LOOP = _in_place(
    "an object of an event loop",
    "goproc.chan(n), with `await ch.arecv()` and `await ch.asend(value)` in coroutines",
)
_BAR = Advice(
    "a progress bar belongs to its process: use pmap(..., progress=True), or update the bar in the script as results come",
    "return the count, and update the bar in the script",
)
_MAPPED = Advice(
    "mapped memory belongs to its process: map the file in the goroutine, or use goproc.shared_array() or share()",
    "return bytes(...) of it",
)
_FRAME = Advice(
    "a frame or a traceback belongs to its thread: pass its text, as traceback.format_exc() makes it",
    "return its text, as traceback.format_exc() makes it",
)
_POINTER = Advice(
    "a pointer is valid in its process only: pass the value or the bytes that it points to",
    "return the value or the bytes that it points to",
)
_BY_NAME = Advice(
    "the object that holds this function pickles it by itself, by name: define the function with def at the top level of an "
    "installed module",
    "the object that holds this function pickles it by itself, by name: define the function with def at the top level of an "
    "installed module",
)

_KINDS = {
    "_io": dict.fromkeys(
        ("TextIOWrapper", "BufferedReader", "BufferedWriter", "BufferedRandom", "FileIO"), _FILE
    ),
    "tempfile": dict.fromkeys(("_TemporaryFileWrapper", "SpooledTemporaryFile"), _FILE),
    "zipfile": {"ZipFile": _FILE},
    "tarfile": {"TarFile": _FILE},
    "gzip": {"GzipFile": _FILE},
    "bz2": {"BZ2File": _FILE},
    "lzma": {"LZMAFile": _FILE},
    "h5py._hl.files": {"File": _FILE},
    "socket": {"socket": _SOCKET},
    "ssl": {"SSLContext": _TLS},
    "http.client": dict.fromkeys(("HTTPConnection", "HTTPResponse"), _SOCKET),
    "builtins": {
        "generator": _GENERATOR,
        "async_generator": _GENERATOR,
        "coroutine": _COROUTINE,
        "frame": _FRAME,
        "traceback": _FRAME,
    },
    "_csv": {"reader": _GENERATOR, "writer": _FILE},
    "csv": {"DictReader": _GENERATOR, "DictWriter": _FILE},
    "posix": {"ScandirIterator": _GENERATOR},
    "_thread": {
        "lock": _LOCK,
        "RLock": _LOCK,
    },
    "threading": {
        "Thread": _THREAD,
        "Condition": _in_place(
            "a condition of threading", "goproc.Cond(goproc.Mutex()), which works in all processes"
        ),
        "Event": _in_place(
            "an event of threading", "a channel, `done = chan()`: done.close() tells all that wait"
        ),
        "Semaphore": _SEMAPHORE,
        "Barrier": _in_place("a barrier of threading", "goproc.Barrier(n), which works in all processes"),
        "_RLock": _LOCK,
    },
    "queue": {"Queue": _QUEUE},
    "_queue": {"SimpleQueue": _QUEUE},
    "multiprocessing.synchronize": dict.fromkeys(("SemLock", "Condition", "Event", "Barrier"), _PROCESS_LOCK),
    "multiprocessing.sharedctypes": {"SynchronizedBase": _PROCESS_LOCK},
    "multiprocessing.queues": dict.fromkeys(("Queue", "SimpleQueue"), _QUEUE),
    "multiprocessing.connection": {
        "_ConnectionBase": _in_place(
            "an end of a pipe of multiprocessing", "goproc.chan(n), which works in all processes"
        )
    },
    "multiprocessing.pool": {"Pool": _POOL},
    "multiprocessing.process": {"BaseProcess": _PROGRAM},
    "concurrent.futures._base": {"Executor": _POOL, "Future": _POOL},
    "subprocess": {"Popen": _PROGRAM},
    "logging": {"Handler": _LOGGING},
    "asyncio.events": {"AbstractEventLoop": _LOOP, "Handle": _LOOP},
    "asyncio.mixins": {"_LoopBoundMixin": _LOOP},
    "_asyncio": dict.fromkeys(("Future", "Task"), _LOOP),
    "tqdm.std": {"tqdm": _BAR},
    "mmap": {"mmap": _MAPPED},
    "_ctypes": dict.fromkeys(("_Pointer", "CFuncPtr"), _POINTER),
    "sqlalchemy.engine.base": dict.fromkeys(("Connection", "Engine"), _DATABASE),
    "sqlalchemy.orm.session": {"Session": _DATABASE},
    "redis.client": {"Redis": _DATABASE},
}


def known(obj: Any) -> Advice | None:
    """Return the advice for objects of this kind; None if the kind is not in the table."""
    for cls in type(obj).__mro__:
        found = _KINDS.get(cls.__module__, {}).get(cls.__qualname__)
        if found is not None:
            return found
    return _DATABASE if _is_of_a_database(type(obj)) else None


def _is_of_a_database(kind: type) -> bool:
    """True for the connections and cursors of a module that follows Python's interface for databases (PEP 249)."""
    module = sys.modules.get(kind.__module__.partition(".")[0])
    name = kind.__qualname__.lower()
    return hasattr(module, "apilevel") and ("connection" in name or "cursor" in name)


def advise(path: list[Any], error: BaseException, returned: bool) -> str:
    """Return the advice for an object that cannot be pickled.

    Args:
        path: the objects from the value that was sent to the one that cannot be pickled.
        error: the exception of pickle.
        returned: True if the value is a result.
    """
    found = known(path[-1])
    if found is None or found is _LOCK:
        owner = next(filter(None, map(_installed, path)), None)
        if owner is not None:
            found = _made(owner)
    if found is None:
        found = _BY_NAME if _names_a_function(error) else _OTHER
    return found.returned if returned else found.sent


def _installed(obj: Any) -> str | None:
    """Return the name of the object's class if that is of an installed package that is not of the standard library."""
    kind = type(obj)
    module = sys.modules.get(kind.__module__)
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    installed = isinstance(origin, str) and ("/site-packages/" in origin or "/dist-packages/" in origin)
    return f"{kind.__module__}.{kind.__qualname__}" if installed else None


def _made(name: str) -> Advice:
    return Advice(
        f"make the {name} in the goroutine, or once in each process by goproc.worker_local(make) (in pmap: init=make and "
        "worker_state())",
        _OTHER.returned,
    )


def _names_a_function(error: BaseException) -> bool:
    """True if pickle has looked for a function by its name, and there is none of that name."""
    text = text_of(error)
    return "<lambda>" in text or "<locals>" in text
