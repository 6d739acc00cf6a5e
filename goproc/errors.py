"""The exceptions of goproc, in one tree.

    Exception
    ├── GoprocError
    │   ├── ChanClosed            send on, close of, or receive from a closed channel
    │   ├── PickleError           a value cannot be copied to another goroutine (also a pickle.PicklingError)
    │   ├── RemoteError           stands for an exception that cannot be pickled
    │   ├── OutOfSharedMemory     a value does not fit in the shared memory (also a MemoryError)
    │   ├── WorkerDied            a goroutine was lost with its process
    │   ├── TaskTimeout           a goroutine, or a call of pmap, took longer than its timeout (also a TimeoutError)
    │   ├── TooManyRestarts       a Supervisor has given up
    │   ├── OwnerDied             a lock was taken whose holder was lost with its process
    │   ├── Canceled              err() of a context that was cancelled
    │   ├── DeadlineExceeded      err() of a context whose deadline passed; a timeout() block is over (also a TimeoutError)
    │   └── RuntimeStopped        something was used after the runtime it belongs to stopped (also a RuntimeError)
    ├── Warning
    │   ├── CopiedAgain           something large changes between messages, and is copied for each
    │   └── SharedWrite           a goroutine wrote to something large that the goroutines of its process share
    └── TimeoutError              Python's own: timeout= expired
    BaseException
    └── Cancelled                 raised in a goroutine by Goroutine.cancel()

Misuse of a primitive is Go's text in the matching Python exception: ValueError("sync: negative WaitGroup counter").
"""

from __future__ import annotations

import pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class GoprocError(Exception):
    """Base of everything goproc raises that is not one of Python's own exceptions."""


class ChanClosed(GoprocError):
    """The channel is closed: ``send on closed channel``, ``close of closed channel`` and so on."""


class PickleError(GoprocError, pickle.PicklingError):
    """Something cannot be copied to another goroutine; the message names the path to it."""


class RemoteError(GoprocError):
    """Stands for an exception of another goroutine that cannot be pickled.

    Attributes:
        type_name: the qualified name of its type.
        text: its ``str()``.
        traceback: its traceback as text.
        reason: names the parts that cannot be pickled.
        arguments: its ``args``, with None in place of those that cannot be pickled.
        attributes: by name, its attributes that can be pickled.
        kinds: the full names of its type and of the bases of that, up to Exception.
    """

    def __init__(
        self,
        type_name: str,
        text: str,
        traceback: str,
        reason: str = "",
        arguments: tuple[Any, ...] = (),
        attributes: dict[str, Any] | None = None,
        kinds: tuple[str, ...] = (),
    ) -> None:
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback
        self.reason = reason
        self.arguments = arguments
        self.attributes = {} if attributes is None else attributes
        self.kinds = kinds

    def stands_for(self, kind: type[BaseException]) -> bool:
        """Return True if the exception is of a type or of one derived from that. The names of the types are compared.

        Args:
            kind: the type.
        """
        return kind is BaseException or f"{kind.__module__}.{kind.__qualname__}" in self.kinds

    def __str__(self) -> str:
        said = f"{self.type_name}: {self.text}" if self.text else self.type_name
        return f"{said} ({self.reason})" if self.reason else said


class OutOfSharedMemory(GoprocError, MemoryError):
    """A value, channel or goroutine does not fit. The message says how much was asked, and how to raise the limit."""


class WorkerDied(GoprocError):
    """The goroutine was lost with the process it ran on.

    Attributes:
        proc: the number of the worker; its replacement has the same.
        pid: its process id.
        signal: the number of the signal that killed it; None if it ended by itself, or the signal is not known.
        status: the exit status of a worker that ended by itself, else None.
        reason: how it ended, in words.
        memory: bytes that it had resident at most; 0 if that is not known.
        goroutines: (id, name) of the goroutines that were lost with it, the first 120 of them.
        running: the id of the goroutine that ran at that moment; 0 if none did, or that is not known.
        timed_out: True if it was killed because the time of a goroutine was over.
        started: False if the goroutine had not begun: it was for that worker alone, and that is not replaced.
    """

    def __init__(
        self,
        text: str = "",
        *,
        proc: int = -1,
        pid: int = 0,
        signal: int | None = None,
        status: int | None = None,
        reason: str = "",
        memory: int = 0,
        goroutines: tuple[tuple[int, str], ...] = (),
        running: int = 0,
        timed_out: bool = False,
        started: bool = True,
    ) -> None:
        super().__init__(text)
        self.proc = proc
        self.pid = pid
        self.signal = signal
        self.status = status
        self.reason = reason
        self.memory = memory
        self.goroutines = goroutines
        self.running = running
        self.timed_out = timed_out
        self.started = started


class TaskTimeout(GoprocError, TimeoutError):
    """A goroutine of ``go.opts(timeout=...)``, or a call of pmap, took too long: it was cancelled, or killed."""


class TooManyRestarts(GoprocError):
    """A Supervisor had to start its children again too often. Its ``__cause__`` is the last failure."""


class OwnerDied(GoprocError):
    """The process that held this lock died. The caller holds the lock now; the guarded data may be half changed."""


class Canceled(GoprocError):
    """The err() of a context after its cancel function was called, or that of a context above."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or ("context canceled",)))


class DeadlineExceeded(GoprocError, TimeoutError):
    """The err() of a context after its deadline. In a timeout() block, goproc's operations raise it after the time."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or ("context deadline exceeded",)))


class RuntimeStopped(GoprocError, RuntimeError):
    """A channel, handle or sync object was used after the runtime it belongs to stopped."""


class CopiedAgain(RuntimeWarning):
    """A large object that goroutines use changes between their ``go`` lines, and is copied each time."""


class SharedWrite(RuntimeWarning):
    """A goroutine wrote to a large object that the goroutines of its process share. The next one gets a fresh copy."""


class Cancelled(BaseException):
    """Raised in a goroutine at its next blocking point after ``cancel()``.

    This is a BaseException, so that ``except Exception`` does not swallow it. A goroutine that lets it through ends
    quietly.
    """
