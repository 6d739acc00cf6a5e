"""Supervisor: goroutines that are started again when they fail. Erlang/OTP's supervisors.

A goroutine in the supervisor's process waits for the end of any child, and decides. Children are goroutines like any
other, on any process. The call of a child is stored once, at its start, and each restart makes the same call.

When the process of a supervisor dies, its children would go on, and a second start of the supervisor would double them.
So each child of a supervisor outside of the host (with which everything ends) also waits for the end of the
supervisor's goroutine, and is cancelled then.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

from goproc._call_options import checked_labels, checked_name, checked_seconds
from goproc._channel import Chan
from goproc._child import QUIETLY, Child, describe_end, end_or_kill
from goproc._go import checked_proc, go
from goproc._goroutine import Goroutine
from goproc._proc import fatal
from goproc._public import public
from goproc._sched import scheduler
from goproc._select import select
from goproc._spawn import name_of, stored_call
from goproc._tracebacks import cut, ends_at_user, user_line
from goproc.errors import Cancelled, TooManyRestarts
from goproc.shm import _core
from goproc.sync import Mutex, WaitGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Literal, NoReturn, ParamSpec

    from goproc._sched.g import G

    P = ParamSpec("P")

__all__ = ["Supervisor"]

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
RESTARTS = ("permanent", "transient", "temporary")
_PATIENCE = 1.0  # seconds that children have to end after Ctrl-C


class _Starter:
    """Supervisor.go() with options, as Supervisor.opts() returns it."""

    __slots__ = ("_labels", "_name", "_proc", "_restart", "_shutdown", "_supervisor")

    def __init__(
        self,
        supervisor: Supervisor,
        name: str | None,
        restart: str,
        shutdown: float | None,
        proc: int,
        labels: dict[str, str],
    ) -> None:
        self._supervisor = supervisor
        self._name = name
        self._restart = restart
        self._shutdown = shutdown
        self._proc = proc
        self._labels = labels

    def __call__(self, f: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Child:
        with user_line:
            call = stored_call(f, args, kwargs)
        name = self._name or name_of(f)
        child = Child(name, self._restart, self._shutdown, self._proc, self._labels, call)
        self._supervisor._add(child)
        return child


@public
class Supervisor:
    """Starts goroutines, its children, and starts them again when they end, as the supervisors of Erlang/OTP.

        with Supervisor(restarts=5, within=60) as sup:
            sup.go(serve, requests)                             # permanent: always started again
            sup.opts(restart="transient")(load, path)           # only after a failure
            sup.wait()

    Children start in the order of the calls. At the end of the block they end in the reverse order. Each is cancelled
    and has `shutdown` seconds to clean up. A child on a worker that has not ended by then is killed with its worker.

    A child fails by an exception, or is lost with its process (WorkerDied). A child that was cancelled, or called
    goexit(), has ended without a failure. For each restart the supervisor prints a line on stderr with the reason.

    Args:
        strategy: which children are started again when one is: "one_for_one", that one; "one_for_all", all;
            "rest_for_one", that one and those that were started after it. The others are ended first, in reverse order.
            Among them, transient children that had ended are started again, and temporary ones are not.
        restarts: the most restarts within `within` seconds. At one more the supervisor gives up: it ends all children,
            interrupts the body of its block where that waits, and raises TooManyRestarts there.
        within: seconds.
        shutdown: seconds that a child has to end; None: any time.
        quiet: say nothing on stderr.

    Raises:
        ValueError: there is no such strategy; a number is negative or NaN.

    A supervisor may also be used without a block: stop() ends it. It belongs to the process that made it. If that
    process dies, the children are cancelled.
    """

    @ends_at_user
    def __init__(
        self,
        strategy: str = "one_for_one",
        *,
        restarts: int = 3,
        within: float = 5.0,
        shutdown: float | None = 5.0,
        quiet: bool = False,
    ) -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"Supervisor(strategy={strategy!r}): give one of {', '.join(STRATEGIES)}")
        if not isinstance(restarts, int) or isinstance(restarts, bool):
            raise TypeError(f"Supervisor(restarts=...) takes a whole number, not {type(restarts).__name__}")
        if restarts < 0:
            raise ValueError(f"Supervisor(restarts=...) takes a number from 0 on, not {restarts}")
        self._strategy = strategy
        self._most = restarts
        self._within = checked_seconds(within, "Supervisor(within=...)")
        self._shutdown = _checked_shutdown(shutdown, "Supervisor(shutdown=...)")
        self._quiet = quiet
        self._children: list[Child] = []
        self._times: deque[float] = deque()  # of the last restarts
        self._loop: Goroutine[None] | None = None
        self._news: Chan[None] = Chan(1)  # a message: a child is new, or the supervisor is to end
        self._lock = Mutex()  # held while children are started and ended
        self._active = WaitGroup()  # counts the children that run or are to run again
        self._stopping = False
        self._error: TooManyRestarts | None = None
        self._body: G | None = None
        self._interrupt: Cancelled | None = None

    # -- children

    def go(self, f: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Child:
        """Start a permanent child that calls ``f(*args, **kwargs)``. The arguments are copied, once for all restarts.

        Args:
            f: the function.
            args, kwargs: its arguments.

        Raises:
            PickleError: something cannot be copied.
            TypeError: f is not callable.
            RuntimeError: the supervisor has ended.
        """
        try:
            return self.opts()(f, *args, **kwargs)
        except BaseException as exc:
            trace = exc.__traceback__
            cut(exc, trace is None or trace.tb_next is None)  # the call has cut all but this frame off
            raise

    def opts(
        self,
        *,
        name: str | None = None,
        labels: Mapping[str, object] | None = None,
        restart: str = "permanent",
        shutdown: float | None = -1,
        proc: int | None = None,
    ) -> _Starter:
        """``sup.opts(restart="transient")(f, ...)``: go() with options.

        Args:
            name: the name of the child in reports; default: the name of its function.
            labels: as for go.opts().
            restart: "permanent": always start it again. "transient": if it fails. "temporary": never.
            shutdown: seconds for its end; None: any time. Default: the supervisor's.
            proc: run it on that process.

        Raises:
            ValueError: there is no such word or proc; a time is negative or NaN.
        """
        if restart not in RESTARTS:
            raise ValueError(f"Supervisor.opts(restart={restart!r}): give one of {', '.join(RESTARTS)}")
        if shutdown == -1 and type(shutdown) is int:
            shutdown = self._shutdown
        else:
            shutdown = _checked_shutdown(shutdown, "Supervisor.opts(shutdown=...)")
        where = -1 if proc is None else checked_proc(proc)
        return _Starter(self, checked_name(name), restart, shutdown, where, checked_labels(labels))

    @property
    def children(self) -> list[Child]:
        """The children that run or may run again, in the order of their start."""
        return list(self._children)

    def _add(self, child: Child) -> None:
        with self._lock:
            if self._stopping:
                raise RuntimeError("the Supervisor has ended" + (f": {self._error}" if self._error else ""))
            if self._loop is None:
                self._loop = go.opts(name="goproc.Supervisor").local(self._supervise)
            self._start(child)
            self._children.append(child)
        self._news.try_send(None)

    def _start(self, child: Child) -> None:
        again = child._alive
        child._start(self._loop if _core.proc() != 0 else None)
        if not again:
            self._active.add(1)

    def _forget(self, child: Child) -> None:
        """Forget a child that has ended for good."""
        if child._alive:
            child._alive = False
            self._active.done()
        if child.restart == "temporary" and child in self._children:
            self._children.remove(child)

    # -- the goroutine that supervises

    def _supervise(self) -> None:
        while not self._stopping:
            running = [child for child in self._children if child._alive]
            ended = select(*[child.goroutine for child in running], self._news).index
            if ended < len(running):
                with self._lock:
                    child = running[ended]
                    if child._alive and not child._runs() and not self._stopping:
                        self._on_end(child)
        if self._error is not None:
            raise self._error

    def _on_end(self, child: Child) -> None:
        reason = child.goroutine.exception()
        what = describe_end(child, reason)
        if not child._wants_restart(reason):
            self._tell(f"{what}; it is not started again", reason)
            self._forget(child)
            return
        now = monotonic()
        self._times.append(now)
        while self._times[0] < now - self._within:
            self._times.popleft()
        if len(self._times) > self._most:
            self._forget(child)
            self._give_up(
                f"{what}; that is more than {self._most} restarts within {self._within:g} s", reason
            )
            return
        try:
            self._restart(child)
        except Exception as exc:  # no memory, or its proc is not there any more
            self._give_up(f"{child.name} could not be started again: {type(exc).__name__}: {exc}", exc)
        else:
            self._tell(f"{what}; started again as goroutine {child.goroutine.id}", reason)

    def _restart(self, child: Child) -> None:
        """Start a child again, and the others that the strategy names."""
        first = self._children.index(child)
        affected = {
            "one_for_one": [child],
            "one_for_all": self._children[:],
            "rest_for_one": self._children[first:],
        }[self._strategy]
        others = [other for other in affected if other is not child]
        self._end_all(others)
        for other in affected:
            if other is child or other.restart != "temporary":
                self._start(other)
                other.restarts += 1

    def _end_all(self, children: list[Child], patience: float | None = None) -> None:
        """End children, the last one first.

        Args:
            children: in the order of their start.
            patience: seconds for all of them; None: each has the seconds that were set for it.
        """
        limit = None if patience is None else monotonic() + patience
        for child in reversed(children):
            if child._runs():
                child.goroutine.cancel()
                seconds = child._shutdown
                if limit is not None:
                    left = max(0.0, limit - monotonic())
                    seconds = left if seconds is None else min(seconds, left)
                end_or_kill(child.goroutine, seconds)
            if child._alive and not child._runs():
                reason = child.goroutine.exception()
                self._tell(f"{describe_end(child, reason)}, while it was to end", reason)
            if child.restart == "temporary":
                self._forget(child)

    def _give_up(self, text: str, reason: BaseException | None) -> None:
        self._error = TooManyRestarts(text)
        self._error.__cause__ = reason
        self._end(None)
        body = self._body
        if body is not None and body.interrupt is None:
            self._interrupt = Cancelled()
            scheduler.interrupt(body, self._interrupt)

    def _end(self, patience: float | None) -> None:
        """End all children, for good. The caller has the lock."""
        self._stopping = True
        self._end_all(self._children, patience)
        for child in self._children[:]:
            self._forget(child)

    def _tell(self, text: str, reason: BaseException | None) -> None:
        if not self._quiet and not (reason is None or isinstance(reason, QUIETLY)):
            fatal.report(f"goproc: supervisor: {text}\n")

    # -- the end

    def wait(self, timeout: float | None = None) -> None:
        """Wait until no child runs or will run again.

        Args:
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            TimeoutError: some children have not ended in time; they go on.
            TooManyRestarts: the supervisor has given up.
        """
        try:
            self._active.wait(timeout)
        except Cancelled as exc:
            if exc is not self._interrupt:
                raise
        self._raise_error()

    def stop(self) -> None:
        """End all children, in reverse order of their start, and the supervisor. Again: nothing happens.

        Raises:
            TooManyRestarts: the supervisor had given up.
        """
        self._stop(None)
        self._raise_error()

    def _stop(self, patience: float | None) -> None:
        if self._loop is None:
            self._stopping = True
            return
        scheduler.shield(1)
        try:
            with self._lock:
                if not self._stopping:
                    self._end(patience)
            self._news.try_send(None)
            self._loop.join()
        finally:
            scheduler.shield(-1)

    def _raise_error(self) -> None:
        error = self._error
        if error is None:
            return
        if self._loop is not None:
            self._loop.exception()  # read: it is raised here
        try:
            raise error
        finally:
            del error

    def __enter__(self) -> Supervisor:
        if self._stopping or self._body is not None:
            raise RuntimeError("a Supervisor can be a with block only once")
        _core.ensure()
        if _core.on_scheduler_thread():
            self._body = scheduler.current
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> Literal[False]:
        body, self._body = self._body, None
        if body is not None and body.interrupt is not None and body.interrupt is self._interrupt:
            body.interrupt = None  # the body ended before it could be told
        self._stop(_PATIENCE if isinstance(exc, KeyboardInterrupt) else None)
        if self._error is not None and exc is not self._error:
            if exc is None or exc is self._interrupt:
                self._raise_error()
            if self._loop is not None:
                self._loop.exception()
            if exc is not None and exc.__cause__ is None:
                exc.__cause__ = self._error
        return False

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Supervisor cannot be sent to another process: let a goroutine make one of its own, as the child of this one"
        )

    def __repr__(self) -> str:
        return f"<Supervisor {self._strategy} of {len(self._children)} children>"


def _checked_shutdown(value: Any, what: str) -> float | None:
    return None if value is None else checked_seconds(value, what)
