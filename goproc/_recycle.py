"""recycle(): replace a worker by a fresh process, without losing anything."""

from __future__ import annotations

from time import monotonic

from goproc._deaths import GONE, check_worker, gone
from goproc._public import public
from goproc._sched import waits
from goproc._timeouts import check_time
from goproc._tracebacks import ends_at_user
from goproc.shm import _core

__all__ = ["recycle"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1  # seconds between two looks whether the process has ended


@public
@ends_at_user
def recycle(proc: int, timeout: float | None = None) -> None:
    """Replace a worker by a fresh process of the same number, once its goroutines have ended.

    For a worker that has grown, by a library that leaks memory, say. It begins no more goroutines: those in its queue
    run elsewhere, those of ``go.on(proc)`` on the new process. When its last goroutine has ended, the worker runs its
    exit handlers and ends. That is no death: nothing is lost, and nothing is printed on stderr.

    Returns when the old process has ended. A goroutine of that worker gets no wait: recycle() returns at once, as it
    would wait for itself.

    Args:
        proc: the number of the worker: 1 to procs().
        timeout: seconds to wait at most; None waits for ever.

    Raises:
        TypeError: proc is no whole number.
        ValueError: there is no such worker. The host, proc 0, is none.
        TimeoutError: goroutines still run there; the worker goes on as before.
        WorkerDied: the worker has died, and is not replaced (--on-death=continue).

    Cost: the new process is there some 10 ms later.
    """
    check_worker(proc, "recycle", "recycled")
    until = None if timeout is None else monotonic() + check_time(timeout, "recycle(timeout=...)")
    while not (pid := _core.pids()[proc]):  # it has not started yet
        if _core.proc_facts(proc)[1] == GONE:
            raise gone(proc, f"recycle({proc})")
        waits.sleep(_FIRST_PAUSE)
    _core.retire(proc, True)
    if _core.proc() == proc:
        return
    pause = _FIRST_PAUSE
    try:
        while _core.pids()[proc] == pid:
            if until is not None and monotonic() >= until and _core.retire(proc, False):
                raise TimeoutError(
                    f"recycle({proc}): goroutines that have begun there have not ended: timed out"
                )
            waits.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
    except BaseException:
        _core.retire(proc, False)
        raise
    if _core.proc_facts(proc)[1] == GONE:  # the worker had died, and its repair was under way
        raise gone(proc, f"recycle({proc})")
