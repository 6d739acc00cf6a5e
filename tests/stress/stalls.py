"""The program of test_stalls.py: goroutines of all workers talk while the workers are disturbed. Prints what it saw as JSON.

    stalls.py ROUNDS DISTURBANCE SEED      DISTURBANCE: none, stop, signals

Each operation has a time limit that is reached only if a wake-up was lost.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from disturber import STORM, Disturber

import goproc
from goproc import Mutex, WaitGroup, chan, go, select, sleep
from goproc._goroutine import pid_of
from goproc.shm import _core

LIMIT = 60  # seconds


def handle_storm():
    for number in STORM:
        signal.signal(number, lambda *_: None)


def relay(inlet, outlet):
    for value in inlet:
        outlet.send(value, timeout=LIMIT)
    outlet.close()


def ring(rounds, stations):
    """A value goes round through a goroutine on each worker: one process runs at a time, all others sleep."""
    links = [chan() for _ in range(stations + 1)]
    for n in range(stations):
        go.on(1 + n % len(goproc.workers()))(relay, links[n], links[n + 1])
    for n in range(rounds):
        links[0].send(n, timeout=LIMIT)
        assert links[-1].recv(timeout=LIMIT) == n
    links[0].close()
    assert links[-1].recv_ok(timeout=LIMIT) == (None, False)
    return rounds


def produce(out, n):
    for value in range(n):
        out.send(value, timeout=LIMIT)
        if value % 50 == 0:
            sleep(0.001)  # a pause, in which all readers wait


def gather(rounds):
    """Buffered channels, read by a select."""
    sources = [chan(3) for _ in range(4)]
    for source in sources:
        go(produce, source, 10 * rounds)
    following = [0] * len(sources)
    for _ in range(len(sources) * 10 * rounds):
        found = select(*sources, timeout=LIMIT)
        assert found.value == following[found.index]
        following[found.index] += 1
    return rounds


def contend(lock, count, n):
    for _ in range(n):
        lock.lock(timeout=LIMIT)
        count.store(count.load() + 1)
        lock.unlock()


def locks(rounds):
    lock, count, all_done = Mutex(), goproc.Atomic(0), WaitGroup()
    for _ in range(4):
        all_done.go(contend, lock, count, 10 * rounds)
    all_done.wait(timeout=LIMIT)
    assert count.load() == 40 * rounds
    return rounds


def main():
    rounds, kind, seed = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    handle_storm()
    for p in goproc.workers():
        go.on(p)(handle_storm).result(LIMIT)
    pids = [pid_of(p) for p in goproc.workers()] + [os.getpid()] * (kind == "signals")
    disturber = None if kind == "none" else Disturber(kind, seed, pids)
    done = sent = 0
    try:
        stations = min(len(goproc.workers()), 16)
        tasks = [
            go.local(ring, rounds, stations),
            go.local(gather, rounds),
            go(gather, rounds),
            go(locks, rounds),
        ]
        for g in tasks:
            done += g.result(3 * LIMIT)
    finally:
        if disturber is not None:
            sent = disturber.end()
    print(json.dumps({"done": done, "sent": sent, "missed_wakeups": _core.census()["missed_wakeups"]}))


main()
