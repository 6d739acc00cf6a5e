"""goproc: what a select costs beside a plain receive, and how that grows with the number of cases."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, repeat
from random import Random
from time import perf_counter
from typing import Any

import goproc
from bench.placement import workers_for
from goproc import Chan, Selector, chan, go, select

#: Values put into the channels before each timed batch of receives.
_BATCH = 1000

# ---- ready: everything that is received is there


def _call(receive: Callable[[], Any], a: Chan[int], b: Chan[int]) -> None:
    for _ in range(_BATCH):
        receive()


def _call_select(receive: Callable[..., Any], a: Chan[int], b: Chan[int]) -> None:
    for _ in range(_BATCH):
        receive(a, b)


def _time_ready(
    loop: Callable[..., None], make: Callable[[Chan[int], Chan[int]], Callable[..., Any]], count: int
) -> dict[str, Any]:
    """Seconds a receive; with as many values in both channels as a batch takes, both are ready to its end."""
    batches = count // _BATCH + 1
    with goproc.runtime(procs=0):
        a: Chan[int] = chan(_BATCH)
        b: Chan[int] = chan(_BATCH)
        receive = make(a, b)
        elapsed = 0.0
        for number in (batches // 10 + 1, batches):
            elapsed = 0.0
            for _ in range(number):
                for ch in (a, b):
                    ch.send_many([0] * (_BATCH - len(ch)))
                start = perf_counter()
                loop(receive, a, b)
                elapsed += perf_counter() - start
    return {"value": elapsed / (batches * _BATCH)}


def ready_recv(count: int) -> dict[str, Any]:
    """``a.recv()``."""
    return _time_ready(_call, lambda a, b: a.recv, count)


def ready_select(count: int) -> dict[str, Any]:
    """``select(a, b)``."""
    return _time_ready(_call_select, lambda a, b: select, count)


def ready_selector(count: int) -> dict[str, Any]:
    """``Selector(a, b).select()``, the Selector made once."""
    return _time_ready(_call, lambda a, b: Selector(a, b).select, count)


# ---- blocking: a token goes to and fro between two goroutines, and whoever waits for it blocks


def _recv_of(channels: list[Chan[int]]) -> Callable[[], Any]:
    return channels[0].recv


def _select_of(channels: list[Chan[int]]) -> Callable[[], Any]:
    a, b = channels
    return lambda: select(a, b)


def _selector_of(channels: list[Chan[int]]) -> Callable[[], Any]:
    return Selector(*channels).select


_RECEIVES = {"recv": _recv_of, "select": _select_of, "Selector": _selector_of}


def _side(form: str, mine: list[Chan[int]], others: list[Chan[int]], count: int, first: bool) -> float:
    """Receives the token `count` times and sends it back, in turn over one and the other channel if both are used."""
    receive = _RECEIVES[form](mine)
    sends = [ch.send for ch in others]
    following = repeat(sends[0]) if form == "recv" else cycle(sends)
    if first:
        sends[0](0)
    start = perf_counter()
    for _, send in zip(range(count), following, strict=False):
        receive()
        send(0)
    return perf_counter() - start


def blocking(form: str, count: int, procs: int) -> dict[str, Any]:
    """Seconds a round trip over channels with room for one value: two receives that block, and two sends.

    Args:
        form: how both sides receive: ``recv`` from one channel, ``select`` or ``Selector`` over two.
        count: round trips.
        procs: 1 for two goroutines of one process, 2 for two processes.
    """
    with goproc.runtime(procs=workers_for(procs)):
        elapsed = 0.0
        for number in (count // 10 + 1, count):
            here: list[Chan[int]] = [chan(1), chan(1)]
            there: list[Chan[int]] = [chan(1), chan(1)]
            echo = go.on(procs - 1)(_side, form, there, here, number, False)
            elapsed = _side(form, here, there, number, True)
            echo.join()
    return {"value": elapsed / count}


# ---- many cases


def many_ready(cases: int, count: int) -> dict[str, Any]:
    """A value sent to one of `cases` channels and received by a Selector over all: seconds for both."""
    with goproc.runtime(procs=0):
        channels: list[Chan[int]] = [chan(1) for _ in range(cases)]
        receive = Selector(*channels).select
        random = Random(1)
        elapsed = 0.0
        for number in (count // 10 + 1, count):
            chosen = [random.randrange(cases) for _ in range(number)]
            start = perf_counter()
            for k in chosen:
                channels[k].send(k)
                if receive().index != k:
                    raise AssertionError("the wrong case")
            elapsed = perf_counter() - start
    return _per_select(elapsed / count, cases)


def _answer(channels: list[Chan[int]], request: Chan[int]) -> None:
    sends = [ch.send for ch in channels]
    for k in request:
        sends[k](k)


def many_blocking(cases: int, count: int) -> dict[str, Any]:
    """A Selector over `cases` channels blocks, and another goroutine of the process sends to one of them."""
    with goproc.runtime(procs=0):
        channels: list[Chan[int]] = [chan() for _ in range(cases)]
        request: Chan[int] = chan(1)
        go.local(_answer, channels, request)
        receive = Selector(*channels).select
        random = Random(1)
        elapsed = 0.0
        for number in (count // 10 + 1, count):
            chosen = [random.randrange(cases) for _ in range(number)]
            start = perf_counter()
            for k in chosen:
                request.send(k)
                if receive().index != k:
                    raise AssertionError("the wrong case")
            elapsed = perf_counter() - start
        request.close()
    return _per_select(elapsed / count, cases)


def _per_select(value: float, cases: int) -> dict[str, Any]:
    return {"value": value, "note": f"{value / cases * 1e9:.0f} ns a case"}
