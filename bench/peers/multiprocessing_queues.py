"""multiprocessing's SimpleQueue, Queue and Pipe: values from the main process to another, and round trips."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from time import perf_counter
from typing import Any

from bench import payload

_context = multiprocessing.get_context("fork")


def _consumer(get: Callable[[], Any], kind: str, counts: list[int], acknowledge: Any) -> None:
    for count in counts:
        acknowledge.send(payload.consume(kind, payload.calls(get, count)))


def _transfer(put: Callable[[Any], None], get: Callable[[], Any], kind: str, count: int) -> dict[str, Any]:
    """Sends a tenth of `count` values as a warm-up, then `count`; the consumer confirms each batch."""
    here, there = _context.Pipe()
    counts = [count // 10 + 1, count]
    process = _context.Process(target=_consumer, args=(get, kind, counts, there), daemon=True)
    process.start()
    elapsed = 0.0
    for number in counts:
        values = payload.values(kind, number)
        start = perf_counter()
        for value in values:
            put(value)
        result = here.recv()
        elapsed = perf_counter() - start
        payload.check(kind, number, result)
    process.join()
    return {"value": elapsed / count}


def simple_queue(kind: str, count: int) -> dict[str, Any]:
    """SimpleQueue: a pipe with a lock on either end."""
    queue = _context.SimpleQueue()
    return _transfer(queue.put, queue.get, kind, count)


def queue(kind: str, count: int, cap: int) -> dict[str, Any]:
    """Queue of a capacity: a pipe, a semaphore and a feeder thread."""
    q: Any = _context.Queue(cap)
    return _transfer(q.put, q.get, kind, count)


def pipe(kind: str, count: int) -> dict[str, Any]:
    """One-way Pipe, without locks."""
    reader, writer = _context.Pipe(duplex=False)
    return _transfer(writer.send, reader.recv, kind, count)


def _echo(get: Callable[[], Any], put: Callable[[Any], None], count: int) -> None:
    for _ in range(count):
        put(get())


def _pingpong(
    put: Callable[[Any], None],
    get: Callable[[], Any],
    far_get: Callable[[], Any],
    far_put: Callable[[Any], None],
    count: int,
) -> dict[str, Any]:
    counts = (count // 10 + 1, count)
    process = _context.Process(target=_echo, args=(far_get, far_put, sum(counts)), daemon=True)
    process.start()
    elapsed = 0.0
    for number in counts:
        start = perf_counter()
        for i in range(number):
            put(i)
            if get() != i:
                raise AssertionError("wrong echo")
        elapsed = perf_counter() - start
    process.join()
    return {"value": elapsed / count}


def simple_queue_roundtrip(count: int) -> dict[str, Any]:
    """Ping-pong over two SimpleQueues."""
    there, back = _context.SimpleQueue(), _context.SimpleQueue()
    return _pingpong(there.put, back.get, there.get, back.put, count)


def pipe_roundtrip(count: int) -> dict[str, Any]:
    """Ping-pong over a duplex Pipe."""
    near, far = _context.Pipe()
    return _pingpong(near.send, near.recv, far.recv, far.send, count)
