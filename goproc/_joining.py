"""The patterns that join channels into one, or copy one to two.

Their names are in goproc.patterns.
"""

from __future__ import annotations

from typing import Any, TypeVar

from goproc._channel import Chan, chan, nil
from goproc._done import done_of, put
from goproc._go import go
from goproc._select import Selector, select
from goproc._tracebacks import ends_at_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from goproc._channel import RecvChan
    from goproc._done import Done
    from goproc.context import AnyContext

T = TypeVar("T")


@ends_at_user
def or_channel(*channels: RecvChan[Any] | AnyContext) -> RecvChan[Any]:
    """Combine channels into one that is closed as soon as any of them is closed or has a value.

    The book builds a tree of goroutines for this; one select() over all does the same.

    Args:
        channels: none gives nil, one gives itself. A context, too, which is its done().

    Returns:
        The channel. The one goroutine behind it ends with the first of them.

        >>> from goproc import after, patterns
        >>> patterns.or_channel(after(3600), after(0.01), after(60)).recv_ok()
        (None, False)
    """
    if len(channels) <= 1:
        return done_of(channels[0] if channels else nil).rx
    out: Chan[Any] = chan()
    go.local(_close_with_first, channels, out)
    return out.rx


def _close_with_first(channels: Sequence[RecvChan[Any] | AnyContext], out: Chan[Any]) -> None:
    with out:
        select(*channels)


@ends_at_user
def fan_in(done: Done, *channels: RecvChan[T]) -> RecvChan[T]:
    """Join channels into one, in the order in which values happen to come; closed when all of them are.

    One goroutine with a Selector does it, where the book has one for each channel.

    Args:
        done: stops it.
        channels: any number of channels.
    """
    out: Chan[T] = chan()
    go.local(_fan_in, done_of(done), out, channels)
    return out.rx


def _fan_in(done: RecvChan[Any], out: Chan[T], channels: Sequence[RecvChan[T]]) -> None:
    inputs = Selector(done, *channels)
    left = len(channels)
    with out:
        while left:
            got = inputs.select()
            if got.index == 0:
                return
            if not got.ok:
                inputs[got.index] = nil
                left -= 1
            elif not put(done, out, got.value):
                return


@ends_at_user
def tee(done: Done, values: RecvChan[T]) -> tuple[RecvChan[T], RecvChan[T]]:
    """Send every value to two channels. The next one is not received before both have taken it.

    Args:
        done: stops it.
        values: the channel to copy.

    >>> from goproc import chan, patterns
    >>> with chan() as done:
    ...     one, other = patterns.tee(done, patterns.generate(done, "ab"))
    ...     [(v, other.recv()) for v in one]
    [('a', 'a'), ('b', 'b')]
    """
    one: Chan[T] = chan()
    other: Chan[T] = chan()
    go.local(_tee, done_of(done), values, one, other)
    return one.rx, other.rx


def _tee(done: RecvChan[Any], values: RecvChan[T], one: Chan[T], other: Chan[T]) -> None:
    with one, other:
        while True:
            got = select(done, values)
            if got.index == 0 or not got.ok:
                return
            first = select(done, (one.send, got.value), (other.send, got.value)).index
            if first == 0 or not put(done, other if first == 1 else one, got.value):
                return


@ends_at_user
def bridge(done: Done, channels: RecvChan[RecvChan[T]]) -> RecvChan[T]:
    """Make one channel from a channel of channels: the values of the first until it is closed, then those of the next.

    Args:
        done: stops it.
        channels: a channel of channels.

    >>> from goproc import chan, patterns
    >>> with chan() as done:
    ...     parts = patterns.generate(done, [patterns.generate(done, part) for part in ("ab", "c", "de")])
    ...     "".join(patterns.bridge(done, parts))
    'abcde'
    """
    out: Chan[T] = chan()
    go.local(_bridge, done_of(done), channels, out)
    return out.rx


def _bridge(done: RecvChan[Any], channels: RecvChan[RecvChan[T]], out: Chan[T]) -> None:
    with out:
        while True:
            part = select(done, channels)
            if part.index == 0 or not part.ok:
                return
            while True:
                got = select(done, part.value)
                if got.index == 1 and not got.ok:
                    break
                if got.index == 0 or not put(done, out, got.value):
                    return
