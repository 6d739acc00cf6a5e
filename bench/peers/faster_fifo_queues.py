"""faster-fifo: values from the main process to another, one by one and in batches."""

from __future__ import annotations

import multiprocessing
from time import perf_counter
from typing import Any

import faster_fifo

from bench import payload

_context = multiprocessing.get_context("fork")
_PATIENCE = 60.0


def _consumer(queue: Any, kind: str, counts: list[int], batch: int, acknowledge: Any) -> None:
    for count in counts:
        if batch:
            received = payload.flatten(
                lambda left: queue.get_many(timeout=_PATIENCE, max_messages_to_get=min(left, batch)), count
            )
        else:
            received = payload.calls(queue.get, count)
        acknowledge.send(payload.consume(kind, received))


def transfer(kind: str, count: int, size: int = 1_000_000, batch: int = 0) -> dict[str, Any]:
    """``put`` and ``get``, or ``put_many`` and ``get_many`` with lists of `batch`; `size` is the buffer in bytes."""
    queue = faster_fifo.Queue(max_size_bytes=size)
    here, there = _context.Pipe()
    counts = [count // 10 + 1, count]
    process = _context.Process(target=_consumer, args=(queue, kind, counts, batch, there), daemon=True)
    process.start()
    elapsed = 0.0
    for number in counts:
        values = payload.values(kind, number)
        start = perf_counter()
        if batch:
            for items in payload.batched(values, batch):
                queue.put_many(items, timeout=_PATIENCE)
        else:
            for value in values:
                queue.put(value)
        result = here.recv()
        elapsed = perf_counter() - start
        payload.check(kind, number, result)
    process.join()
    return {"value": elapsed / count}
