"""A rate limiter, as golang.org/x/time/rate: a bucket of tokens that fills at a steady rate, for all processes.

Nothing fills the bucket. The bucket is a note of how many tokens there were at some time, and each call computes from
it how many there are now. The number may be negative: these tokens are reserved, and their holders wait for them. The
note is one shared variable, so every process sees the same bucket, and there is no goroutine and no timer.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import Any, NamedTuple

from goproc._public import of_stopped
from goproc._sched import scheduler, waits
from goproc._shared_value import Cell
from goproc._timeouts import FOR_EVER, check_time
from goproc._tracebacks import ends_at_user
from goproc.errors import DeadlineExceeded
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc.context import AnyContext

__all__ = ["Limiter", "Reservation", "every", "inf"]


@ends_at_user
def every(seconds: float) -> float:
    """Return the rate of one event in `seconds`. ``every(0)`` is no limit.

    Args:
        seconds: the interval between two events.
    """
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"every() takes seconds as a number, not {type(seconds).__name__}")
    return 1 / seconds if seconds > 0 else inf


class _Bucket(NamedTuple):
    """The state of the bucket at the time `at`. Times are monotonic seconds."""

    rate: float
    burst: int
    tokens: float  # at `at`; below zero: reserved ahead
    at: float
    last: float  # when the latest reservation may act

    def tokens_at(self, now: float) -> float:
        if self.rate == inf:
            return float(self.burst)
        return min(self.tokens + _grown(self.rate, now - self.at), float(self.burst))


def _grown(rate: float, seconds: float) -> float:
    return rate * seconds if rate > 0 and seconds > 0 else 0.0


def _time_for(rate: float, tokens: float) -> float:
    """Return the seconds in which the bucket gains `tokens`."""
    if tokens <= 0:
        return 0.0
    return tokens / rate if rate > 0 else inf


class Reservation:
    """The permission for some events, now or at a later time. Limiter.reserve() returns it.

    Attributes:
        ok: True if the permission is given. False: the events are more than the burst.
        at: the time from which the events may happen, in ``time.monotonic()`` seconds; infinity if `ok` is False.
    """

    __slots__ = ("_limiter", "_rate", "_tokens", "at", "ok")

    def __init__(self, limiter: Limiter, ok: bool, at: float, tokens: int, rate: float) -> None:
        self.ok = ok
        self.at = at
        self._limiter = limiter
        self._tokens = tokens
        self._rate = rate

    @property
    def delay(self) -> float:
        """The seconds from now until `at`: 0.0 if that has passed, infinity if `ok` is False."""
        return max(self.at - monotonic(), 0.0) if self.ok else inf

    def cancel(self) -> None:
        """Give the tokens back, for events that will not happen. Later reservations of others stay as they are.

        After the time `at` cancel() does nothing.
        """
        if self.ok and self._tokens:
            self._limiter._bucket.update(self._undo)
            self._tokens = 0

    def _undo(self, b: _Bucket) -> tuple[_Bucket, None]:
        now = monotonic()
        if b.rate == inf or self.at < now:
            return b, None
        # Later reservations wait for tokens that come after ours. These tokens are spent, and do not go back.
        back = self._tokens - _grown(self._rate, b.last - self.at)
        if back <= 0:
            return b, None
        last = b.last
        if last == self.at:  # ours is the latest: now the one before us is
            before = self.at - _time_for(self._rate, self._tokens)
            last = before if before >= now else last
        return b._replace(
            tokens=min(b.tokens_at(now) + back, float(b.burst)), at=max(now, b.at), last=last
        ), None

    def __reduce__(self) -> Any:
        return Reservation, (self._limiter, self.ok, self.at, self._tokens, self._rate)

    def __repr__(self) -> str:
        return (
            f"<Reservation of {self._tokens} in {self.delay:.3f} s>" if self.ok else "<Reservation refused>"
        )


class Limiter:
    """Lets events happen at a rate: up to ``burst`` at once, ``rate`` a second in the long run.

    A limiter can be sent to goroutines. All processes share its one bucket.

    Args:
        rate: events a second. ``rate.inf`` allows all events, 0 only the first ``burst``, and ``rate.every(s)`` one in
            s seconds.
        burst: the size of the bucket, which is full at first.

    Raises:
        TypeError, ValueError: rate or burst is no number, or is negative.

    Cost: about 3 us an operation.
    """

    __slots__ = ("_bucket",)

    @ends_at_user
    def __init__(self, rate: float, burst: int = 1) -> None:
        now = monotonic()
        burst = _checked_count(burst, "burst")
        self._bucket = Cell(_Bucket(_checked_rate(rate), burst, float(burst), now, now))

    # -- asking

    @ends_at_user
    def allow(self, n: int = 1) -> bool:
        """Return True if n events may happen now, and take their tokens. Never wait.

        Args:
            n: the number of events.
        """
        return self._reserve(n, 0.0).ok

    @ends_at_user
    def reserve(self, n: int = 1) -> Reservation:
        """Take n tokens, of now or of the future, without waiting for them.

        Args:
            n: the number of events.

        Returns:
            The reservation, which says how long to wait. Its ``ok`` is False if n is more than the burst.
        """
        return self._reserve(n, inf)

    @ends_at_user
    def wait(self, n: int = 1, ctx: AnyContext | None = None, timeout: float | None = None) -> None:
        """Block until n events may happen.

        Args:
            n: at most the burst.
            ctx: a context that ends the wait; then the tokens go back.
            timeout: seconds to wait at most. If the tokens come after this time, after the deadline of ctx or after
                that of a ``context.timeout()`` block, wait() raises at once and takes no token.

        Raises:
            ValueError: ``rate: Wait(n=%d) exceeds limiter's burst %d``.
            DeadlineExceeded: ``rate: Wait(n=%d) would exceed context deadline`` (a TimeoutError).
            Canceled: ctx was cancelled.
        """
        n = _checked_count(n, "n")
        bucket = self._bucket.load()
        if n > bucket.burst and bucket.rate != inf:
            raise ValueError(f"rate: Wait(n={n}) exceeds limiter's burst {bucket.burst}")
        error = None if ctx is None else ctx.err()
        if error is not None:
            raise error
        reservation = self._reserve(n, _time_left(ctx, timeout))
        if not reservation.ok:
            raise DeadlineExceeded(f"rate: Wait(n={n}) would exceed context deadline")
        delay = reservation.delay
        if delay <= 0:
            return
        try:
            if ctx is None:
                waits.sleep(min(delay, FOR_EVER))
            else:
                _sleep_unless(ctx, min(delay, FOR_EVER))
        except BaseException:
            reservation.cancel()
            raise

    def tokens(self) -> float:
        """Return the tokens in the bucket now; negative if some are reserved ahead."""
        return self._bucket.load().tokens_at(monotonic())

    def _reserve(self, n: int, patience: float) -> Reservation:
        n = _checked_count(n, "n")

        def take(b: _Bucket) -> tuple[_Bucket, Reservation]:
            now = monotonic()
            if b.rate == inf:
                return b, Reservation(self, True, now, n, b.rate)
            tokens = b.tokens_at(now) - n
            delay = _time_for(b.rate, -tokens)
            if n > b.burst or delay > patience:
                return b, Reservation(self, False, inf, 0, b.rate)
            # All times come from one note, so a later reservation never acts before an earlier one.
            return b._replace(tokens=tokens, at=max(now, b.at), last=now + delay), Reservation(
                self, True, now + delay, n, b.rate
            )

        return self._bucket.update(take)

    # -- settings

    @property
    def limit(self) -> float:
        """Events a second."""
        return self._bucket.load().rate

    @property
    def burst(self) -> int:
        """The size of the bucket."""
        return self._bucket.load().burst

    @ends_at_user
    def set_limit(self, rate: float) -> None:
        """Change the rate, from now on. Calls that wait already keep their time.

        Args:
            rate: events a second.
        """
        rate = _checked_rate(rate)
        self._bucket.update(lambda b: (_refilled(b)._replace(rate=rate), None))

    @ends_at_user
    def set_burst(self, burst: int) -> None:
        """Change the size of the bucket, from now on.

        Args:
            burst: the size of the bucket.
        """
        burst = _checked_count(burst, "burst")
        self._bucket.update(lambda b: (_refilled(b)._replace(burst=burst), None))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limiter) and self._bucket == other._bucket

    def __hash__(self) -> int:
        return hash(self._bucket)

    def __reduce__(self) -> Any:
        return _restore, (self._bucket,)

    def __repr__(self) -> str:
        try:
            b = self._bucket.load()
        except RuntimeError:
            return of_stopped("Limiter")
        return f"<Limiter {b.rate:g}/s burst {b.burst}, {b.tokens_at(monotonic()):.2f} tokens>"


def _restore(bucket: Cell[_Bucket]) -> Limiter:
    limiter = Limiter.__new__(Limiter)
    limiter._bucket = bucket
    return limiter


def _refilled(b: _Bucket) -> _Bucket:
    """Return the same bucket with the tokens of now."""
    now = monotonic()
    return b._replace(tokens=b.tokens_at(now), at=max(now, b.at))


def _time_left(ctx: AnyContext | None, timeout: float | None) -> float:
    """Return the seconds that the caller may wait: the least of `timeout`, the context's and the block's deadline."""
    left = inf
    if timeout is not None:
        left = check_time(timeout, "Limiter.wait(timeout=...)")
    until = None if ctx is None else ctx.deadline()
    own = scheduler.current.limit() if _core.on_scheduler_thread() else None
    for t in (until, own):
        if t is not None:
            left = min(left, t - monotonic())
    return max(left, 0.0)


def _sleep_unless(ctx: AnyContext, delay: float) -> None:
    """Sleep. Raise the error of `ctx` if that ends meanwhile."""
    from goproc._select import select

    try:
        select(ctx.done(), timeout=delay)
    except DeadlineExceeded:
        raise
    except TimeoutError:
        return
    error = ctx.err()
    if error is not None:
        raise error


def _checked_rate(rate: Any) -> float:
    if not isinstance(rate, (int, float)) or isinstance(rate, bool):
        raise TypeError(f"a rate is a number of events a second, not {type(rate).__name__}")
    if not rate >= 0:
        raise ValueError(f"a rate is at least 0, not {rate!r}")
    return float(rate)


def _checked_count(n: Any, name: str) -> int:
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"{name} is a number of events, not {type(n).__name__}")
    if n < 0:
        raise ValueError(f"{name} is at least 0, not {n}")
    return n
