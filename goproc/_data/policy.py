"""The treatment of calls of the data layer that fail: the options that its maps and stages share, checked, and Failure.

A time limit, further attempts after a delay, and one of four ways to report an item that failed for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from goproc._channel import RecvChan
from goproc._misuse import not_callable
from goproc._public import public
from goproc.errors import RemoteError, TaskTimeout, WorkerDied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Delay = float | Callable[[int], float]

RETRY_ON: tuple[type[BaseException], ...] = (WorkerDied, TaskTimeout)
ON_ERROR = ("raise", "return", "skip")
MOST_CALLS = 10_000  # that run at once in a map, or in a stage of a flow


@public
@dataclass(frozen=True, slots=True)
class Failure:
    """An item whose function failed for good: the last attempt raised, took too long, or lost its process.

    Attributes:
        item: the argument of the call; a tuple where there are several iterables. Where the Failure is sent, to a
            channel or to the next stage of a flow, an item that cannot be pickled or read is replaced by its repr(),
            shortened.
        index: the number of the item, from 0.
        error: the exception of the last attempt, with the worker's traceback as a note.
        attempts: how often the function was called for this item.
        proc: the process of the last attempt.
        seconds: how long the last attempt took.
    """

    item: Any
    index: int
    error: BaseException
    attempts: int
    proc: int
    seconds: float


class Policy(NamedTuple):
    """The options of a call, as checked by policy()."""

    timeout: float | None  # seconds for one attempt
    retries: int  # further attempts
    retry_on: tuple[type[BaseException], ...]
    delay: Delay  # seconds before a further attempt, or a function of the number of the attempt that failed
    on_error: Any  # one of ON_ERROR, or a channel that gets the Failures

    def allows(self, error: BaseException, attempts: int) -> bool:
        """Return True if another attempt follows the one that failed, which was number `attempts`, from 1.

        An exception that cannot be pickled comes as a RemoteError, which is taken for the type that it stands for.
        """
        if attempts > self.retries:
            return False
        if isinstance(error, self.retry_on):
            return True
        return isinstance(error, RemoteError) and any(map(error.stands_for, self.retry_on))

    def pause(self, attempts: int) -> float:
        """Return the seconds to wait after attempt number `attempts` has failed.

        Raises:
            TypeError: delay= returned no number.
            ValueError: delay= returned a negative number.
        """
        if not callable(self.delay):
            return self.delay
        return checked_seconds(self.delay(attempts), "the value that delay= returned")


def policy(
    where: str,
    timeout: float | None = None,
    retries: int = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = RETRY_ON,
    delay: Delay = 0.0,
    on_error: Any = "raise",
) -> Policy:
    """Check the options of a call.

    Args:
        where: names the call in errors, as in ``"pmap()"``.
        timeout: seconds for one attempt; None is no limit.
        retries: how many attempts follow the first at most.
        retry_on: the exceptions that another attempt follows.
        delay: seconds before another attempt, or a function that gets the number of the failed one, from 1.
        on_error: "raise", "return", "skip", or a channel that gets the Failures.

    Raises:
        TypeError: an option is of the wrong type.
        ValueError: an option is out of its range.
    """
    if timeout is not None:
        timeout = checked_seconds(timeout, f"{where}: timeout=")
        if timeout <= 0:
            raise ValueError(f"{where}: timeout= is more than 0 seconds, not {timeout!r}")
    if not callable(delay):
        delay = checked_seconds(delay, f"{where}: delay=")
    return Policy(
        timeout,
        checked_count(retries, f"{where}: retries=", least=0),
        _checked_types(retry_on, where),
        delay,
        _checked_on_error(on_error, where),
    )


def checked_seconds(value: Any, name: str) -> float:
    """Return a number of seconds, at least 0, as a float."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} is a number of seconds, not {type(value).__name__}")
    seconds = float(value)
    if not isfinite(seconds) or seconds < 0:
        raise ValueError(f"{name} is a number of seconds and at least 0, not {value!r}")
    return seconds


def checked_count(value: Any, name: str, least: int = 1, most: int | None = None) -> int:
    """Return a whole number from `least` to `most`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is a whole number, not {type(value).__name__}")
    count: int = value.__index__()
    if count < least:
        raise ValueError(f"{name} is at least {least}, not {count}")
    if most is not None and count > most:
        raise ValueError(f"{name} is at most {most}, not {count}")
    return count


def checked_calls(value: Any, name: str, least: int = 1) -> int | None:
    """Return a number of calls that run at once, or None for the default."""
    return None if value is None else checked_count(value, name, least, MOST_CALLS)


def checked_function(f: Any, where: str, at: int | str = 0) -> None:
    """Raise TypeError unless `f`, which is the argument `at` of the user's call, can be called."""
    if not callable(f):
        said = f"{where}: the function is not callable: {type(f).__name__!r} object"
        raise not_callable(said, f, at=at, gets="items")


def _checked_types(retry_on: Any, where: str) -> tuple[type[BaseException], ...]:
    types = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(
                f"{where}: retry_on= is an exception type or a tuple of exception types, not {kind!r}"
            )
    return types


def _checked_on_error(on_error: Any, where: str) -> Any:
    if isinstance(on_error, str):
        if on_error in ON_ERROR:
            return on_error
        raise ValueError(
            f"{where}: on_error= is 'raise', 'return', 'skip' or a channel for the Failures, not {on_error!r}"
        )
    if isinstance(on_error, RecvChan):
        raise TypeError(f"{where}: on_error= is a channel to send the Failures to, not a receive-only one")
    if hasattr(on_error, "send") and hasattr(on_error, "try_send"):
        return on_error
    raise TypeError(
        f"{where}: on_error= is 'raise', 'return', 'skip' or a channel for the Failures, "
        f"not {type(on_error).__name__}"
    )
