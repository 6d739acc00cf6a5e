"""Types of the names that a star import gives. Lines that end with `# error` are wrong; all others are right."""

# ruff: noqa: F403, F405, B018

from __future__ import annotations

from collections.abc import Iterator

from goproc import *


def double(x: int) -> int:
    return 2 * x


g: Goroutine[int] = go(double, 2)
ch: Chan[int] = chan[int](3)
n: int = g.result()
doubled: Iterator[int] = pmap(double, [1, 2])
ctx, cancel = context.with_timeout(context.background(), 5)
lock = sync.Mutex()
go(double, "2")  # error
ch.send("2")  # error
not_a_name  # error
try:
    select(ch, (ch.send, 1), default, timeout=1)
except (ChanClosed, errors.WorkerDied):
    sleep(1)
