"""The program of test_kills.py: every kind of work at once, while workers are killed. Prints what it saw as JSON.

    kills.py KILLS SEED

Nothing here may hang: each operation has a time limit that is never reached unless something is lost. What the living tell
each other is counted, so that a value that is lost or comes twice is seen.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time

import goproc
from goproc import Group, Mutex, RWMutex, Semaphore, WaitGroup, chan, go, select, sleep
from goproc.errors import Cancelled, ChanClosed, OwnerDied, WorkerDied
from goproc.shm import _core

LIMIT = 60  # seconds: a hang


def echo(a, b):
    for x in a:
        b.send(x)


def ping(n):
    """Rendezvous with a partner, through a select with its handle."""
    a, b = chan(), chan()
    g = go(echo, a, b)
    for i in range(n):
        if select((a.send, i), g, timeout=LIMIT).index == 1:
            g.result()
        answer = select(b, g, timeout=LIMIT)
        if answer.index == 1:
            g.result()
        assert answer.value == i, (answer, i)
    a.close()
    g.result(LIMIT)
    return n


def locked(m, s, rw, n):
    """Take and give back locks; who finds the owner dead goes on."""
    done = 0
    for i in range(n):
        try:
            m.lock(timeout=LIMIT)
        except OwnerDied:
            pass
        m.unlock()
        s.acquire(timeout=LIMIT)
        s.release()
        try:
            if i % 4:
                rw.rlock(timeout=LIMIT)
                rw.runlock()
            else:
                rw.lock(timeout=LIMIT)
                rw.unlock()
        except OwnerDied:
            (rw.runlock if i % 4 else rw.unlock)()
        done += 1
    return done


def member(n):
    return sum(range(n))


def grouped(n):
    with Group() as group:
        for _ in range(n):
            group.go(member, 100)
    return n


def counted(n):
    wg = WaitGroup()
    kept = [wg.go(member, 100) for _ in range(n)]
    wg.wait(timeout=LIMIT)
    return len(kept)


def big(n):
    """Large values, and values with channels in them."""
    ch = chan(2)
    for i in range(n):
        ch.send((i, b"x" * 100_000, chan(1)))
        assert ch.recv()[0] == i
    return n


class Ledger:
    """The host sends numbers to another goroutine of the host, through channels that workers also use."""

    def __init__(self):
        self.ch = chan(4)
        self.sent = self.received = self.wrong = 0
        self.reader = go.local(self.read)
        self.writer = go.local(self.write)
        self.over = False

    def write(self):
        while not self.over:
            self.ch.send(("host", self.sent), timeout=LIMIT)
            self.sent += 1
            if self.sent % 16 == 0:
                sleep(0)
        self.ch.send(None)

    def read(self):
        while (got := self.ch.recv(timeout=LIMIT)) is not None:
            who, number = got
            if who == "host":
                self.wrong += number != self.received
                self.received += 1


def bystander(ch, n):
    for _ in range(n):
        ch.send(("worker", 0), timeout=LIMIT)
    return n


def main():
    kills, seed = int(sys.argv[1]), int(sys.argv[2])
    dice = random.Random(seed)
    m, s, rw = Mutex(), Semaphore(3), RWMutex()
    ledger = Ledger()
    seen = {"ok": 0, "died": 0, "other": []}
    kinds = [
        (ping, 20),
        (locked, m, s, rw, 20),
        (grouped, 5),
        (counted, 5),
        (big, 5),
        (bystander, ledger.ch, 20),
    ]
    begun = time.monotonic()
    killed = 0
    while killed < kills:
        handles = [go(*dice.choice(kinds)) for _ in range(dice.randrange(1, 8))]
        for _ in range(dice.choice([1, 1, 1, 2])):
            sleep(dice.random() * 0.006)
            goproc.kill(dice.choice(goproc.workers()))
            killed += 1
        for g in handles:
            try:
                g.result(LIMIT)
                seen["ok"] += 1
            except WorkerDied:
                seen["died"] += 1
            except BaseExceptionGroup as group:
                _, rest = group.split((WorkerDied, Cancelled))
                seen["other"] += [] if rest is None else [repr(rest)]
                seen["died"] += 1
            except Exception as error:
                seen["other"].append(f"{g!r}: {error!r}")
        del handles, g
    ledger.over = True
    ledger.writer.result(LIMIT)
    ledger.reader.result(LIMIT)
    # Everything works after that, on each worker, and what the dead held is free.
    for p in goproc.workers():
        assert go.on(p)(ping, 5).result(LIMIT) == 5
    try:
        m.lock(timeout=LIMIT)
    except OwnerDied:
        pass
    m.unlock()
    for _ in range(3):
        s.acquire(timeout=LIMIT)
    try:
        rw.lock(timeout=LIMIT)
    except OwnerDied:
        pass
    seen |= {
        "sent": ledger.sent,
        "received": ledger.received,
        "wrong": ledger.wrong,
        "deaths": _core.deaths(),
    }
    seen["seconds"] = time.monotonic() - begun
    del ledger, m, s, rw, kinds
    for _ in range(3):
        gc.collect()
        for p in goproc.workers():
            go.on(p)(gc.collect).join()
        _core.collect()
        sleep(0.1)
    seen["census"] = _core.census()
    print(json.dumps(seen))


try:
    main()
except ChanClosed:
    raise
