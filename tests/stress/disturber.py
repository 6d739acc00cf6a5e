"""Disturbs processes: stops and continues them, or sends them signals, until its standard input is closed.

    disturber.py KIND SEED PID ...

stop: some of them, for up to 0.4 s. stop one: for up to 0.01 s, every 0.01 to 0.04 s. signals: to all of them. It writes "ready"
once it can begin, and at its end how often it has disturbed them, which is once or more.

It is none of the processes that it disturbs, and no thread of one: a process that waits for the lock of a stopped one keeps its
GIL, and so none of its threads could continue the other.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable

STORM = (signal.SIGWINCH, signal.SIGALRM, signal.SIGUSR1)


class Disturber:
    """The process, as the program starts and ends it."""

    def __init__(self, kind: str, seed: int, pids: Iterable[int]) -> None:
        words = [sys.executable, __file__, kind, str(seed), *map(str, pids)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def end(self) -> int:
        """End it; return how often it has disturbed."""
        return int(self._process.communicate()[0])


def over_within(seconds: float) -> bool:
    """Return True if the standard input is closed within some seconds."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def send(pidfds: Iterable[int], number: int) -> None:
    for fd in pidfds:
        signal.pidfd_send_signal(fd, number)


def stop(dice: random.Random, pidfds: list[int]) -> None:
    some = dice.sample(pidfds, dice.randint(1, len(pidfds)))
    send(some, signal.SIGSTOP)
    over_within(dice.choice((0.001, 0.01, 0.15, 0.4)) * dice.random())
    send(some, signal.SIGCONT)
    over_within(0.02 * dice.random())


def stop_one(dice: random.Random, pidfds: list[int]) -> None:
    over_within(0.01 + 0.03 * dice.random())
    one = [dice.choice(pidfds)]
    send(one, signal.SIGSTOP)
    over_within(0.01 * dice.random())
    send(one, signal.SIGCONT)


def signals(dice: random.Random, pidfds: list[int]) -> None:
    send(pidfds, dice.choice(STORM))


KINDS: dict[str, Callable[[random.Random, list[int]], None]] = {
    "stop": stop,
    "stop one": stop_one,
    "signals": signals,
}


def main() -> None:
    dice = random.Random(int(sys.argv[2]))
    pidfds = [os.pidfd_open(int(pid)) for pid in sys.argv[3:]]
    print("ready", flush=True)
    count = 0
    while not count or not over_within(0.002 * dice.random()):
        KINDS[sys.argv[1]](dice, pidfds)
        count += 1
    print(count)


if __name__ == "__main__":
    main()
