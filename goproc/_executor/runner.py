"""The worker's side of an Executor: a goroutine that makes one call at a time."""

from __future__ import annotations

from goproc import _life
from goproc._executor.initialized import Initialized, take_back
from goproc._proc import fatal, forked, line_output
from goproc._raised import described
from goproc._sched import scheduler
from goproc._spawn import name_of
from goproc.errors import Cancelled, OutOfSharedMemory, PickleError, RuntimeStopped
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from goproc._channel import RecvChan
    from goproc._sched.g import G
    from goproc.sync import Semaphore

ENDED, USED_UP = "ended", "used up"  # results of run()


class InitializerFailed(Exception):
    """Ends a runner whose initializer has raised. The exception is its text: it may be one that cannot be pickled."""


def run(
    tasks: RecvChan[Any],
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    calls_at_most: int | None,
    slots: Semaphore | None,
) -> str:
    """Make the calls that come over a channel, until it is closed or the process has made `calls_at_most` calls.

    Args:
        tasks: brings (promise, call) pairs. A promise that is claimed already belongs to a cancelled call.
        initializer: called once, with `initargs`, before the first call.
        initargs: its arguments.
        calls_at_most: then the process is to be replaced.
        slots: one is given back after each call.

    Returns:
        USED_UP after as many calls, else ENDED.
    """
    if tasks.closed and not len(tasks):
        return ENDED  # the process was busy until the pool had ended
    initialized = None if initializer is None else _initialize(initializer, initargs)
    g = scheduler.current
    left = -1 if calls_at_most is None else calls_at_most
    for promise, call in tasks:
        if _core.promise_claim(promise):
            try:
                _answer(g, promise, call, initialized)
            finally:
                if slots is not None:
                    slots.release()
            left -= 1
        del promise, call
        if left == 0:
            _retire(g)
            return USED_UP
    return ENDED


def _retire(g: G) -> None:
    """Have the process replaced when this goroutine has ended, unless others run there: they may wait for ever."""
    from goproc._executor.processes import others

    proc = _core.proc()
    if proc and not others(proc, g.id):
        _core.retire(proc, True)


def _initialize(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> Initialized:
    try:
        initialized = Initialized(initializer)
        initializer(*initargs)
        initialized.note()
        return initialized
    except Cancelled:
        raise
    except BaseException as exc:
        import logging

        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
        _flush_logs()
        raise InitializerFailed(f"{type(exc).__name__}: {fatal.first_line(exc)}") from None


def _answer(g: G, promise: Any, call: Any, initialized: Initialized | None) -> None:
    """Make a call, and keep the promise of its outcome."""
    try:
        f, args, kwargs = _life.open_call(call)
        kept = () if initialized is None else initialized.give((f, *args))
    except Cancelled:
        _lose(promise)
        raise
    except BaseException as exc:
        _refuse(promise, exc)
        return
    try:
        value = f(*args, **kwargs)
    except _life.Goexit:
        value = None
    except BaseException as exc:
        del f, args, kwargs, call
        forked.leave(exc)
        if isinstance(exc, Cancelled) and g.cancelled:
            _lose(promise)
            raise
        _fail(promise, exc)
        return
    finally:
        take_back(kept)
        kept = ()  # it would hold globals that _tidy_up() empties
        _tidy_up(g)
    if forked.is_child:
        forked.leave(None)
    del args, kwargs, call
    try:
        _core.promise_set(promise, False, value)
    except PickleError as exc:
        from goproc._pickling.diagnose import explain

        _fail(promise, explain(value, exc.__cause__ or exc, f"the result of {name_of(f)}"))
    except OutOfSharedMemory as exc:
        _fail(promise, OutOfSharedMemory(f"the result of {name_of(f)}: {exc}"))
    except RuntimeError:
        pass  # it has been broken meanwhile
    except BaseException as exc:  # raised by a __reduce__ of the result
        _fail(promise, exc)


def _tidy_up(g: G) -> None:
    """Leave nothing of a call to the next: its unfinished lines, its records that are under way, its globals."""
    g.function = None
    line_output.finish(g.greenlet)
    if _life.on_end is not None:
        _flush_logs()
    if g.private is not None:
        _core.release_namespace(g, "private")


def _flush_logs() -> None:
    from goproc import _logs

    _logs.flush()


def _refuse(promise: Any, exc: BaseException) -> None:
    from goproc._executor.broken import UnreadableCall

    error = UnreadableCall(
        f"the arguments of a call could not be read by worker {_core.proc()}: {described(exc)}"
    )
    error.__cause__ = exc
    _fail(promise, error)


def _lose(promise: Any) -> None:
    """End a call as a death of this process does: the pool is broken, or killed, and knows why."""
    try:
        _core.promise_break(promise)
    except RuntimeStopped:
        pass


def _fail(promise: Any, exc: BaseException) -> None:
    try:
        fatal.set_failure(promise, exc)
    except RuntimeError:
        pass  # it has been broken meanwhile
