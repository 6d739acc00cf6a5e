"""A joblib backend: joblib's Parallel, and with it scikit-learn, on the workers of goproc.

    import goproc.joblib
    from joblib import parallel_config

    with parallel_config("goproc", n_jobs=-1):
        search.fit(X, y)

Importing the module registers the backend. Its workers stay for the next Parallel, as do the modules that they have
imported and the large arrays that they have been given.
"""

# ruff: noqa: E402 (the zygote is started before the long imports)

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from time import thread_time
from typing import Any

from goproc._proc import host

host.prepare()  # the zygote imports the same modules as this process, at the same time

from joblib import register_parallel_backend
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from goproc._executor.pool import MOST
from goproc._proc import topology
from goproc.futures import Executor, Future
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GoprocBackend", "register"]

_idle: list[Executor] = []  # that no Parallel uses now
_SHORTEST = 0.005  # seconds that a batch is to take at least
_LONGEST = 0.1  # and at most
_SENDINGS = 4  # batches of which the time of sending is the mean, about


class GoprocBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """The backend that joblib knows as "goproc".

    ``n_jobs`` is the number of batches of calls that run at once, each alone in its process; -1 means one for each
    worker. Parallel within a call runs in threads, as with joblib's own backends. In a goroutine on a worker, it makes
    one call after the other.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_sharedmem = False
    uses_threads = False

    # A call costs microseconds here, so batches may be short; short ones keep generators lively. Where batches bring large
    # arrays, _note_sending() raises these for the one Parallel.
    MIN_IDEAL_BATCH_DURATION = _SHORTEST
    MAX_IDEAL_BATCH_DURATION = _LONGEST

    _workers: Executor | None = None
    _sending = 0.0  # seconds of CPU time that the sending of a batch takes, of late
    parallel: Any = None

    def __reduce__(self) -> Any:
        return GoprocBackend, ()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches run at once for an ``n_jobs``. Start nothing."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if not _can_run():
            if n_jobs != 1:
                warnings.warn(
                    "joblib's goproc backend cannot be nested in a process of its own or of a pool, setting n_jobs=1",
                    stacklevel=3,
                )
            return 1
        if n_jobs < 0:
            return max(_worker_count() + 1 + n_jobs, 1)
        return min(n_jobs, MOST)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **unused: Any,
    ) -> int:
        """Make ready for a Parallel and return the number of workers.

        Args:
            n_jobs: how many batches of calls run at once.
            parallel: the Parallel.
            prefer: unused, as joblib has chosen the backend already.
            require: unused likewise.
            initializer: called once in each process, with `initargs`, before its first call.
            initargs: its arguments.
            unused: parameters of joblib's other backends.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if initializer is None:
            initializer = self.backend_kwargs.get("initializer")
            initargs = self.backend_kwargs.get("initargs", ())
        self.parallel = parallel
        self._release()
        self._workers = _take(n_jobs, _Begin(initializer, tuple(initargs)))
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Future[Any]:
        """Run a batch of calls. The callback gets the future, in a thread that runs no goroutines."""
        if self.inner_max_num_threads is not None:
            func = _Threads(func, self.inner_max_num_threads)
        before = thread_time()
        future: Future[Any] = self._workers._submit(func, callback)  # type: ignore[union-attr]
        self._note_sending(thread_time() - before)
        return future

    apply_async = submit  # joblib 1.3 and 1.4 call this name

    def _note_sending(self, seconds: float) -> None:
        """Have batches take ten times as long as their sending: a large array is compared with its copy at each."""
        self._sending += (seconds - self._sending) / _SENDINGS
        shortest = min(max(_SHORTEST, 10 * self._sending), AutoBatchingMixin.MIN_IDEAL_BATCH_DURATION)
        self.MIN_IDEAL_BATCH_DURATION = shortest
        self.MAX_IDEAL_BATCH_DURATION = max(_LONGEST, 10 * shortest)

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the results of a batch, or raise its exception."""
        return out.result()

    def terminate(self) -> None:
        """End the Parallel. The workers stay."""
        self._release()
        self.reset_batch_stats()
        self._sending = 0.0
        self._note_sending(0.0)

    def _release(self) -> None:
        executor, self._workers = self._workers, None
        if executor is not None:
            _idle.append(executor)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the calls that run after one has failed, and forget the others."""
        executor, self._workers = self._workers, None
        if executor is not None:
            executor.kill_workers()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


class _Threads:
    """A batch whose libraries may use so many threads."""

    def __init__(self, call: Callable[[], Any], threads: int) -> None:
        self.call = call
        self.threads = threads

    def __call__(self) -> Any:
        names = [os.fsencode(name) for name in ParallelBackendBase.MAX_NUM_THREADS_VARS]
        # As bytes, since goproc marks the variables that it has set.
        before = {name: os.environb.get(name) for name in names}
        os.environb.update(dict.fromkeys(names, b"%d" % self.threads))  # for libraries that it imports
        limits = _limits(self.threads)
        try:
            return self.call()
        finally:
            if limits is not None:
                limits.restore_original_limits()
            for name, value in before.items():
                if value is None:
                    os.environb.pop(name, None)
                else:
                    os.environb[name] = value


def _limits(threads: int) -> Any:
    """Set the number of threads of the libraries that are loaded; None where nothing can."""
    if "numpy" not in sys.modules:
        return None
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    return threadpool_limits(threads)


def _can_run() -> bool:
    """Return True if calls of a Parallel in this process can run on workers."""
    if _core.attached():
        # On a worker Parallel would wait by time.sleep(), which keeps the process from the calls that it waits for.
        return _core.proc() == 0
    multiprocessing = sys.modules.get("multiprocessing.process")
    daemon = multiprocessing is not None and multiprocessing.current_process().daemon
    return host.may_start() and not daemon


def _worker_count() -> int:
    """Return how many workers the runtime has, or would have. Start nothing."""
    if _core.attached():
        return max(1, _core.procs() - 1)
    if "GOPROC_PROCS" in os.environ:
        return max(1, topology.parse_procs(os.environ["GOPROC_PROCS"], "GOPROC_PROCS"))
    return topology.default_procs()


@dataclass(frozen=True)
class _Begin:
    """Set up a process before its first call."""

    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]

    def __call__(self) -> None:
        register()  # a call may name the backend
        if self.initializer is not None:
            self.initializer(*self.initargs)


def _take(n_jobs: int, begin: _Begin) -> Executor:
    """Return an Executor that no other Parallel uses: one that aborts must not end the calls of another."""
    for executor in list(_idle):
        if not executor._usable():
            _idle.remove(executor)
        elif executor._has(n_jobs, begin):
            _idle.remove(executor)
            return executor
    return Executor(n_jobs, initializer=begin)


def register() -> None:
    """Make the backend known to joblib as "goproc". Importing this module does it."""
    register_parallel_backend("goproc", GoprocBackend)


register()
