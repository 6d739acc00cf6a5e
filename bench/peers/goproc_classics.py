"""goproc: the benchmarks that Go's runtime has for itself, with Go's definition of one operation, and its prime sieve."""

from __future__ import annotations

from itertools import count as integers
from time import perf_counter
from typing import Any

import goproc
from bench.peers.hammer import Span, wall
from bench.placement import workers_for
from goproc import Chan, Selector, after, chan, go, select
from goproc.sync import Atomic, Barrier

#: Operations between two looks at the shared count of what is left to do.
_BATCH = 1000

# ---- the sieve


def _generate(ch: Chan[int]) -> None:
    for i in integers(2):
        ch.send(i)


def _filter(source: Chan[int], target: Chan[int], prime: int) -> None:
    while True:
        i = source.recv()
        if i % prime:
            target.send(i)


def sieve(primes: int) -> dict[str, Any]:
    """Seconds for the first `primes` primes: a goroutine for each, all in one process."""
    with goproc.runtime(procs=0):
        start = perf_counter()
        ch: Chan[int] = chan()
        go.local(_generate, ch)
        prime = 0
        for _ in range(primes):
            prime = ch.recv()
            following: Chan[int] = chan()
            go.local(_filter, ch, following, prime)
            ch = following
        elapsed = perf_counter() - start
    return {"value": elapsed, "note": f"the last is {prime}"}


# ---- ChanSync


def _sync_side(ch: Chan[int], left: Atomic) -> None:
    send, recv = ch.send, ch.recv
    while (batch := left.add(-1)) >= 0:
        if batch % 2:
            for _ in range(_BATCH):
                send(0)
                recv()
        else:
            for _ in range(_BATCH):
                recv()
                send(0)


def chan_sync(count: int, procs: int) -> dict[str, Any]:
    """One unbuffered channel between two goroutines that swap the roles of sender and receiver with every value."""
    batches = count // _BATCH // 2 * 2 + 2
    with goproc.runtime(procs=workers_for(procs)):
        elapsed = 0.0
        for number in (2, batches):
            ch: Chan[int] = chan()
            left = Atomic(number)
            start = perf_counter()
            sides = [go.on(i % procs)(_sync_side, ch, left) for i in range(2)]
            for side in sides:
                side.join()
            elapsed = perf_counter() - start
    return {"value": elapsed / (batches * _BATCH)}


# ---- ChanProdCons, SelectProdCons


def _produce(ch: Chan[int], left: Atomic) -> None:
    send = ch.send
    while left.add(-1) >= 0:
        for _ in range(_BATCH):
            send(1)
    send(0)


def _consume(ch: Chan[int]) -> None:
    recv = ch.recv
    while recv():
        pass


def _select_produce(ch: Chan[int], left: Atomic, never: Chan[None]) -> None:
    clock = after(3600)
    send = Selector((ch.send, 1), clock, never).select
    while left.add(-1) >= 0:
        for _ in range(_BATCH):
            if send().index:
                raise AssertionError("the wrong case")
    ch.send(0)


def _select_consume(ch: Chan[int], never: Chan[None]) -> None:
    clock = after(3600)
    recv = Selector(ch, clock, never).select
    while recv().value:
        pass


def _plain_select_produce(ch: Chan[int], left: Atomic, never: Chan[None]) -> None:
    clock = after(3600)
    send = ch.send
    while left.add(-1) >= 0:
        for _ in range(_BATCH):
            if select((send, 1), clock, never).index:
                raise AssertionError("the wrong case")
    send(0)


def _plain_select_consume(ch: Chan[int], never: Chan[None]) -> None:
    clock = after(3600)
    while select(ch, clock, never).value:
        pass


def _produce_consume(
    produce: Any, consume: Any, count: int, procs: int, cap: int, *more: Any
) -> dict[str, Any]:
    """Two producers in the first process and two consumers in the last: seconds a message."""
    batches = count // _BATCH + 1
    with goproc.runtime(procs=workers_for(procs)):
        elapsed = 0.0
        for number in (batches // 10 + 1, batches):
            ch: Chan[int] = chan(cap)
            left = Atomic(number)
            extra = [make() for make in more]
            start = perf_counter()
            workers = [go.on(procs - 1)(consume, ch, *extra) for _ in range(2)]
            workers += [go.on(0)(produce, ch, left, *extra) for _ in range(2)]
            for worker in workers:
                worker.join()
            elapsed = perf_counter() - start
    return {"value": elapsed / (batches * _BATCH)}


def chan_prod_cons(count: int, procs: int, cap: int) -> dict[str, Any]:
    """Plain sends and receives."""
    return _produce_consume(_produce, _consume, count, procs, cap)


def select_prod_cons(count: int, procs: int) -> dict[str, Any]:
    """Each operation a select, which also looks at a timer of an hour and at a channel that says to stop."""
    return _produce_consume(_plain_select_produce, _plain_select_consume, count, procs, 128, chan)


def selector_prod_cons(count: int, procs: int) -> dict[str, Any]:
    """The same with a Selector made once on each side."""
    return _produce_consume(_select_produce, _select_consume, count, procs, 128, chan)


# ---- SelectUncontended


def _uncontended(together: Barrier, counts: list[int], reused: bool) -> Span:
    a: Chan[int] = chan(1)
    b: Chan[int] = chan(1)
    a.send(0)
    either = Selector(a, b).select
    start = end = 0.0
    for count in counts:
        together.wait()
        start = perf_counter()
        if reused:
            for _ in range(count):
                if either().index:
                    a.send(0)
                else:
                    b.send(0)
        else:
            for _ in range(count):
                if select(a, b).index:
                    a.send(0)
                else:
                    b.send(0)
        end = perf_counter()
    return start, end


def select_uncontended(count: int, procs: int, reused: bool = False) -> dict[str, Any]:
    """A value moves between two channels, by a select over both and a send; each process has a pair of its own."""
    with goproc.runtime(procs=workers_for(procs)):
        together = Barrier(procs)
        counts = [count // 10 + 1, count]
        sides = [go.on(i)(_uncontended, together, counts, reused) for i in range(procs)]
        elapsed = wall([side.result() for side in sides])
    return {"value": elapsed / (procs * count)}


# ---- CreateGoroutines


def _chain(n: int, done: Chan[None]) -> None:
    if n:
        go(_chain, n - 1, done)
    else:
        done.send(None)


def _local_chain(n: int, done: Chan[None]) -> None:
    if n:
        go.local(_local_chain, n - 1, done)
    else:
        done.send(None)


def create_goroutines(count: int, local: bool = False) -> dict[str, Any]:
    """A goroutine starts the next and ends, in one process, by ``go`` or ``go.local``."""
    chain = _local_chain if local else _chain
    with goproc.runtime(procs=0):
        done: Chan[None] = chan(1)
        elapsed = 0.0
        for number in (count // 10 + 1, count):
            start = perf_counter()
            chain(number, done)
            done.recv()
            elapsed = perf_counter() - start
    return {"value": elapsed / count}


# ---- PingPong


def _hog(stop: Chan[None]) -> None:
    poll = stop.try_recv
    while not poll()[1]:
        pass


def _ping(ping: Chan[int], pong: Chan[int], count: int) -> float:
    start = perf_counter()
    for i in range(count):
        ping.send(i)
        pong.recv()
    elapsed = perf_counter() - start
    ping.close()
    return elapsed


def _pong(ping: Chan[int], pong: Chan[int]) -> None:
    for i in ping:
        pong.send(i)


def ping_pong(count: int, procs: int, hog: bool) -> dict[str, Any]:
    """Round trips over two unbuffered channels between the first process and the last.

    Args:
        count: round trips.
        procs: 1 for two goroutines of one process, 2 for two processes.
        hog: let a goroutine that never blocks run beside the one that starts.
    """
    with goproc.runtime(procs=workers_for(procs)):
        stop: Chan[None] = chan()
        if hog:
            go.on(0)(_hog, stop)
        elapsed = 0.0
        for number in (count // 10 + 1, count):
            ping: Chan[int] = chan()
            pong: Chan[int] = chan()
            go.on(procs - 1)(_pong, ping, pong)
            elapsed = go.on(0)(_ping, ping, pong, number).result()
        if hog:
            stop.send(None)
    return {"value": elapsed / count}
