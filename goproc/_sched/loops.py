"""Event loops of asyncio in goroutines: each goroutine has a running loop of its own, or none.

asyncio keeps the running loop of each thread, and all goroutines of a process share a thread. A goroutine that blocks
within a coroutine takes the state of asyncio with it: the scheduler puts the state aside before others run, and back
after. Goroutines without a loop pay nothing for that. The function by which a loop says that it runs is replaced by
one that tells the scheduler as well.

A loop that has nothing to do waits for its descriptors and timers. Meanwhile other goroutines of the process get a
turn every SLICE, and the loop notices cancel() and Ctrl-C. (A loop of uvloop keeps the process while it waits.)
"""

from __future__ import annotations

import signal
import sys
from _thread import get_ident
from math import inf
from time import monotonic
from typing import Any

from goproc._record import Record
from goproc._sched import checkpoints, scheduler
from goproc.errors import RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SLICE = _core.SLICE_NS / 1e9  # seconds that a goroutine keeps its process if others wait
_original: Callable[[Any], None] | None = None  # asyncio's own _set_running_loop, once that is replaced


# -- noticing loops ------------------------------------------------------------------------------------------


def watch() -> bool:
    """Notice the loops that run from now on, also if asyncio is imported later.

    Returns:
        True if a loop runs in this thread.
    """
    events = sys.modules.get("asyncio.events")
    if events is None or _is_loading(events):
        if not any(type(finder) is _Finder for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        return False
    _replace(events)
    running = events._get_running_loop()
    if running is not None:
        _share_waits(running)
    return running is not None


class _Finder:
    """A finder that finds no module; it sees the imports after asyncio.events.

    Such a module may have taken functions of asyncio.events for itself.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if _original is None:
            events = sys.modules.get("asyncio.events")
            if events is not None and not _is_loading(events):
                _replace(events)


def _is_loading(module: Any) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _replace(events: Any) -> None:
    global _original
    if _original is not None:
        return
    original = _original = events._set_running_loop

    def _set_running_loop(loop: Any) -> None:
        """Set the running event loop of this thread. A function of asyncio's event loops; goproc notes the call."""
        original(loop)
        _note(loop is not None)
        if loop is not None and get_ident() == scheduler.thread:
            _share_waits(loop)

    events._set_running_loop = _set_running_loop
    asyncio: Any = sys.modules.get("asyncio")
    if hasattr(asyncio, "_set_running_loop"):
        asyncio._set_running_loop = _set_running_loop
    uvloop: Any = sys.modules.get("uvloop")
    if hasattr(uvloop, "Loop"):  # else uvloop is being imported, and will find the new function
        _replace_run(uvloop.Loop)


def _replace_run(kind: Any) -> None:
    """Notice the loops of a class that has kept asyncio's own _set_running_loop."""
    original = kind.run_forever

    def run_forever(self: Any) -> None:
        _note(True)
        try:
            original(self)
        finally:
            _note(False)

    kind.run_forever = run_forever


def _note(runs: bool) -> None:
    if get_ident() == scheduler.thread:
        scheduler.looping = runs


# -- waiting -------------------------------------------------------------------------------------------------


class _Waits:
    """The select() of a selector whose loop runs in a goroutine."""

    __slots__ = ("_given", "_ready", "_select")

    def __init__(self, select: Callable[[float | None], Any], ready: Any) -> None:
        self._select = select
        # The loop's callbacks: a signal's handler may add one, as in a notebook's kernel.
        self._ready = ready
        self._given = 0.0  # the time at which others had their turn last

    def __call__(self, timeout: float | None = None) -> Any:
        """Return the events of select(); let other goroutines run while there is none."""
        if get_ident() != scheduler.thread or scheduler.scheduling or not _core.attached():
            return self._select(timeout)
        until = inf if timeout is None else monotonic() + timeout
        while True:
            now = monotonic()
            left = max(0.0, until - now)
            others = bool(scheduler.runq)
            events = self._select(0.0 if others else min(left, SLICE))
            if (others and not events) or monotonic() >= min(until, self._given + SLICE):
                self._given = monotonic()
                if _core.may_switch():
                    scheduler.give_turn()
            _meet_interrupt()
            if not _core.attached():
                # The runtime has ended by itself: its operations tell the tasks that wait for them.
                return events if events or self._ready else self._select(timeout)
            if events or self._ready or monotonic() >= until:
                return events


def _meet_interrupt() -> None:
    """Raise the exception that interrupts the running goroutine, as a blocking operation does. For an event loop.

    The end of the runtime is not raised but forgotten: it concerns the tasks that use the runtime, and not the loop.
    """
    if scheduler.current.interrupt is None or scheduler.current.shielded:
        return
    if type(scheduler.current.interrupt) is RuntimeStopped and scheduler.on_lost is not None:
        scheduler.current.interrupt = None
        scheduler.on_lost()
    else:
        checkpoints.raise_interrupt()


def _share_waits(loop: Any) -> None:
    """Let others run while a loop waits."""
    selector: Any = getattr(loop, "_selector", None)
    if hasattr(selector, "__dict__") and type(getattr(selector, "select", None)) is not _Waits:
        selector.select = _Waits(selector.select, getattr(loop, "_ready", ()))


# -- switching -----------------------------------------------------------------------------------------------


class State(Record):
    """The state that asyncio, and Python for asyncio, keep for a thread."""

    running: Any  # the loop that runs
    task: Any  # the task that `running` runs now
    chosen: dict[str, Any]  # attributes of the event loop policy, such as the loop of set_event_loop()
    hooks: Any  # the hooks for asynchronous generators
    depth: int  # the depth to which debug mode tracks the origins of coroutines
    wakeup: int | None  # the descriptor of set_wakeup_fd(); None in a thread that has no signals


NONE = State(None, None, {}, (None, None), 0, None)


def state() -> State:
    """Return the state of the running goroutine."""
    running = sys.modules["asyncio.events"]._get_running_loop()
    return State(
        running,
        sys.modules["asyncio.tasks"].current_task(running) if running is not None else None,
        dict(_policy()),
        sys.get_asyncgen_hooks(),
        sys.get_coroutine_origin_tracking_depth(),
        _wakeup_fd(type(running)),
    )


def leave() -> None:
    """Give the thread the state of a goroutine without a loop."""
    running = sys.modules["asyncio.events"]._get_running_loop()
    if running is not None and sys.modules["asyncio.tasks"].current_task(running) is not None:
        _set_task(running, None)
    _set(NONE)


def _wakeup_fd(kind: type) -> int | None:
    """Return the wake-up descriptor; take it away first if a loop of this kind does not tolerate another loop's.

    uvloop restores the descriptor at its end, when the loop that owns the descriptor may be closed. A loop of asyncio
    keeps its own meanwhile, as it learns of signals in no other way.
    """
    try:
        found = signal.set_wakeup_fd(-1)
        if not kind.__module__.startswith("uvloop"):
            signal.set_wakeup_fd(found, warn_on_full_buffer=False)
    except (ValueError, OSError):
        return None
    return found


def enter(state: State) -> None:
    """Give the thread the state of the goroutine that runs now."""
    _set(state)
    if state.task is not None:
        _set_task(state.running, state.task)


def _set(state: State) -> None:
    if _original is not None:
        _original(state.running)
    policy = _policy()
    policy.clear()
    policy.update(state.chosen)
    sys.set_asyncgen_hooks(*state.hooks)
    sys.set_coroutine_origin_tracking_depth(state.depth)
    if state.wakeup is not None:
        try:
            signal.set_wakeup_fd(state.wakeup, warn_on_full_buffer=False)
        except (ValueError, OSError):  # the loop has closed the descriptor
            pass


def _set_task(loop: Any, task: Any) -> None:
    """Tell the loop which task it runs. Python 3.11 needs no call: asyncio finds the task by its loop."""
    swap = getattr(sys.modules["asyncio.tasks"], "_swap_current_task", None)
    if swap is not None:
        swap(loop, task)


def _policy() -> dict[str, Any]:
    """Return the attributes that the event loop policy has in this thread."""
    policy = getattr(sys.modules["asyncio.events"], "_event_loop_policy", None)
    return getattr(getattr(policy, "_local", None), "__dict__", {})


def schedule_beside(ready: bool) -> None:
    """As scheduler.schedule(), for a goroutine in which an event loop of asyncio runs: the loop is put aside while others run."""
    me = scheduler.current
    mine = state()
    try:
        scheduler.looping = False
        leave()
        scheduler.schedule(ready)
    except BaseException:  # as there
        me.parked = False
        scheduler.put_back(me)
        raise
    finally:
        scheduler.looping = True
        enter(mine)
