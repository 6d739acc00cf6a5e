"""The stages of a flow as the user has asked for them: their functions and options, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

from goproc._data.policy import (
    MOST_CALLS,
    Policy,
    checked_calls,
    checked_count,
    checked_function,
    checked_seconds,
    policy,
)
from goproc._misuse import not_callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAP, FILTER, FLAT_MAP, EACH, STAGE, BATCH, TAKE, SKIP, THROTTLE, TEE, MERGE = range(11)
CALLING = frozenset({MAP, FILTER, FLAT_MAP, EACH})  # kinds that call a function for each item
_BUFFER_PER_WORKER = 2


class Stage(NamedTuple):
    """One stage of a flow.

    Attributes:
        kind: MAP to MERGE.
        name: of the stage: the name of its function, or of the method.
        f: the function, or None.
        workers: how many calls run at once, without threads; 0: they run in the process of the consumer.
        own: the stage has workers of its own, and does not share those of the stage before it.
        n: the number that BATCH, TAKE, SKIP, THROTTLE and TEE are given.
        within: seconds after which BATCH hands over what it has, or None.
        options: those of pmap, or None if the stage has none.
    """

    kind: int
    name: str
    f: Callable[..., Any] | None
    workers: int
    own: bool
    n: float = 0
    within: float | None = None
    options: Options | None = None

    @property
    def calls(self) -> int:
        """The number of calls that run at once."""
        threads = self.options.threads if self.options is not None else None
        return max(1, self.workers) * (threads or 1)

    def edge(self, buffer: int | None) -> int:
        """Return how many items the edge before the stage holds: as given, else twice the calls after it."""
        return _BUFFER_PER_WORKER * self.calls if buffer is None else buffer


class Options(NamedTuple):
    """The options of a stage beyond its number of workers. `where` names the stage in errors."""

    where: str
    policy: Policy
    threads: int | None
    ordered: bool
    key: Callable[..., Any] | None
    init: Callable[[], Any] | None
    exit: Callable[[Any], object] | None
    limit: Any

    @property
    def survives(self) -> bool:
        """True if the stage goes on after the death of a process."""
        return self.policy.retries > 0 or self.policy.on_error != "raise"

    @property
    def plain(self) -> bool:
        """True if the stage needs only a loop over a channel."""
        rest = (self.policy.timeout, self.threads, self.key, self.init, self.exit, self.limit)
        return not self.survives and all(option is None for option in rest)


def name_of(f: Any) -> str:
    """Return the name of a function, for errors and records."""
    while hasattr(f, "func") and not hasattr(f, "__name__"):  # functools.partial
        f = f.func
    return getattr(f, "__name__", None) or type(f).__name__


def calling_stage(
    kind: int,
    method: str,
    f: Any,
    workers: int | None,
    options: dict[str, Any],
) -> Stage:
    """Return the stage of map(), filter(), flat_map() or each()."""
    where = f"flow: {method}()"
    checked_function(f, where)
    given = _checked_options(where, **options)
    own = kind != FILTER or workers is not None or not given.plain
    calls = checked_calls(workers, f"{where}: workers=", least=0)
    count = 1 if calls is None else calls
    if count == 0 and not given.plain:
        raise ValueError(
            f"{where}: with workers=0 the function is called in this process, and takes no options"
        )
    return Stage(kind, name_of(f), f, count, own, options=given)


def plain_stage(f: Any, workers: int) -> Stage:
    """Return the stage of stage()."""
    checked_function(f, "flow: stage()")
    count = checked_count(workers, "flow: stage(): workers=", most=MOST_CALLS)
    return Stage(STAGE, name_of(f), f, count, True)


def counting_stage(kind: int, name: str, n: Any, least: int, within: Any = None) -> Stage:
    """Return the stage of batch(), take(), skip() or tee()."""
    count = checked_count(n, f"flow: {name}(): n", least)
    if within is not None:
        within = checked_seconds(within, f"flow: {name}(): within=")
        if within <= 0:
            raise ValueError(f"flow: {name}(): within= is more than 0 seconds, not {within!r}")
    return Stage(kind, name, None, 1, False, count, within)


def throttle_stage(n: Any) -> Stage:
    """Return the stage of throttle()."""
    if isinstance(n, bool) or not isinstance(n, (int, float)):
        raise TypeError(f"flow: throttle() takes the number of items a second, not {type(n).__name__}")
    if not 0 < n < float("inf"):
        raise ValueError(f"flow: throttle() takes the number of items a second, more than 0, not {n!r}")
    return Stage(THROTTLE, "throttle", None, 1, False, n)


def _checked_options(
    where: str,
    *,
    threads: int | None,
    ordered: bool,
    timeout: float | None,
    retries: int,
    retry_on: Any,
    delay: Any,
    on_error: Any,
    key: Any,
    init: Any,
    exit: Any,
    limit: Any,
) -> Options:
    for name, function in (("key", key), ("init", init), ("exit", exit)):
        if function is not None and not callable(function):
            raise not_callable(
                f"{where}: {name}= is a function, not {type(function).__name__}", function, at=name
            )
    if limit is not None and not hasattr(limit, "wait"):
        raise TypeError(f"{where}: limit= is a Limiter, not {type(limit).__name__}")
    threads = checked_calls(threads, f"{where}: threads=")
    rules = policy(where, timeout, retries, retry_on, delay, on_error)
    return Options(where, rules, threads, bool(ordered), key, init, exit, limit)
