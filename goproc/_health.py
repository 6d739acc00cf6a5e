"""The patterns that find out whether work goes on: beats, several handlers of which one may answer, and restarts.

Their names are in goproc.patterns.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from goproc._channel import Chan, chan, nil
from goproc._done import done_of
from goproc._go import go
from goproc._goroutine import Goroutine
from goproc._select import Selector, select
from goproc._tracebacks import ends_at_user
from goproc.errors import Canceled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from goproc._channel import RecvChan
    from goproc._done import Done

    # The work that a steward watches: it starts, stops when the channel closes, and beats at least once an interval.
    Ward: TypeAlias = Callable[[Chan[Any], float], Chan[Any]]

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("goproc.steward")


@ends_at_user
def pulse(beats: Chan[None]) -> None:
    """Beat: tell a goroutine that listens at this moment that this one is alive. Never blocks."""
    if not hasattr(beats, "try_send"):
        raise TypeError(f"pulse() takes a channel, not {type(beats).__name__}")
    beats.try_send(None)


@ends_at_user
def heartbeat(
    done: Done, values: RecvChan[T], f: Callable[[T], R], interval: float | None = None
) -> tuple[RecvChan[None], RecvChan[R]]:
    """A stage that shows that it is alive.

    Args:
        done: stops it, after the call that is under way.
        values: the input of the stage.
        f: runs in a goroutine anywhere. While it computes there are no beats, so that a hang is noticed.
        interval: seconds between beats while the stage waits for a value or for a receiver of its result; silence for
            twice as long means that it hangs in f. None: one beat at the beginning of each call of f.

    Returns:
        The beats and the results. The beats may be ignored. Both channels are closed at the end.

        >>> from goproc import chan, patterns
        >>> with chan() as done:
        ...     beats, results = patterns.heartbeat(done, patterns.generate(done, [1, 2, 3]), lambda n: -n)
        ...     beats.recv()
        ...     list(results)
        [-1, -2, -3]
    """
    # A beat at the beginning of a call waits for a late listener. A beat that means "now" does not: an old one would be
    # false.
    beats: Chan[None] = chan(1 if interval is None else 0)
    out: Chan[R] = chan()
    go(_beat_and_work, done_of(done), values, f, interval, beats, out)
    return beats.rx, out.rx


def _beat_and_work(
    done: RecvChan[Any],
    values: RecvChan[T],
    f: Callable[[T], R],
    interval: float | None,
    beats: Chan[None],
    out: Chan[R],
) -> None:
    from goproc._timer import tick

    ticks: RecvChan[Any] = nil if interval is None else tick(interval)
    with beats, out:
        while True:
            got = select(done, ticks, values)
            if got.index == 0 or not got.ok:
                return
            if got.index == 1:
                pulse(beats)
                continue
            if interval is None:
                pulse(beats)
            result = f(got.value)
            while (sent := select(done, ticks, (out.send, result)).index) == 1:
                pulse(beats)
            if sent == 0:
                return


@ends_at_user
def replicated(done: Done, handlers: Sequence[Callable[..., R]], *args: Any) -> R:
    """Ask several equivalent handlers, return the first answer, and cancel the rest.

    Args:
        done: gives up.
        handlers: each runs in a goroutine, anywhere. Those that are not needed any more are cancelled: they end where
            they next block.
        args: the arguments of all the calls.

    Raises:
        ExceptionGroup: all of them failed.
        Canceled: ``done`` was closed first.

        >>> from goproc import patterns, sleep
        >>> patterns.replicated(None, [lambda: sleep(3600) or "slow", lambda: "quick"])
        'quick'
    """
    if not handlers:
        raise ValueError("replicated() takes at least one handler")
    running: list[Goroutine[R]] = []
    failed: list[BaseException] = []
    halt = done_of(done)
    try:
        for handler in handlers:
            running.append(go(handler, *args))
        first = Selector(halt, *running)
        while len(failed) < len(running):
            index = first.select().index
            if index == 0:
                raise Canceled
            error = running[index - 1].exception()
            if error is None:
                return running[index - 1].result()
            failed.append(error)
            first[index] = nil
        raise BaseExceptionGroup("all handlers failed", failed)
    finally:
        for g in running:
            g.cancel()
        go.local(_ignore, running)


def _ignore(running: Sequence[Goroutine[Any]]) -> None:
    """Read outcomes that the caller ignores, so that a failure among them is no panic."""
    for g in running:
        g.exception()


@ends_at_user
def steward(
    timeout: float, ward: Ward, log: Callable[[str], None] | None = None
) -> Callable[[Done, float], RecvChan[None]]:
    """Watch over a goroutine, and start it anew when it stops beating: healing.

    Args:
        timeout: seconds of silence after which the ward is stopped and started again. One that has ended is silent.
        ward: ``ward(done, interval)`` starts the work and returns the channel of its beats at once. The work beats at
            least once an interval and stops when ``done`` is closed. Its parameters and results are in the closure of
            `ward`.
        log: is told of restarts; None: the logger ``goproc.steward``.

    Returns:
        A function ``start(done, interval)`` that starts the steward: a ward itself, so that stewards can have stewards.

        >>> from goproc import chan, go, patterns
        >>> starts, done = chan(), chan()
        >>> def ward(done, interval):           # sick: it never beats
        ...     beats = chan()
        ...     go.local(lambda: patterns.select(done, (starts.send, "started")))
        ...     return beats
        >>> beats = patterns.steward(0.01, ward, log=lambda text: None)(done, 1.0)
        >>> starts.recv(), starts.recv()
        ('started', 'started')
        >>> done.close()
        >>> beats.recv_ok()
        (None, False)
    """

    def start(done: Done, interval: float) -> RecvChan[None]:
        beats: Chan[None] = chan()
        go.local(_watch_over, done_of(done), interval, beats, timeout, ward, log or _log.warning)
        return beats.rx

    return start


def _watch_over(
    done: RecvChan[Any],
    interval: float,
    beats: Chan[None],
    timeout: float,
    ward: Ward,
    log: Callable[[str], None],
) -> None:
    from goproc._timer import Timer, tick

    own = tick(interval)
    silence = Timer(timeout)
    stop: Chan[Any] = chan()  # of the present ward
    try:
        theirs = ward(stop, timeout / 2)
        while True:
            got = select(done, own, theirs, silence)
            if got.index == 0:
                return
            if got.index == 1:
                pulse(beats)
            elif got.index == 2:
                if got.ok:
                    silence.reset(timeout)
                else:
                    theirs = nil
            else:
                log("steward: ward unhealthy; restarting")
                stop.close()
                stop = chan()
                theirs = ward(stop, timeout / 2)
                silence.reset(timeout)
    finally:
        stop.close()
        beats.close()


for _pattern in (pulse, heartbeat, replicated, steward):
    _pattern.__module__ = "goproc.patterns"
