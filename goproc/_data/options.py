"""The arguments of pmap() and its kin, checked."""

from __future__ import annotations

from operator import length_hint
from typing import Any

from goproc._data.job import Job
from goproc._data.policy import Policy, checked_calls, checked_count, checked_function
from goproc._misuse import not_callable
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from goproc.rate import Limiter


class Options:
    """The arguments of pmap(), checked."""

    __slots__ = ("ahead", "checkpoint", "chunk", "job", "key", "name", "ordered", "policy", "progress", "sources", "threads", "total", "where", "workers")  # fmt: skip

    def __init__(
        self,
        where: str,
        f: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        rules: Policy,
        *,
        ordered: bool,
        ahead: int | None,
        chunk: int | str,
        workers: int | None,
        threads: int | None,
        total: int | None,
        progress: Any,
        init: Callable[[], Any] | None,
        exit: Callable[[Any], object] | None,
        key: Callable[..., Any] | None,
        limit: Limiter | None,
        recycle: int | None,
        memory: str | int | None,
        checkpoint: Any,
        id: Callable[..., Any] | None,
    ) -> None:
        checked_function(f, where)
        self.where = where
        self.sources: tuple[Any, ...] = _checked_iterables(where, iterables)
        self.policy = rules
        self.ordered = bool(ordered)
        self.ahead = _maybe_count(ahead, f"{where}: ahead=")
        self.workers = checked_calls(workers, f"{where}: workers=")
        self.threads = checked_calls(threads, f"{where}: threads=")
        self.total = None if total is None else checked_count(total, f"{where}: total=", least=0)
        self.chunk = _checked_chunk(where, chunk)
        for name, function in (("init", init), ("exit", exit), ("key", key), ("id", id)):
            if function is not None and not callable(function):
                raise not_callable(
                    f"{where}: {name}= is a function, not {type(function).__name__}", function, at=name
                )
        if limit is not None and not hasattr(limit, "wait"):
            raise TypeError(f"{where}: limit= is a Limiter, not {type(limit).__name__}")
        self.key = key
        self.name = getattr(f, "__name__", None) or type(f).__name__
        self.progress = _checked_progress(progress)
        self.checkpoint = _checked_checkpoint(where, checkpoint, id, f)
        self.job = Job(
            f,
            self.name,
            f"{where.removesuffix('()')} {self.name}",
            len(iterables) > 1,
            None,  # type: ignore[arg-type]  # the engine makes the channel
            init,
            exit,
            limit,
            rules.timeout,
            self.threads or 0,
            _maybe_count(recycle, f"{where}: recycle="),
            _checked_memory(where, memory),
        )
        if not self.ordered and self.ahead is not None:
            self.check_ahead(self.workers or (self.threads or 1) * (_workers() or 1))

    def check_ahead(self, lanes: int) -> None:
        """Raise ValueError if an unordered map cannot use all of its workers."""
        if not self.ordered and self.ahead is not None and self.ahead < lanes:
            raise ValueError(
                f"{self.where}: ahead={self.ahead} lets {self.ahead} of {lanes} calls run at once: "
                "in an unordered map it is at least their number (workers=)"
            )


def _workers() -> int:
    """Return the number of workers. Where the runtime has not started: those that it will have."""
    if _core.attached():
        return _core.procs() - 1
    from goproc._proc import configuration

    return configuration.configured().procs


def _maybe_count(value: Any, name: str) -> int | None:
    return None if value is None else checked_count(value, name)


def _checked_chunk(where: str, chunk: Any) -> int | None:
    if isinstance(chunk, str):
        if chunk != "auto":
            raise ValueError(f"{where}: chunk= is a number of items or 'auto', not {chunk!r}")
        return None
    return checked_count(chunk, f"{where}: chunk=")


def _checked_memory(where: str, memory: Any) -> int | None:
    if memory is None:
        return None
    from goproc._proc.topology import parse_memory

    return parse_memory(memory, f"{where}: memory=")


def _checked_progress(progress: Any) -> Any:
    if progress is not None and progress is not False:
        from goproc._data.progress import check_progress

        check_progress(progress)
    return progress


def _checked_checkpoint(where: str, checkpoint: Any, id: Callable[..., Any] | None, f: Any) -> Any:
    if checkpoint is None:
        if id is not None:
            raise ValueError(f"{where}: id= names the items of a checkpoint, and there is no checkpoint=")
        return None
    from goproc._data.checkpoint import Checkpoint

    return Checkpoint(where, checkpoint, f, id)


def _checked_iterables(where: str, iterables: tuple[Any, ...]) -> tuple[Any, ...]:
    if not iterables:
        raise TypeError(f"{where} takes a function and at least one iterable")
    for number, source in enumerate(iterables, 1):
        if not hasattr(type(source), "__iter__") and not hasattr(type(source), "__getitem__"):
            which = "" if len(iterables) == 1 else f"iterable {number}: "
            by_name = "; options have names, as in workers=4" if number > 1 else ""
            raise TypeError(f"{where}: {which}{type(source).__name__!r} object is not iterable{by_name}")
    return iterables


def total_of(options: Options) -> int | None:
    if options.total is not None:
        return options.total
    return shortest(options.sources)


def shortest(iterables: Sequence[Any]) -> int | None:
    """Return the least of the lengths that iterables tell of themselves; None if none does."""
    known = []
    for iterable in iterables:
        try:
            n = length_hint(iterable, -1)
        except Exception:
            n = -1
        if n >= 0:
            known.append(n)
    return min(known, default=None)
