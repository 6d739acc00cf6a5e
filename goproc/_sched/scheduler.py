"""The scheduler: one per process, on greenlets, on one thread.

A goroutine that has to wait parks: it leaves the run queue, and its greenlet switches straight to the next ready one.
There is no hub greenlet. A goroutine that parks looks for work itself, and sleeps in the core when there is none. So
a goroutine which is alone in its process blocks and goes on without a single switch.

The scheduler looks for work in this order:

- goroutines notified through the process's inbox (a channel operation of any process completed theirs);
- goroutines whose sleep or timeout is over;
- the run queue, FIFO; every few turns an unstarted goroutine comes first, so that it cannot starve behind others;
- a goroutine whose time slice ended (slices.py);
- an unstarted goroutine: a task of this process, else one stolen from another.

A goroutine of `go.local` belongs to its process and is in the run queue from the first. No task begins while a
goroutine waits that was preempted at the end of its slice and has never given its turn away: a goroutine that never
blocks runs to its end first. The host beside workers takes no tasks but those that `go.on(0)` has put there.

A started goroutine never leaves its process.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from time import sleep as _thread_sleep

from greenlet import getcurrent

from goproc._sched import greenlets, timers
from goproc._sched.g import G
from goproc._sched.greenlets import KEPT, for_goroutine, spare
from goproc._sched.timers import add as add_timer
from goproc._sched.timers import forget as forget_timer
from goproc._sched.timers import heap
from goproc.errors import RuntimeStopped
from goproc.shm import _core

__goproc_frames__ = "scheduler"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from goproc._time_limit import Clock

FAIR = 8  # one turn in this many may start a task although goroutines are ready
_HELD_NAP = 0.005  # seconds

runq: deque[G] = deque()  # ready goroutines, and those of go.local that have not started
# Goroutines that wait since their slice ended, with their tickets of that moment.
preempted: dict[G, int] = {}
# The preempted goroutines that have never given their turn away: no task begins before they end
unfinished = 0
main = G(1, "main")
current: G = main
# Goroutines of this process that have started and not ended, and those of go.local, by the ref of their outcome.
started: dict[int, G] = {}
thread = 0  # the ident of the thread that runs goroutines
idling = False  # inside _core.idle: no Python code of any goroutine runs
# True from a goroutine's last step before it lets others run until the first step of the next one.
scheduling = False
held_until = 0.0  # no task begins before this time: Ctrl-C has come
looping = False  # an event loop of asyncio runs in the running goroutine: see loops.py
retiring = False  # this worker leaves when it has nothing to do: see goproc.recycle()
clock: Clock | None = None  # of the running goroutine, if its time is limited: see _time_limit.py
# Spare greenlets that are kept. The core sets 0 while there is no memory for their stacks: see cushion.c
kept = KEPT
# Called at the first switch after each tick of the kernel's clock.
between_turns: Callable[[], None] | None = None
on_lost: Callable[[], None] | None = None  # called to forget a runtime that has ended by itself
# Called to describe the goroutines of this process.
on_dump: Callable[[FrameType | None], object] | None = None
on_deadlock: Callable[[], object] | None = None  # called when all goroutines of all processes are asleep
# Ends a child that a goroutine has forked; set in such a child alone.
end_child: Callable[[BaseException | None], object] | None = None
# Called before the process sleeps, with the time until which it sleeps, or None; returns the time to use.
on_idle: Callable[[float | None], float | None] | None = None
leave: Callable[[], None] | None = None  # called when the runtime stops under a parked scheduler (workers)
# Called when this process was nudged: notices.look_around().
on_look: Callable[[], None] | None = None
on_retire: Callable[[], None] | None = None  # called to end a worker that is to be replaced
on_nudge: list[Callable[[], None]] = []  # called when another process has asked this one to look around

# The goroutine popped from the run queue and not yet switched to: if a handler raises meanwhile, put_back() queues
# the goroutine again. After the switch: the running goroutine.
_in_hand: G | None = None
_claimed: list[Any] = []  # a task taken from the core, then the G made of it, on its way to run
_turn = 0
_newest = False
_door: Any = None  # see greenlets.py
_make: Callable[[Any], G] | None = None  # a claimed task -> its G


# -- life ----------------------------------------------------------------------------------------------------


def start(make: Callable[[Any], G], name: str, end: Callable[[], None] | None = None) -> None:
    """Make the calling thread this process's scheduler, and its running code a goroutine.

    Args:
        make: turns a task claimed from the core into a G.
        name: of the goroutine that runs now.
        end: ends the process once the runtime has stopped; None in the host, where the caller of stop() goes on.
    """
    global main, current, scheduling, looping, clock, thread, leave, on_look, _door, _make, _newest, _in_hand
    from goproc._sched import loops, nested, notices  # noqa: F401 (a signal's handler needs `nested`)

    _forget_goroutines()
    _in_hand = clock = None
    scheduling = False
    _core.reserve(False)
    _core.use_this_thread()
    thread = threading.get_ident()
    looping = loops.watch()
    _door = greenlets.start(run_goroutines)
    main = current = G(1, name)
    main.greenlet = greenlets.root
    _make, leave = make, end
    on_look = notices.look_around
    _newest = False


def stop() -> list[Any]:
    """Forget all goroutines but the running one; return the greenlets of those that had started."""
    left = [g.greenlet for g in started.values() if g.greenlet is not None and g is not current]
    left += greenlets.stop()
    _forget_goroutines()
    posted.clear()
    return left


def _forget_goroutines() -> None:
    """Empty all tables of goroutines."""
    global unfinished
    runq.clear()
    preempted.clear()
    unfinished = 0
    release()
    _claimed.clear()
    started.clear()
    timers.clear()


def run_worker() -> None:
    """Run goroutines and nothing else, until the runtime stops and `leave` ends the process."""
    global scheduling
    while True:
        scheduling = True
        # `current` is the scheduler itself, not a goroutine: only a signal's handler makes it ready.
        current.parked = True
        schedule()


# -- giving up the processor ---------------------------------------------------------------------------------


# A signal's handler can raise at nearly any bytecode, also here, with a goroutine in hand. No goroutine may be lost
# then, and none may be in two places. Hence the order of the steps below; `_in_hand` and `_claimed` name the goroutine
# in hand.


def schedule(ready: bool = False) -> None:
    """Run other goroutines until the current one has its turn again.

    The current goroutine has parked, or is `ready` and is queued here. The caller has set `scheduling` before its
    first step.
    """
    global current, scheduling
    if looping:
        from goproc._sched import loops

        loops.schedule_beside(ready)
        return
    if clock is not None:
        _schedule_timed(ready)
        return
    me = current
    try:
        if ready:
            runq.append(me)
        g = _next()
        if g is not me:
            current = g
            (g.greenlet or for_goroutine(g)).switch()
    except BaseException:  # a signal's handler raised, or the runtime ended: `me` runs on
        me.parked = False
        put_back(me)
        raise
    finally:
        current = me
        scheduling = False


def _schedule_timed(ready: bool) -> None:
    """As schedule(), for a goroutine whose time is limited: no kill is asked for while others run."""
    global clock
    mine, clock = clock, None
    assert mine is not None
    mine.pause()
    try:
        schedule(ready)
    finally:
        clock = mine
        mine.run()


def put_back(me: G | None) -> None:
    """Let `me` run on with the exception that goes through the scheduler; queue the goroutine in hand again."""
    global _in_hand
    if _in_hand is not None and _in_hand is not me:
        runq.appendleft(_in_hand)
    _in_hand = me
    if me is not None and me in runq:
        runq.remove(me)


def run_goroutines() -> None:
    """Run goroutines one after the other. The body of every goroutine's greenlet."""
    global current, scheduling, _in_hand
    mine = getcurrent()
    nobody = None  # stands for the search between two goroutines: a signal's handler may block then
    while True:
        g = current
        g.greenlet = mine
        scheduling = False
        g.entry(g)  # type: ignore[misc]
        scheduling = True
        _in_hand = None  # g has ended: no exception from here on makes it run again
        g.greenlet = g.entry = g.context = None
        if not _core.attached():
            if end_child is not None:
                end_child(None)
            return  # the runtime stopped; the caller of stop() unwinds the remaining greenlets
        if nobody is None:
            nobody = G(0, "")
            nobody.greenlet = mine
        nobody.parked = True
        current = nobody
        try:
            g = _next()
            current = g
            if g.greenlet is None:
                continue
            if len(spare) >= kept and (not kept or greenlets.may_end(mine)):
                greenlets.end_into(mine, g)
                return
            spare.append(mine)
            _door.parent = g.greenlet
            _door.switch()
        except BaseException:  # the exception goes to main, the parent of all
            put_back(None)
            if mine in spare:
                spare.remove(mine)
            raise


def _next() -> G:
    """Return the goroutine to run next; sleep until there is one."""
    global _turn, _newest, _in_hand
    while True:
        flags = _core.drain()
        if flags or heap:
            _attend(flags)
            if flags & _core.DRAIN_TICKED and between_turns is not None:
                between_turns()
            if held_until and held_until <= monotonic():
                release()
        if _claimed:
            if type(_claimed[0]) is not G:
                _claimed[0] = _make(_claimed[0])  # type: ignore[misc]
            _in_hand = _claimed[0]
            del _claimed[0]
            return _in_hand
        if runq:
            _turn += 1
            if _turn % FAIR == 0 and _may_begin() and _core.task_next(_claimed, False, False):
                continue
            _in_hand = runq[0]
            runq.popleft()
            return _in_hand
        if preempted and (g := _rested()) is not None:
            return g
        newest, _newest = _newest, False
        if not unfinished and not held_until and _core.task_next(_claimed, newest, True):
            continue
        if flags & _core.DRAIN_STOPS:
            if leave is not None:
                leave()
            if not _core.attached():
                raise RuntimeStopped("the goproc runtime stopped")
        _idle()


def _retire() -> None:
    """Leave this worker, which is to be replaced and has nothing to do, unless the replacement was called off."""
    global retiring
    retiring = False
    if _core.retiring(True) and on_retire is not None:
        on_retire()


def _may_begin() -> bool:
    """Return True if a task may begin in this process now."""
    return not unfinished and not held_until


def release() -> None:
    """Let tasks begin again."""
    global held_until
    held_until = 0.0


def _rested() -> G | None:
    """Return the goroutine whose slice ended first, unless it has been made ready meanwhile."""
    global _in_hand
    for g, ticket in preempted.items():
        if g.parked and g.ticket == ticket:
            g.parked = False
            _in_hand = g
            return g
    return None


def _idle() -> None:
    """Sleep until work arrives or the first timer is due."""
    global idling
    greenlets.trim()
    if held_until:  # held tasks may wait in the ring, and with them the core would not sleep
        _thread_sleep(_HELD_NAP)
        if held_until <= monotonic():
            release()
        return
    until = timers.next_due()
    if retiring and not started and until is None:
        _retire()
    me = current
    ticket = me.ticket
    if on_idle is not None:
        until = on_idle(until)
    idling = True
    try:
        _core.idle(until)
    except BaseException as exc:  # a signal's handler raised: the exception is for main
        interrupt(main, exc)
    finally:
        idling = False
    if me.ticket != ticket and me.parked and me.id:  # a signal's handler has blocked: see nested.py
        me.parked = False
        me.notified = True
        runq.append(me)


def poll() -> None:
    """Put the goroutines that have become ready into the run queue."""
    flags = _core.drain()
    if flags or heap:
        _attend(flags)


def _attend(flags: int) -> None:
    """Look around if the flags of _core.drain() say so, and end the waits whose time is over."""
    if flags & _core.DRAIN_LOOK:
        try:
            on_look()  # type: ignore[misc]
        except BaseException:  # a signal's handler raised: the next turn looks at the rest
            _core.wake()
            raise
    if heap and heap[0][0] <= monotonic():
        timers.expire(runq.append)


posted: deque[Callable[[], None]] = deque()


def post(callback: Callable[[], None]) -> None:
    """Have the scheduler's thread call `callback` soon. For any thread."""
    posted.append(callback)
    _core.wake()


def interrupt(g: G, exc: BaseException) -> None:
    """Raise ``exc`` in a goroutine of this process at its next blocking point: now, if it is parked."""
    g.interrupt = exc
    if g.parked and not g.shielded:
        g.parked = False
        g.notified = False
        runq.append(g)


def enqueue(g: G) -> None:
    """Queue an unstarted goroutine of go.local."""
    runq.append(g)


def newest_first() -> None:
    """Start the goroutine created last first when its creator blocks, and the others in their order: Go's `runnext`."""
    global _newest
    _newest = True


# -- hooks of the core ---------------------------------------------------------------------------------------


def park(slot: int, until: float | None, reason: str, handle: object) -> bool | tuple[Any, G, bool]:
    """Park the running goroutine in a waiter slot of the core until an operation fires it, or until a monotonic time.

    Returns:
        True if the waiter was fired; False if not: raise_wait_failure() raises the reason. If another goroutine is to run
        meanwhile, a tuple: the greenlet to switch to, and the first two arguments of parked(), to be called after. The
        core makes both calls, since a frame of Python would add to the cost of each waiting goroutine.
    """
    global current, scheduling
    if scheduling:
        from goproc._sched import nested

        return nested.park(slot, until, reason, handle)
    me = current
    if me.interrupt is not None and not me.shielded:
        return False
    if me.deadline is not None and (limit := me.limit()) is not None and (until is None or limit < until):
        until = limit
    now = monotonic()
    if until is not None and until <= now:
        return False
    scheduling = True
    try:
        me.ticket += 1
        if until is not None:
            add_timer(until, me)
        _core.bind(slot, me)
        me.parked = me.gave = True
        me.reason = reason
        me.waits_on = handle
        me.since = now
        if looping or clock is not None:
            schedule()
        elif (g := _next()) is not me:
            current = g
            return g.greenlet or for_goroutine(g), me, until is not None
    except BaseException:  # as in schedule()
        current = me
        me.parked = scheduling = False
        put_back(me)
        raise
    # As in parked(). A call of parked() would begin with a bytecode at which a signal's handler can raise.
    scheduling = False
    notified = me.notified
    me.waits_on = None
    if until is not None and notified:
        forget_timer()
    return notified


def parked(me: G, timed: bool, failed: bool) -> bool:
    """Go on after a wait. If nothing was timed and nothing failed, the core does the same itself.

    Args:
        me: the goroutine that has waited.
        timed: True if the wait has a timer, which may be stale now.
        failed: True if an exception goes through the scheduler.

    Returns:
        True if the waiter was notified.
    """
    global current, scheduling
    if failed:
        me.parked = False
        put_back(me)
    current = me
    scheduling = False
    notified = me.notified
    me.waits_on = None
    if timed and notified and not failed:
        forget_timer()
    return notified


def give_turn() -> None:
    """Let other goroutines run if any are ready or may begin."""
    global scheduling
    if scheduling:
        return  # in a signal's handler or a finalizer: others get their turn right after it
    scheduling = current.gave = True
    try:
        poll()
        if runq or _claimed or (_may_begin() and _core.task_next(_claimed, False, False)):
            schedule(ready=True)
    finally:
        scheduling = False


def shield(change: int) -> None:
    """Begin (1) or end (-1) a stretch in which the running goroutine is not interrupted."""
    if _core.on_scheduler_thread():
        current.shielded += change


def nothing_ready() -> bool:
    """Return True if no other goroutine of this process is ready, or will be by the clock alone."""
    return not (runq or _claimed or preempted) and not any(map(timers.is_live, heap))
