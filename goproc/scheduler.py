"""The scheduler: one per process, on greenlets, on one thread.

A goroutine that has to wait parks: it is left out of the run queue, and its greenlet switches straight to the next
ready one. There is no hub greenlet: whoever parks looks for work itself, and sleeps in the core when there is none,
so that a goroutine which is alone in its process blocks and goes on without a single switch.

What can be run, in order of a look around:

- goroutines told through the process's inbox (a channel operation of any process completed theirs);
- goroutines whose sleep or timeout is over;
- the run queue, FIFO; every few turns an unstarted goroutine comes first, so that it cannot starve behind others;
- an unstarted goroutine of this process, else one stolen from another.

A started goroutine never leaves its process. Finished greenlets are kept and run further goroutines: creating one
and its C stack costs more than what most goroutines do.

Nothing here preempts Python code: a goroutine keeps its process until it blocks, yields or has done some hundreds of
channel operations. To be interrupted at any bytecode while holding, say, the lock of a logging handler would let
another goroutine of the same thread deadlock on it.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from time import monotonic
from time import sleep as _thread_sleep

from greenlet import getcurrent, greenlet

from goproc.errors import Cancelled, GoprocError, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any, NoReturn

FAIR = 8  # one turn in this many starts an unstarted goroutine although others are ready
KEEP_GREENLETS = 256
_NO_LABELS: dict[str, str] = {}


class G:
    """A started goroutine of this process, as its scheduler sees it.

    Attributes:
        id: its number; main is 1.
        greenlet: what it runs on; None until its first turn.
        entry: what to run at its first turn.
        parked: it waits, and nobody has made it ready yet.
        told: it was made ready by the operation it waits for, not by a timeout or an interrupt.
        ticket: counts its parks, so that a timer of an earlier one is recognised as stale.
        interrupt: an exception to be raised at its next blocking point.
        cancelled: cancel() has reached it.
        labels: for reports, inherited by the goroutines it creates; replaced, never changed.
        since: when it parked last, as time.monotonic() has it.
        reason: what it waits for, in Go's words.
        object: ref of its outcome in shared memory; 0 for main, unless somebody asked for its handle.
        block: ref of its task in shared memory, kept until it ends.
        call: what to call, until its first turn.
    """

    __slots__ = (
        "block",
        "call",
        "cancelled",
        "context",
        "entry",
        "greenlet",
        "id",
        "interrupt",
        "labels",
        "name",
        "object",
        "parent",
        "parked",
        "reason",
        "since",
        "site",
        "ticket",
        "told",
        "waits_on",
    )

    def __init__(self, id: int, name: str, entry: Callable[[G], None] | None = None) -> None:
        self.id = id
        self.name = name
        self.entry = entry
        self.greenlet: Any = None
        self.context: Context | None = None
        self.parked = False
        self.told = False
        self.ticket = 0
        self.interrupt: BaseException | None = None
        self.cancelled = False
        self.reason = ""
        self.waits_on: object = None
        self.object = 0
        self.block = 0
        self.call: Any = None
        self.labels = _NO_LABELS
        self.since = 0.0
        self.parent = 0
        self.site = 0


runq: deque[G] = deque()
main = G(1, "main")
current: G = main
started: dict[
    int, G
] = {}  # by ref of the outcome: goroutines of this process that have started and not ended
idling = False  # inside _core.idle: no Python code of any goroutine runs

_timers: list[tuple[float, int, G, int]] = []  # (when, order, goroutine, its ticket then)
_order = itertools.count()
_stale = 0  # entries of _timers whose wait ended before, about
_taken: G | None = None  # taken from the run queue to be switched to; then, what runs
_claimed: list[Any] = []  # a task taken from the core, then the G made of it, on its way to run
_spare: list[Any] = []
_turn = 0
_newest = False
_root: Any = None
_breeder: Any = None
_make: Callable[[Any], G] | None = None  # a claimed task -> its G
_leave: Callable[[], None] | None = None  # called when the runtime stops under a parked scheduler (workers)


# -- life ----------------------------------------------------------------------------------------------------


def start(make: Callable[[Any], G], name: str, leave: Callable[[], None] | None = None) -> None:
    """Make the calling thread this process's scheduler, and its running code a goroutine.

    Args:
        make: turns a task claimed from the core into a G.
        name: of the goroutine that runs now.
        leave: ends the process once the runtime has stopped; None where the caller of stop() goes on (the host).
    """
    global main, current, _root, _breeder, _make, _leave, _newest, _taken
    runq.clear()
    _claimed.clear()
    _taken = None
    _core.use_this_thread()
    _root = getcurrent()
    _breeder = greenlet(_breed, _root)
    _breeder.switch()
    main = current = G(1, name)
    main.greenlet = _root
    _make, _leave = make, leave
    _newest = False


def stop() -> list[Any]:
    """Forget all goroutines but the running one; return the greenlets of those that had started."""
    left = [g.greenlet for g in started.values() if g.greenlet is not None and g is not current]
    left += [*_spare, _breeder]
    runq.clear()
    _claimed.clear()
    started.clear()
    _timers.clear()
    _posted.clear()
    _spare.clear()
    return left


def run_worker() -> None:
    """Run goroutines and nothing else, until the runtime stops and `leave` ends the process."""
    current.parked = True  # it is the scheduler itself, not a goroutine: nobody makes it ready
    while True:
        _schedule()


class _Left(BaseException):
    """The runtime stopped: ends run_thread()."""


def leave_thread() -> None:
    """`leave` of run_thread(): back to where it began; other greenlets stay where they are."""
    if getcurrent() is _root:
        raise _Left
    _root.switch()


def run_thread() -> None:
    """As run_worker(), in a thread of the host; returns when the runtime stops."""
    current.parked = True
    try:
        while not _core.stopping():
            _schedule()
    except _Left:
        pass


# -- giving up the processor ---------------------------------------------------------------------------------


# A signal's handler can raise at nearly any bytecode, also here, with a goroutine in hand. Nothing may be lost then, and
# nobody may be in two places: hence the order of steps below, and `_taken` and `_claimed`, which say what is in hand.


def _schedule(ready: bool = False) -> None:
    """Run others until the current goroutine has its turn again: it has parked, or is `ready` and queues itself."""
    global current
    me = current
    try:
        if ready:
            runq.append(me)
        g = _next()
        if g is not me:
            current = g
            (g.greenlet or _greenlet_for(g)).switch()
    except BaseException:
        me.parked = False
        _put_back(me)
        raise
    finally:
        current = me


def _put_back(me: G | None) -> None:
    """An exception goes through the scheduler: `me` runs on with it, and what was about to run stays ready."""
    global _taken
    if _taken is not None and _taken is not me:
        runq.appendleft(_taken)
    _taken = me
    if me is not None and me in runq:
        runq.remove(me)


def _greenlet_for(g: G) -> Any:
    if not _spare:
        return _breeder
    g.greenlet = _spare.pop()
    return g.greenlet


def _breed() -> None:
    """The body of the one greenlet that starts others.

    A greenlet begins with the recursion depth of the one that starts it. Goroutines which block start others; started
    from there each would stand on all its predecessors, and the two hundredth would not have a frame left.
    """
    _root.switch()
    while True:
        greenlet(_run_goroutines, _root).switch()


def _run_goroutines() -> None:
    """The body of every goroutine's greenlet: run one after the other."""
    global current
    mine = getcurrent()
    while True:
        g = current
        g.greenlet = mine
        g.entry(g)  # type: ignore[misc]
        g.greenlet = g.entry = g.context = None
        if not _core.attached():
            return  # the runtime stopped, and whoever stopped it unwinds what is left
        try:
            g = _next()
            current = g
            if g.greenlet is None:
                continue
            if len(_spare) >= KEEP_GREENLETS:
                mine.parent = g.greenlet  # ends here; a greenlet that ends continues its parent
                return
            _spare.append(mine)
            g.greenlet.switch()
        except BaseException:  # it goes to main, the parent of all
            _put_back(None)
            if mine in _spare:
                _spare.remove(mine)
            raise


def _next() -> G:
    """Find the goroutine to run next; sleep until there is one."""
    global _turn, _newest, idling, _taken
    while True:
        _poll()
        if _claimed:
            if type(_claimed[0]) is not G:
                _claimed[0] = _make(_claimed[0])  # type: ignore[misc]
            _taken = _claimed[0]
            del _claimed[0]
            return _taken
        if runq:
            _turn += 1
            if _turn % FAIR == 0 and _core.task_next(_claimed, False, False):
                continue
            _taken = runq[0]
            runq.popleft()
            return _taken
        newest, _newest = _newest, False
        if _core.task_next(_claimed, newest, True):
            continue
        if _core.stopping():
            if _leave is not None:
                _leave()
            if not _core.attached():
                raise RuntimeStopped("the goproc runtime stopped")
        idling = True
        try:
            _core.idle(_timers[0][0] if _timers else None)
        except (
            BaseException
        ) as exc:  # a signal's handler raised: for main, whoever happens to look for work here
            interrupt(main, exc)
        finally:
            idling = False


def _poll() -> None:
    """Put into the run queue what has become ready."""
    if _core.drain():
        try:
            _look_around()
        except BaseException:
            _core.wake()
            raise
    if _timers and _timers[0][0] <= monotonic():
        _expire_timers()


def _expire_timers() -> None:
    now = monotonic()
    while _timers and _timers[0][0] <= now:
        _, _, g, ticket = _timers[0]
        if g.parked and g.ticket == ticket:
            g.parked = False
            g.told = False
            runq.append(g)
        heapq.heappop(_timers)


def _forget_timer() -> None:
    """One more entry of the heap is stale. They go when they are the majority, so that each costs O(log n) at most."""
    global _stale
    _stale += 1
    if _stale > 64 and 2 * _stale > len(_timers):
        _timers[:] = [t for t in _timers if t[2].parked and t[2].ticket == t[3]]
        heapq.heapify(_timers)
        _stale = 0


def _look_around() -> None:
    """Somebody asked this process to: cancelled goroutines, callbacks of other threads, a worker that did not start."""
    for ref, g in (*started.items(), (main.object, main)):
        if ref and not g.cancelled and _core.task_cancelled(ref):
            g.cancelled = True  # once: what it does to clean up may block
            interrupt(g, Cancelled())
    while _posted:
        _posted.popleft()()
    failed = _core.failed()
    if failed is not None and _core.proc() == 0 and main.interrupt is None:
        import os

        proc, error = failed
        interrupt(
            main,
            GoprocError(
                f"proc {proc} of {_core.procs()} could not be started: fork: {os.strerror(error)}; "
                f"use fewer (--procs, GOPROC_PROCS or runtime(procs=...)) or raise the limit on processes (ulimit -u)"
            ),
        )


_posted: deque[Callable[[], None]] = deque()


def post(callback: Callable[[], None]) -> None:
    """Have the scheduler's thread call this soon. From any thread."""
    _posted.append(callback)
    _core.wake()


def interrupt(g: G, exc: BaseException) -> None:
    """Raise ``exc`` in a goroutine of this process at its next blocking point: now, if it is parked."""
    g.interrupt = exc
    if g.parked:
        g.parked = False
        g.told = False
        runq.append(g)


def spawn(g: G) -> None:
    """Queue a goroutine of this process that is not to be stolen."""
    runq.append(g)


def newest_first() -> None:
    """The goroutine created last runs first when its creator blocks, the others in their order: Go's `runnext`."""
    global _newest
    _newest = True


# -- hooks of the core ---------------------------------------------------------------------------------------


def park(slot: int, timeout: float | None, reason: str, handle: object) -> bool:
    """Wait in a waiter slot of the core. Returns whether the operation completed; if not, it is to be given up."""
    g = current
    if g.interrupt is not None:
        return False
    g.ticket += 1
    if timeout is not None:
        if timeout <= 0:
            return False
        heapq.heappush(_timers, (monotonic() + timeout, next(_order), g, g.ticket))
    _core.bind(slot, g)
    g.parked = True
    g.since = monotonic()
    g.reason = reason
    g.waits_on = handle
    _schedule()
    g.waits_on = None
    if timeout is not None and g.told:
        _forget_timer()
    return g.told


def expire(reason: str) -> NoReturn:
    """Raise what ended a wait that was given up."""
    if _core.on_scheduler_thread():
        _raise_interrupt()
    raise TimeoutError(f"{reason}: timed out")


def preempt() -> None:
    """Let others have a turn, if there are any. The core calls it after many operations that did not block."""
    _poll()
    if runq or _claimed or _core.task_next(_claimed, False, False):
        _schedule(ready=True)


# -- for everybody -------------------------------------------------------------------------------------------


def yield_now() -> None:
    """Let the other ready goroutines of this process run first.

    Raises:
        Cancelled: this goroutine was cancelled.
    """
    if not _core.attached() or not _core.on_scheduler_thread():
        _thread_sleep(0)
        return
    _core.check_park()
    preempt()
    _raise_interrupt()


def sleep(seconds: float) -> None:
    """Pause this goroutine for a time; others of its process run meanwhile.

    Args:
        seconds: at most this accurate: the process may be busy with another goroutine. Zero or less returns at once.

    Raises:
        Cancelled: this goroutine was cancelled.
    """
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"sleep() takes seconds as a number, not {type(seconds).__name__}")
    if seconds != seconds:
        raise ValueError("sleep() takes seconds, not NaN")
    if not _core.attached() or not _core.on_scheduler_thread():
        if seconds > 0:
            _thread_sleep(min(seconds, threading.TIMEOUT_MAX))
        return
    g = current
    _core.check_park()
    if seconds > 0 and g.interrupt is None:
        g.ticket += 1
        heapq.heappush(_timers, (monotonic() + seconds, next(_order), g, g.ticket))
        g.parked = True
        g.since = monotonic()
        g.reason = "sleep"
        _schedule()
    _raise_interrupt()


def _raise_interrupt() -> None:
    exc, current.interrupt = current.interrupt, None
    if exc is not None:
        try:
            raise exc
        finally:
            del exc  # a frame that refers to its own exception would keep everything above it alive
