"""The program of test_kills.py: every kind of work at once, while workers are killed. Prints what it saw as JSON.

    kills.py POLICY DEATHS SEED      POLICY: restart, continue

Nothing here may hang: each operation has a time limit that is never reached unless something is lost. What the living tell
each other is counted, so that a value that is lost or comes twice is seen.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections import Counter
from contextlib import suppress

from peek import repairs

import goproc
from goproc import Group, Mutex, RWMutex, Semaphore, WaitGroup, chan, go, select, sleep
from goproc.errors import Cancelled, ChanClosed, OwnerDied, WorkerDied
from goproc.shm import _core

LIMIT = 60  # seconds: a hang
BLOCKS, OBJECTS = 1, 2  # that a runtime has of its own


def echo(a, b):
    for x in a:
        b.send(x)


def ping(opened, n):
    """Rendezvous with a partner, through a select with its handle."""
    a, b = chan(), chan()
    opened.send((a, b), timeout=LIMIT)
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


class Killer:
    """Kills one worker, two at once, or a second one in the midst of the repair after the first."""

    CROWD = 300  # waiting goroutines that make a repair take a millisecond

    def __init__(self, dice, replaced):
        self.dice = dice
        self.killed = {"alone": 0, "together": 0, "in_repair": 0}
        self.replaced = replaced
        self.dead = set()

    def living(self):
        return [p for p in goproc.workers() if p not in self.dead]

    def choose(self, count):
        chosen = self.dice.sample(self.living(), count)
        if not self.replaced:
            self.dead.update(chosen)
        return chosen

    def kill(self):
        how = self.dice.choice(["alone", "together", "in_repair"]) if len(self.living()) > 2 else "alone"
        if how == "in_repair":
            how = self.kill_in_repair(*self.choose(2))
        else:
            for p in self.choose(1 if how == "alone" else 2):
                goproc.kill(p)
        self.killed[how] += 1

    def kill_in_repair(self, first, second):
        """Kill the second worker while the coroner repairs what the first has left. Return "together" if that was missed."""
        gate = chan()
        crowd = [go.on(first)(gate.recv_ok) for _ in range(self.CROWD)]
        sleep(0.02)  # nothing to wait on: any number of them will do, and the worker may be computing
        before = repairs()
        goproc.kill(first)
        end = time.monotonic() + 0.05
        while repairs() == before and time.monotonic() < end:
            pass
        goproc.kill(second)
        met = before % 2 == 0 and repairs() == before + 1
        gate.close()
        for g in crowd:
            assert isinstance(g.exception(LIMIT), WorkerDied | None)
        return "in_repair" if met else "together"


def use(kinds, dice, killer, wanted, seen):
    """Run goroutines of all kinds and kill workers, until so many have died."""
    while _core.deaths() < wanted and len(killer.living()) > 1:
        handles = [go(*dice.choice(kinds)) for _ in range(dice.randrange(1, 8))]
        sleep(dice.random() * 0.006)
        killer.kill()
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


def take_all(m, s, rw):
    """Take each lock: what the dead held is free."""
    for take in (m.lock, s.acquire, s.acquire, s.acquire, rw.lock):
        try:
            take(timeout=LIMIT)
        except OwnerDied:
            pass
    m.unlock()
    rw.unlock()


def close_all(opened):
    """Close the channels on which a goroutine may still wait for a partner that is lost."""
    while len(opened):
        for ch in opened.recv():
            with suppress(ChanClosed):
                ch.close()


def census(workers):
    """Count what is left in shared memory, once what is released at a collection has had its time."""
    for _ in range(30):
        gc.collect()
        for p in workers:
            go.opts(retries=9).on(p)(gc.collect).join()
        _core.collect()
        left = _core.census()
        if left["blocks"] <= BLOCKS and left["objects"] <= OBJECTS:
            break
        sleep(0.02)
    return left


def one(dice, killer, wanted, seen):
    """Use a runtime until so many workers have died or one is left, look whether all is well, and return who was killed how."""
    m, s, rw = Mutex(), Semaphore(3), RWMutex()
    ledger, opened = Ledger(), chan(1 << 16)
    kinds = [
        (ping, opened, 20),
        (locked, m, s, rw, 20),
        (grouped, 5),
        (counted, 5),
        (big, 5),
        (bystander, ledger.ch, 20),
    ]
    use(kinds, dice, killer, wanted, seen)
    ledger.over = True
    ledger.writer.result(LIMIT)
    ledger.reader.result(LIMIT)
    for p in killer.living():
        assert go.opts(retries=9).on(p)(ping, opened, 5).result(LIMIT) == 5  # the last kill may just come
    take_all(m, s, rw)
    close_all(opened)
    seen["sent"] += ledger.sent
    seen["received"] += ledger.received
    seen["wrong"] += ledger.wrong
    seen["deaths"] += _core.deaths()
    del ledger, m, s, rw, kinds, opened
    seen["census"].append(census(killer.living()))
    return killer.killed


def main():
    policy, deaths, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dice = random.Random(seed)
    killed = Counter()
    seen = {"ok": 0, "died": 0, "other": [], "sent": 0, "received": 0, "wrong": 0, "deaths": 0, "census": []}
    if policy == "restart":
        with goproc.runtime(procs=3):
            killed.update(one(dice, Killer(dice, True), deaths, seen))
    while policy == "continue" and seen["deaths"] < deaths:
        with goproc.runtime(procs=8, on_death="continue"):
            killed.update(one(dice, Killer(dice, False), 8, seen))
    print(json.dumps(seen | killed))


main()
