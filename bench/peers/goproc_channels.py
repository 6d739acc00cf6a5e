"""goproc: values over channels from the main process to another, and round trips."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import goproc
from bench import payload
from bench.placement import workers_for
from goproc import Chan, chan, go


def _receive(kind: str, ch: Chan[Any], ready: Chan[Any], done: Chan[Any]) -> None:
    ready.send(None)
    done.send(payload.consume(kind, ch))


def _send(kind: str, count: int, cap: int) -> float:
    """Seconds for `count` values over a new channel to proc 1, until the receiver has them all."""
    ch: Chan[Any] = chan(cap)
    ready: Chan[Any] = chan(1)
    done: Chan[Any] = chan(1)
    go.on(1)(_receive, kind, ch, ready, done)
    ready.recv()
    values = payload.values(kind, count)
    start = perf_counter()
    for value in values:
        ch.send(value)
    ch.close()
    result = done.recv()
    elapsed = perf_counter() - start
    payload.check(kind, count, result)
    return elapsed


def send(kind: str, count: int, cap: int) -> dict[str, Any]:
    """Plain ``send`` in a loop on one side, ``for value in ch`` on the other."""
    with goproc.runtime(procs=2):
        _send(kind, count // 10 + 1, cap)
        return {"value": _send(kind, count, cap) / count}


def _receive_many(kind: str, ch: Chan[Any], count: int, ready: Chan[Any], done: Chan[Any]) -> None:
    ready.send(None)
    done.send(payload.consume(kind, payload.flatten(ch.recv_many, count)))


def _send_many(kind: str, count: int, cap: int) -> float:
    ch: Chan[Any] = chan(cap)
    ready: Chan[Any] = chan(1)
    done: Chan[Any] = chan(1)
    go.on(1)(_receive_many, kind, ch, count, ready, done)
    ready.recv()
    values = payload.values(kind, count)
    start = perf_counter()
    ch.send_many(values)
    result = done.recv()
    elapsed = perf_counter() - start
    payload.check(kind, count, result)
    return elapsed


def send_many(kind: str, count: int, cap: int) -> dict[str, Any]:
    """``send_many`` on one side, ``recv_many`` on the other."""
    with goproc.runtime(procs=2):
        _send_many(kind, count // 10 + 1, cap)
        return {"value": _send_many(kind, count, cap) / count}


def _echo(there: Chan[int], back: Chan[int]) -> None:
    for value in there:
        back.send(value)


def _pingpong(there: Chan[int], back: Chan[int], count: int) -> float:
    start = perf_counter()
    for i in range(count):
        there.send(i)
        if back.recv() != i:
            raise AssertionError("wrong echo")
    return perf_counter() - start


def roundtrip(count: int, procs: int) -> dict[str, Any]:
    """Ping-pong over two unbuffered channels, with the last of `procs` processes; 1: between goroutines of the host."""
    with goproc.runtime(procs=workers_for(procs)):
        there: Chan[int] = chan()
        back: Chan[int] = chan()
        echo = go.on(procs - 1)(_echo, there, back)
        _pingpong(there, back, count // 10 + 1)
        elapsed = _pingpong(there, back, count)
        there.close()
        echo.join()
    return {"value": elapsed / count}


def _from_worker(measure: Callable[..., float], *args: Any) -> float:
    """Return what `measure`, a function of this module, finds in worker 2; its other side is in worker 1."""
    with goproc.runtime(procs=2):
        return go.on(2)(measure, *args).result()


def _both_sends(kind: str, count: int, cap: int) -> float:
    _send(kind, count // 10 + 1, cap)
    return _send(kind, count, cap)


def send_between_workers(kind: str, count: int, cap: int) -> dict[str, Any]:
    """As send(), but from one worker to another."""
    return {"value": _from_worker(_both_sends, kind, count, cap) / count}


def _round_trips(count: int) -> float:
    there: Chan[int] = chan()
    back: Chan[int] = chan()
    echo = go.on(1)(_echo, there, back)
    _pingpong(there, back, count // 10 + 1)
    elapsed = _pingpong(there, back, count)
    there.close()
    echo.join()
    return elapsed


def roundtrip_between_workers(count: int) -> dict[str, Any]:
    """As roundtrip(), but from one worker to another."""
    return {"value": _from_worker(_round_trips, count) / count}
