"""Operations of goproc in coroutines: ``await g``, ``ch.arecv()``, ``ch.asend()``, ``aselect()``.

They work in any event loop and any thread. An operation that has to wait does so in shared memory
(goproc/shm/python/await.c), without a goroutine or a thread of its own. One thread of the process sleeps until any is
done, and tells the loops. The task that waits has a plain asyncio future.

When a task is cancelled, its operation is cancelled, too. If the operation is done already, its value belongs to the
task: so the operation returns it, and the task is cancelled at its next wait.
"""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from typing import Any

from goproc._channel import Chan
from goproc._pickling import store
from goproc._public import public
from goproc._sched import scheduler
from goproc._sched.loops import SLICE
from goproc._timeouts import check_time
from goproc._tracebacks import coroutine_ends_at_user
from goproc.errors import ChanClosed, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._goroutine import Goroutine
    from goproc._select import Selected

__all__ = ["aselect"]

_TURN = 32  # operations in a row that need not wait, after which other tasks of the loop have a turn

_sets: dict[str, _core.Awaits] = store.cache({})  # the one of this runtime
_in_a_row = 0


# -- the thread ----------------------------------------------------------------------------------------------


class _Waiter:
    """The future of a task that waits, and its loop."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def fail(self, text: str) -> None:
        if not self.future.done():
            self.future.set_exception(RuntimeStopped(text))


def _waits() -> _core.Awaits:
    found = _sets.get("waits")
    if found is None:
        found = _sets.setdefault("waits", _core.Awaits())
        threading.Thread(target=_serve, args=(found,), name="goproc-asyncio", daemon=True).start()
    return found


def _serve(waits: _core.Awaits) -> None:
    """Tell each loop which of its operations are done, for the life of the thread."""
    while True:
        ready: dict[asyncio.AbstractEventLoop, list[_Waiter]] = {}
        try:
            waits.wait()
            while (found := waits.take()) is not None:
                waiter = found[1]
                if waiter is not None:
                    ready.setdefault(waiter.loop, []).append(waiter)
                del found, waiter
        except RuntimeStopped as exc:
            for waiter in waits.drop():
                _call(waiter.loop, waiter.fail, str(exc))
            return
        for loop, waiters in ready.items():
            _call(loop, _wake_all, waiters)


def _wake_all(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()


def _call(loop: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:  # the loop is closed, and its tasks are gone
        pass


# -- operations ----------------------------------------------------------------------------------------------


async def _give_turn() -> None:
    """Let the other tasks run, once in `_TURN` operations that need not wait."""
    global _in_a_row
    _in_a_row += 1
    if _in_a_row >= _TURN:
        _in_a_row = 0
        await asyncio.sleep(0)


async def operate(cases: tuple[Any, ...], timeout: float | None = None, reason: str = "select") -> Selected:
    """Wait for one of several operations, as select() does, while other tasks of the loop run."""
    global _in_a_row
    loop = asyncio.get_running_loop()
    if not _core.attached():
        _core.refuse_stale(
            *[part for case in cases for part in (case if isinstance(case, tuple) else (case,))]
        )
        _core.ensure()
    until = None if timeout is None else monotonic() + check_time(timeout, "timeout")
    waiter = _Waiter(loop)
    op = _waits().start(cases, waiter)
    while not op.done:
        _in_a_row = 0
        await _wait(loop, op, waiter, until)
        if not op.done and not op.look() and until is not None and monotonic() >= until and op.cancel():
            raise TimeoutError(f"{reason}: timed out")
    return op.result()  # type: ignore[no-any-return]


async def _wait(
    loop: asyncio.AbstractEventLoop, op: _core.Awaited, waiter: _Waiter, until: float | None
) -> None:
    """Wait until an operation is done, or something is due by the clock."""
    if waiter.future.done():
        waiter.future = loop.create_future()
    alarm = None
    turn = None
    if _core.on_scheduler_thread() and not hasattr(loop, "_selector"):  # uvloop: see loops.py
        turn = monotonic() + SLICE
    when = min([time for time in (op.due, until, turn) if time is not None], default=None)
    if when is not None:
        alarm = loop.call_later(max(0.0, when - monotonic()), waiter.wake)
    try:
        await waiter.future
    except asyncio.CancelledError as exc:
        if op.cancel():
            raise
        _cancel_later(loop, exc.args)
    except BaseException:
        op.cancel()
        raise
    finally:
        if alarm is not None:
            alarm.cancel()
    if turn is not None and _core.may_switch():
        scheduler.give_turn()


def _cancel_later(loop: asyncio.AbstractEventLoop, args: tuple[Any, ...]) -> None:
    """Cancel the running task at its next wait. Its operation is done, and the value must not be lost."""
    task = asyncio.current_task(loop)
    if task is not None:
        loop.call_soon(_cancel_again, task, args)


def _cancel_again(task: asyncio.Task[Any], args: tuple[Any, ...]) -> None:
    # Without a request left, the cancellation, such as that of asyncio.timeout(), was taken back.
    if not task.done() and task.cancelling():
        task.uncancel()
        task.cancel(*args)


async def receive(ch: Chan[Any], timeout: float | None) -> tuple[Any, bool]:
    """As ch.recv_ok()."""
    await _give_turn()
    try:
        value, ok = ch.try_recv()
    except ChanClosed:
        return None, False
    if ok:
        return value, True
    found = await operate((ch.recv,), timeout, "chan receive")
    return found.value, found.ok


@coroutine_ends_at_user
async def arecv(ch: Chan[Any], timeout: float | None) -> Any:
    value, ok = await receive(ch, timeout)
    if not ok:
        raise ChanClosed("receive from closed channel")
    return value


async def anext_of(ch: Chan[Any]) -> Any:
    value, ok = await receive(ch, None)
    if not ok:
        raise StopAsyncIteration
    return value


@coroutine_ends_at_user
async def asend(ch: Chan[Any], value: Any, timeout: float | None) -> None:
    await _give_turn()
    if len(ch) < ch.cap and ch.try_send(value):
        return
    await operate(((ch.send, value),), timeout, "chan send")


@coroutine_ends_at_user
async def result_of(g: Goroutine[Any]) -> Any:
    """As g.result()."""
    if g.state in ("queued", "running"):
        await operate((g,), None, "goroutine join")
    return g.result()


@public
@coroutine_ends_at_user
async def aselect(*cases: Any, timeout: float | None = None) -> Selected:
    """Wait for one of several operations in a coroutine, as select() does; other tasks of the event loop run meanwhile.

        found = await aselect(jobs, (results.send, 5), goroutine, timeout=1.0)

    Args:
        cases: as for select(), without default.
        timeout: seconds to wait at most; None waits for ever.

    Returns:
        Selected(index, value, ok), as select().

    Raises:
        asyncio.CancelledError: the task was cancelled, and no case happened. If a case happened at that very moment,
            its result is returned, so that no value is lost, and the task is cancelled at its next wait.
        ChanClosed, TimeoutError, PickleError, TypeError, ValueError: as select().
        RuntimeError: no event loop runs.

    Cost: about 5 us if something is ready; to wait, about 50 us, less where many tasks wait.
    """
    await _give_turn()
    return await operate(cases, timeout)
