"""A rate limiter, as golang.org/x/time/rate: a bucket of tokens that fills at a steady rate, for all processes.

The bucket is never filled by anybody. It is a note of how many tokens there were at some time; whoever comes next
works out how many there are now. The number may be negative: those are tokens that are reserved, and paid for by
waiting. One note in a shared variable, so every process sees the same bucket; no goroutine and no timer.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import Any, NamedTuple

from goproc._sched import scheduler, waits
from goproc._shared_value import Cell
from goproc.errors import DeadlineExceeded
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc.context import AnyContext

__all__ = ["Limiter", "Reservation", "every", "inf"]

_FOR_EVER = 1e9  # seconds, which every clock can count


def every(seconds: float) -> float:
    """Return the rate of one event in that time. ``every(0)`` is no limit."""
    return 1 / seconds if seconds > 0 else inf


class _Bucket(NamedTuple):
    """What is known of the bucket. Times are monotonic seconds."""

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
    """How long the bucket takes to gain that many tokens."""
    if tokens <= 0:
        return 0.0
    return tokens / rate if rate > 0 else inf


class Reservation:
    """Permission to act, perhaps later: what Limiter.reserve() returns.

    Attributes:
        ok: whether it could be granted at all.
        at: when one may act, in ``time.monotonic()`` seconds; infinity if it was not granted.
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
        """Seconds to wait from now before acting: 0.0 if there is no need to, infinity if it was not granted."""
        return max(self.at - monotonic(), 0.0) if self.ok else inf

    def cancel(self) -> None:
        """Give the tokens back: one is not going to act. What others have reserved since is not changed by that.

        Does nothing once the time to act has come.
        """
        if self.ok and self._tokens:
            self._limiter._bucket.update(self._undo)
            self._tokens = 0

    def _undo(self, b: _Bucket) -> tuple[_Bucket, None]:
        now = monotonic()
        if b.rate == inf or self.at < now:
            return b, None
        # Others who came after have been told to wait for tokens that come after ours: those are spent.
        back = self._tokens - _grown(self._rate, b.last - self.at)
        if back <= 0:
            return b, None
        last = b.last
        if last == self.at:  # nobody did: the latest is the one before us
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

    It can be sent to goroutines: all of them, in all processes, share the one bucket.

    Args:
        rate: events a second; ``rate.inf`` allows all, 0 no more than the first ``burst``; ``rate.every(s)`` is one
            in s seconds.
        burst: the size of the bucket, which is full at first.

    Cost: about 3 us an operation.
    """

    __slots__ = ("_bucket",)

    def __init__(self, rate: float, burst: int = 1) -> None:
        now = monotonic()
        burst = _checked_count(burst, "burst")
        self._bucket = Cell(_Bucket(_checked_rate(rate), burst, float(burst), now, now))

    # -- asking

    def allow(self, n: int = 1) -> bool:
        """Tell whether n events may happen now, and count them if so."""
        return self._reserve(n, 0.0).ok

    def reserve(self, n: int = 1) -> Reservation:
        """Take n tokens, also some that are yet to come, and say how long to wait for them.

        Returns:
            The reservation. It is not ``ok`` if n is more than the burst.
        """
        return self._reserve(n, inf)

    def wait(self, n: int = 1, ctx: AnyContext | None = None, timeout: float | None = None) -> None:
        """Block until n events may happen.

        Args:
            n: at most the burst.
            ctx: a context that ends the wait; what was reserved is given back then.
            timeout: seconds to wait at most. When that, the deadline of ctx or that of a ``context.timeout()`` block is
                too short, this raises at once and takes nothing.

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
                waits.sleep(min(delay, _FOR_EVER))
            else:
                _sleep_unless(ctx, min(delay, _FOR_EVER))
        except BaseException:
            reservation.cancel()
            raise

    def tokens(self) -> float:
        """The tokens in the bucket now; negative if some are reserved ahead."""
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
            # A later reservation never acts before an earlier one: times come from one note, not from many clocks.
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

    def set_limit(self, rate: float) -> None:
        """Change the rate, from now on. Those who wait already wait as long as they were told."""
        rate = _checked_rate(rate)
        self._bucket.update(lambda b: (_settled(b)._replace(rate=rate), None))

    def set_burst(self, burst: int) -> None:
        """Change the size of the bucket, from now on."""
        burst = _checked_count(burst, "burst")
        self._bucket.update(lambda b: (_settled(b)._replace(burst=burst), None))

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
            return "<Limiter of a runtime that stopped>"
        return f"<Limiter {b.rate:g}/s burst {b.burst}, {b.tokens_at(monotonic()):.2f} tokens>"


def _restore(bucket: Cell[_Bucket]) -> Limiter:
    limiter = Limiter.__new__(Limiter)
    limiter._bucket = bucket
    return limiter


def _settled(b: _Bucket) -> _Bucket:
    """The same bucket, noted now."""
    now = monotonic()
    return b._replace(tokens=b.tokens_at(now), at=max(now, b.at))


def _time_left(ctx: AnyContext | None, timeout: float | None) -> float:
    """For how long the caller is ready to wait."""
    left = inf
    if timeout is not None:
        if timeout != timeout:
            raise ValueError("wait() takes timeout= in seconds, not NaN")
        left = timeout
    until = None if ctx is None else ctx.deadline()
    own = scheduler.current.limit() if _core.on_scheduler_thread() else None
    for t in (until, own):
        if t is not None:
            left = min(left, t - monotonic())
    return max(left, 0.0)


def _sleep_unless(ctx: AnyContext, delay: float) -> None:
    """Sleep; raise the error of a context that ends meanwhile."""
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
