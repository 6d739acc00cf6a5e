"""Channels, which carry values between goroutines.

The operations are in the C core (goproc/shm); this file has their names in Python, and parts that need no speed.
"""

from __future__ import annotations

from goproc._public import of_stopped, public
from goproc._tracebacks import user_line
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from types import TracebackType
    from typing import Any, Generic, Self, TypeVar

    T = TypeVar("T")
    T_co = TypeVar("T_co", covariant=True)
    T_contra = TypeVar("T_contra", contravariant=True)

# Modules that take the len() of an iterable for the number of its items.
_PROGRESS_BARS = frozenset(
    {
        "alive_progress.core.progress",
        "fastprogress.core",
        "fastprogress.fastprogress",
        "progressbar.bar",
        "progressbar.shortcuts",
        "rich.progress",
        "tqdm.std",
    }
)


if TYPE_CHECKING:
    # For a checker a channel is both of its views, as in Go: a Chan[int] can be given for a RecvChan[int] or a
    # SendChan[int], and not the other way round.

    class _View(_core.Channel):
        @property
        def cap(self) -> int: ...
        @property
        def closed(self) -> bool: ...
        def __len__(self) -> int: ...
        def __enter__(self) -> Self: ...
        def __exit__(
            self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
        ) -> None: ...

    class SendChan(_View, Generic[T_contra]):
        """The send-only view of a channel (``ch.tx``), Go's `chan<- T`."""

        def send(self, value: T_contra, /, timeout: float | None = None) -> None: ...
        def try_send(self, value: T_contra, /) -> bool: ...
        def send_many(self, values: Iterable[T_contra], /, timeout: float | None = None) -> int: ...
        def asend(self, value: T_contra, /, timeout: float | None = None) -> Coroutine[Any, Any, None]: ...
        def close(self) -> None: ...
        @property
        def tx(self) -> SendChan[T_contra]: ...

    class RecvChan(_View, Generic[T_co]):
        """The receive-only view of a channel (``ch.rx``), Go's `<-chan T`."""

        def recv(self, timeout: float | None = None) -> T_co: ...
        def recv_ok(self, timeout: float | None = None) -> tuple[T_co | None, bool]: ...
        def try_recv(self) -> tuple[T_co | None, bool]: ...
        def recv_many(self, n: int, /, timeout: float | None = None) -> list[T_co]: ...
        def __iter__(self) -> Self: ...
        def __next__(self) -> T_co: ...
        def arecv(self, timeout: float | None = None) -> Coroutine[Any, Any, T_co]: ...
        def __aiter__(self) -> Self: ...
        def __anext__(self) -> Coroutine[Any, Any, T_co]: ...
        @property
        def rx(self) -> RecvChan[T_co]: ...

    class Chan(SendChan[T], RecvChan[T]):
        """A channel of values between goroutines of any process, as Go's `chan`."""

        def __new__(cls, cap: int = 0) -> Self: ...

else:

    @public
    class Chan(_core.Channel):
        """A channel of values between goroutines of any process, as Go's `chan`.

        Made by ``chan(cap)``. With capacity 0 a send meets a receive (rendezvous); otherwise up to ``cap`` values are
        buffered. Values and waiting goroutines are served first in, first out. Every value is copied.

        A handle is itself a value. It can be sent over channels and passed to goroutines. It equals every other handle
        of the same channel, and has the same hash. The channel is freed when its last handle is gone. ``for v in ch``
        receives until the channel is closed and drained. ``with ch:`` closes it at the end. ``len(ch)`` is the number
        of buffered values at some instant. A progress bar over a channel (``tqdm(ch)``) has no total.
        """

        __slots__ = ()
        __goproc_handle__ = True

        def __enter__(self) -> Chan:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
        ) -> None:
            self.close()

        def arecv(self, timeout: float | None = None) -> Any:
            """``await ch.arecv()``: recv() in a coroutine, while other tasks of its event loop run.

            A task that is cancelled receives nothing. If it received a value at that very moment, the call returns the
            value, and the task is cancelled at its next wait.

            Args:
                timeout: seconds to wait at most; None waits for ever.

            Raises:
                ChanClosed, TimeoutError: as recv().
                asyncio.CancelledError: the task was cancelled.
            """
            from goproc import _asyncio

            return _asyncio.arecv(self, timeout)

        def asend(self, value: Any, /, timeout: float | None = None) -> Any:
            """``await ch.asend(value)``: send() in a coroutine, while other tasks of its event loop run.

            A task that is cancelled has sent nothing. If it sent the value at that very moment, the call returns, and
            the task is cancelled at its next wait.

            Args:
                value: the value to send; it is copied.
                timeout: seconds to wait at most; None waits for ever.

            Raises:
                ChanClosed, TimeoutError, PickleError: as send().
                asyncio.CancelledError: the task was cancelled.
            """
            from goproc import _asyncio

            return _asyncio.asend(self, value, timeout)

        def __aiter__(self) -> Chan:
            return self

        def __anext__(self) -> Any:
            from goproc import _asyncio

            return _asyncio.anext_of(self)

        def __repr__(self) -> str:
            return _repr(self, "chan")

    @public
    class SendChan(Chan):
        """The send-only view of a channel (``ch.tx``), Go's `chan<- T`; equal to the channel."""

        __slots__ = ()

        def __new__(cls, *args: Any) -> SendChan:
            raise TypeError("a send-only channel is a view: chan(cap).tx")

        def __repr__(self) -> str:
            return _repr(self, "chan<-")

    @public
    class RecvChan(Chan):
        """The receive-only view of a channel (``ch.rx``), Go's `<-chan T`; equal to the channel."""

        __slots__ = ()

        def __new__(cls, *args: Any) -> RecvChan:
            raise TypeError("a receive-only channel is a view: chan(cap).rx")

        def __repr__(self) -> str:
            return _repr(self, "<-chan")


def _repr(ch: Chan[Any], kind: str) -> str:
    if ch._ref == 0:
        return "<nil chan>"
    try:
        state = f"{len(ch)}/{ch.cap}{' closed' if ch.closed else ''}"
    except RuntimeError:
        return of_stopped(f"{kind} {ch._ref:#x}")
    return f"<{kind} {ch._ref:#x} {state}>"


def _not_a_number(cap: Any) -> TypeError:
    said = f"chan() takes the number of values that it buffers, not {type(cap).__name__}"
    kind = getattr(cap, "__name__", None) if isinstance(cap, type) else None
    return TypeError(f"{said}; write chan[{kind}](n) for a channel of this type" if kind else said)


@public
class _Make:
    """``chan(cap=0)`` and ``chan[T](cap)``: make a channel.

    Args:
        cap: the number of values that it buffers; 0 makes every send wait for its receiver.

    Raises:
        TypeError: ``cap`` is no whole number.
        ValueError: ``makechan: size out of range``.
        OutOfSharedMemory: the buffer (64 bytes a value) does not fit.

    Cost: about 0.2 us; the first use of goproc starts the runtime.
    """

    __slots__ = ()
    __goproc_constant__ = True

    def __reduce__(self) -> str:
        return "chan"

    def __call__(self, cap: int = 0) -> Chan[Any]:
        try:
            return Chan(cap)
        except Exception as exc:
            error = exc if hasattr(type(cap), "__index__") else _not_a_number(cap)
        with user_line:
            raise error.with_traceback(None)

    def __getitem__(self, item: type[T]) -> type[Chan[T]]:
        return Chan

    def __repr__(self) -> str:
        return "chan"


chan = _Make()
_core.connect(chan=Chan, send_view=SendChan, recv_view=RecvChan, progress_bars=_PROGRESS_BARS)
nil: Chan[Any] = _core.make_nil()
_core.connect(nil=nil)
