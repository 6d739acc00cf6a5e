"""The program of test_audited_soak.py: a mixed load, while a worker is killed now and then. Prints its growth as JSON.

audited.py SECONDS PERIOD SEED      a worker is killed every PERIOD seconds
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import threading
import time

import goproc
from goproc import Group, Mutex, RWMutex, Semaphore, WaitGroup, chan, context, go, select, sleep
from goproc.errors import Cancelled, OwnerDied, WorkerDied
from goproc.shm import _core

LIMIT = 60  # seconds: a hang


def pipeline(n):
    numbers, squares = chan(4), chan()

    def square(numbers, squares):
        for value in numbers:
            squares.send((value, value * value))
        squares.close()

    worker = go(square, numbers, squares)
    for value in range(n):
        if select((numbers.send, value), worker, timeout=LIMIT).index == 1:
            return worker.result()
        found = select(squares, worker, timeout=LIMIT)
        if found.index == 1:
            return worker.result()
        assert found.value == (value, value * value)
    numbers.close()
    return worker.result(LIMIT)


def large(n):
    ch = chan(2)
    for number in range(n):
        ch.send((number, bytes(100_000), chan(1)))
        assert ch.recv()[0] == number


def locked(mutex, rw, semaphore, n):
    for _ in range(n):
        for lock in (mutex, rw):
            try:
                lock.lock(timeout=LIMIT)
            except OwnerDied:
                pass
            lock.unlock()
        semaphore.acquire(timeout=LIMIT)
        semaphore.release()


def members(n):
    with Group(limit=4) as group:
        for number in range(n):
            group.go(pow, number, 2)


def contexts(n):
    for _ in range(n):
        ctx, cancel = context.with_timeout(context.background(), 60)
        waiter = go(lambda ctx: ctx.done().recv_ok(timeout=LIMIT), ctx)
        cancel()
        waiter.result(LIMIT)


def failing(n):
    for number in range(n):
        assert isinstance(go(int, "x" * number).exception(LIMIT), ValueError | WorkerDied)


def counted(n):
    group = WaitGroup()
    kept = [group.go(abs, -1) for _ in range(n)]
    group.wait(timeout=LIMIT)
    del kept


def kill_one(period, dice, over):
    while not over.wait(period):
        goproc.kill(dice.choice(goproc.workers()))


def figures():
    """The memory, descriptors and threads of the host, and what is left in shared memory when all is over."""
    for _ in range(4):
        gc.collect()
        for p in goproc.workers():
            go.on(p)(gc.collect).exception()
        _core.collect()
        sleep(0.05)  # nothing to wait on: what is let go of comes back by then
    census = _core.census()
    with open("/proc/self/status") as status:
        rss = next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))
    return {
        "rss": rss,
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        **{name: census[name] for name in ("blocks", "objects", "committed", "missed_wakeups", "queued")},
    }


def rounds_until(end, kinds, dice, seen):
    while time.monotonic() < end:
        handles = [go(*dice.choice(kinds)) for _ in range(8)]
        for g in handles:
            error = g.exception(LIMIT)
            if isinstance(error, BaseExceptionGroup):
                error = error.split((WorkerDied, Cancelled))[1]
            if error is not None and not isinstance(error, WorkerDied):
                seen["other"].append(repr(error))
        seen["rounds"] += 1


def main():
    seconds, period, seed = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    dice = random.Random(seed)
    mutex, rw, semaphore = Mutex(), RWMutex(), Semaphore(2)
    kinds = [
        (pipeline, 30),
        (large, 5),
        (locked, mutex, rw, semaphore, 20),
        (members, 10),
        (contexts, 5),
        (failing, 5),
        (counted, 20),
    ]
    seen = {"rounds": 0, "other": []}
    segment = next(fd for fd in os.listdir("/proc/self/fd") if is_segment(fd))
    print(f"segment {segment}", flush=True)
    over = threading.Event()
    killer = threading.Thread(target=kill_one, args=(period, random.Random(seed), over))
    killer.start()
    begun = time.monotonic()
    try:
        rounds_until(begun + seconds / 3, kinds, dice, seen)
        seen["first"] = figures()
        rounds_until(begun + seconds, kinds, dice, seen)
    finally:
        over.set()
        killer.join()
    rounds_until(time.monotonic() + 0.1, kinds, dice, seen)
    seen["last"], seen["deaths"] = figures(), _core.deaths()
    print(json.dumps(seen), flush=True)


def is_segment(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:goproc (")
    except OSError:
        return False


main()
