"""Two hundred tasks, four of them bad: one hangs in C code, one crashes, one raises, one eats all memory. The others get done.

Run it with: goproc run examples/hardjob.py --procs 4 [--tasks 200] [--timeout 2] [--check]
"""

import argparse
import ctypes
import json
import re
import resource
import sys

from goproc import TaskTimeout, WorkerDied, go, procs

HANGS, CRASHES, RAISES, EATS = 20, 60, 110, 170
MEMORY = 1 << 30


def task(n: int) -> int:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # of this worker, from now on
    if n == HANGS:
        re.match(r"(a|a)+$", "a" * 60 + "b")  # would take until the end of the sun
    elif n == CRASHES:
        ctypes.string_at(0)
    elif n == RAISES:
        json.loads("{")
    elif n == EATS:
        bytearray(2 * MEMORY)
    return sum(range(n * 100))


def main() -> None:
    parser = argparse.ArgumentParser(description="Two hundred tasks, four of them bad.")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds that a task may take")
    parser.add_argument("--check", action="store_true", help="compare with what is to be expected")
    args = parser.parse_args()
    if procs() == 0:
        sys.exit("hardjob.py needs workers: a crash in the script's own process ends the program")

    tasks = [go.opts(timeout=args.timeout, grace=0.2)(task, n) for n in range(args.tasks)]
    failed = {n: error for n, g in enumerate(tasks) if (error := g.exception())}
    total = sum(g.result() for n, g in enumerate(tasks) if n not in failed)

    print(f"{args.tasks - len(failed)} results, their sum is {total}")
    for n, error in failed.items():
        print(f"task {n}: {type(error).__name__}: {error}")
    if args.check:
        reasons = {HANGS: TaskTimeout, CRASHES: WorkerDied, RAISES: json.JSONDecodeError, EATS: MemoryError}
        good = [sum(range(n * 100)) for n in range(args.tasks) if n not in reasons]
        if total != sum(good) or {n: type(error) for n, error in failed.items()} != reasons:
            sys.exit("check: FAILED")
        print("check: ok")


if __name__ == "__main__":
    main()
