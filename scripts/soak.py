"""Run a mix of all features for long, and say what has grown.

    python scripts/soak.py --minutes 60 [--procs 2] [--every 5] [--only NAME ...]

Rounds of every load run one after the other, on the host and on the workers. Every few seconds a line says how much the
segment and each process take. At the end comes, for each figure, the mean of its first and its last quarter; the time in
which caches fill, two minutes or a third of the whole, counts for neither. The status is 1 if a figure has grown by more than noise.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import goproc
from goproc import Group, after_func, chan, context, go, select, sleep, sync
from goproc._goroutine import pid_of

WARM_UP = 120.0  # seconds, but at most a third of the time
ROUNDS_THAT_FILL = 30  # of `definitions`
NOISE = 1.05  # the last quarter divided by the first
SLACK = {"segment": 1 << 20, "rss": 2 << 20, "fds": 0.5, "threads": 0.5}  # and that much more

LOADS: dict[str, Callable[[], None]] = {}


def load(body: Callable[[], None]) -> Callable[[], None]:
    """Register one round of a load."""
    LOADS[body.__name__] = body
    return body


# -- loads -----------------------------------------------------------------------------------------------------------


@load
def messages() -> None:
    values: list[Any] = [1, 2.5, "text", b"bytes" * 20, ("a", [1, {"b": 2}]), {3, 4}, bytes(40_000)]
    ch = chan(16)
    reader = go(lambda ch: sum(1 for _ in ch), ch)
    for _ in range(50):
        for value in values:
            ch.send(value)
    ch.close()
    assert reader.result() == 50 * len(values)


@load
def many_blocked() -> None:
    ch: Any = chan()
    waiting = [go.local(ch.recv_ok) for _ in range(2_000)]
    sleep(0)
    ch.close()
    for goroutine in waiting:
        goroutine.join()


@load
def many_tasks() -> None:
    group = sync.WaitGroup()
    for _ in range(2_000):
        group.go(abs, -1)
    group.wait()


@load
def timeouts() -> None:
    ch: Any = chan()
    for _ in range(50):
        for block in (ch.recv, functools.partial(ch.send, 1)):
            try:
                block(timeout=0.0001)
            except TimeoutError:
                pass
        try:
            ch.recv_ok(timeout=0.0001)
        except TimeoutError:
            pass


@load
def selects() -> None:
    channels: list[Any] = [chan(1) for _ in range(20)]
    done: Any = chan()

    def serve(channels: list[Any], done: Any) -> None:
        for number in range(200):
            channels[number % len(channels)].send(number)
        done.close()

    go(serve, channels, done)
    while select(*channels, done).ok:
        pass


@load
def failures() -> None:
    def fail(depth: int) -> None:
        if depth:
            try:
                fail(depth - 1)
            except ValueError as error:
                raise KeyError(depth) from error
        raise ValueError("at the bottom")

    for goroutine in [go(fail, 3) for _ in range(20)] + [go.local(fail, 3) for _ in range(20)]:
        assert goroutine.exception() is not None


@load
def cancelled() -> None:
    waiting = [go(sleep, 60) for _ in range(20)]
    for goroutine in waiting:
        goroutine.cancel()
    for goroutine in waiting:
        assert goroutine.exception() is not None


@load
def groups() -> None:
    with Group(limit=8) as group:
        for number in range(50):
            group.go(pow, number, 2)


@load
def contexts() -> None:
    for _ in range(50):
        ctx, cancel = context.with_timeout(context.background(), 60)
        below, _ = context.with_cancel(context.with_value(ctx, "key", "value"))
        waiter = go(lambda below: below.done().recv_ok(), below)
        cancel()
        waiter.join()


@load
def timers() -> None:
    fired: Any = chan(50)
    for _ in range(50):
        after_func(0.0001, fired.try_send, 1)
    stopped = [after_func(60, print) for _ in range(50)]
    ticker = goproc.Ticker(0.0002)
    ticker.c.recv()
    ticker.stop()
    for timer in stopped:
        timer.stop()
    for _ in range(50):
        fired.recv()


@load
def locks() -> None:
    mutex, cond_mutex, barrier = sync.Mutex(), sync.Mutex(), sync.Barrier(4)
    cond, count, semaphore = sync.Cond(cond_mutex), sync.Atomic(0), sync.Semaphore(2)

    def work(mutex: Any, cond: Any, barrier: Any, count: Any, semaphore: Any) -> None:
        for _ in range(20):
            with mutex:
                count.add(1)
            with semaphore:
                pass
        barrier.wait()
        with cond_mutex:
            cond.broadcast()

    for goroutine in [go(work, mutex, cond, barrier, count, semaphore) for _ in range(4)]:
        goroutine.result()
    assert count.load() == 80


_made = 0


@load
def definitions() -> None:
    """Functions, classes, variables and places of code that is made at run time and forgotten."""
    global _made
    for _ in range(20):
        _made += 1
        text = f"""
def function_{_made}(x): return helper_{_made}(x) + {_made}
def helper_{_made}(x): return x
@lru_cache(8)
def cached_{_made}(x): return x
def calls_{_made}(x): return cached_{_made}(x)
class Class_{_made}:
    number = {_made}
    def method(self): return self.number
def start(): return [go(f, 1) for f in (function_{_made}, calls_{_made}, lambda x: x + {_made})]
"""
        namespace: dict[str, Any] = {"__name__": "__main__", "lru_cache": functools.lru_cache, "go": go}
        exec(compile(text, f"<made {_made}>", "exec"), namespace)
        for goroutine in namespace["start"]():
            goroutine.result()
        thing = namespace[f"Class_{_made}"]()
        assert go(lambda thing: thing.method(), thing).result() == _made
        variable = ContextVar(f"variable_{_made}", default=_made)
        assert go(lambda variable: variable.get(), variable).result() == _made


@load
def names_and_labels() -> None:
    global _made
    for _ in range(20):
        _made += 1
        go.opts(name=f"name {_made}", labels={f"label {_made}": _made})(abs, -1).result()


@load
def arrays() -> None:
    try:
        import numpy
    except ImportError:
        return
    ch: Any = chan(2)
    reader = go(lambda ch: sum(float(array[0]) for array in ch), ch)
    for number in range(20):
        ch.send(numpy.full(50_000, number, dtype=float))
    ch.close()
    assert reader.result() == sum(range(20))
    table = numpy.zeros(200_000)
    for goroutine in [go(lambda: float(table[7])) for _ in range(4)]:
        goroutine.result()


@load
def handles() -> None:
    """Goroutines that return handles of goroutines, and channels in channels."""

    def nested(depth: int) -> Any:
        return go(nested, depth - 1) if depth else chan(1)

    found: Any = go(nested, 5)
    for _ in range(6):
        found = found.result()
    outer: Any = chan(1)
    outer.send(found)
    assert outer.recv() == found


@load
def output() -> None:
    go(lambda: print(end="")).result()


def fill_caches() -> None:
    """Fill what is bounded by a number of definitions of each process: else that counts as growth for half an hour."""
    for _ in range(ROUNDS_THAT_FILL):
        LOADS["definitions"]()
        for filled in [go.on(proc)(LOADS["definitions"]) for proc in goproc.workers()]:
            filled.result()


# -- figures ---------------------------------------------------------------------------------------------------------


@dataclass
class Sample:
    """The memory, descriptors and threads of the program at one moment, by names such as "rss of worker 1"."""

    at: float
    figures: dict[str, float]


def processes() -> Iterator[tuple[str, int]]:
    yield "host", os.getpid()
    for worker in range(1, goproc.procs() + 1):
        yield f"worker {worker}", pid_of(worker)


def measure(start: float) -> Sample:
    gc.collect()
    figures: dict[str, float] = {}
    segment = 0
    for name, pid in processes():
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        figures[f"rss of {name}"] = int(fields["RssAnon"].split()[0]) << 10
        figures[f"threads of {name}"] = int(fields["Threads"])
        figures[f"fds of {name}"] = len(os.listdir(f"/proc/{pid}/fd"))
        segment += mapped(pid)
    figures["segment"] = segment
    return Sample(time.monotonic() - start, figures)


def mapped(pid: int) -> int:
    """Return what a process has of the segment: pages that several have are divided among them."""
    total, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first = line.split(None, 1)[0]
        if "-" in first:
            inside = "memfd:goproc" in line
        elif inside and first == "Pss:":
            total += int(line.split()[1]) << 10
    return total


def show(sample: Sample) -> None:
    parts = [f"{sample.at:7.0f} s", f"segment {sample.figures['segment'] / 1e6:.1f} MB"]
    for name, _ in processes():
        figures = sample.figures
        parts.append(
            f"{name}: {figures[f'rss of {name}'] / 1e6:.1f} MB {figures[f'fds of {name}']:.0f} fds "
            f"{figures[f'threads of {name}']:.0f} threads"
        )
    print("   ".join(parts), flush=True)


def grown(samples: list[Sample]) -> list[str]:
    """Print the slope of each figure; return the names of those that have grown by more than noise."""
    begin = min(WARM_UP, samples[-1].at / 3)
    samples = [sample for sample in samples if sample.at >= begin]
    quarter = max(1, len(samples) // 4)
    hours = (samples[-1].at - samples[0].at) * 0.75 / 3600
    found = []
    print(f"{'':24} {'first quarter':>14} {'last quarter':>14} {'an hour':>14}")
    for name in sorted(samples[0].figures):
        first = mean(sample.figures[name] for sample in samples[:quarter])
        last = mean(sample.figures[name] for sample in samples[-quarter:])
        slope = (last - first) / hours if hours else 0.0
        scale, unit = (1e6, "MB") if first > 1e5 else (1, "")
        mark = ""
        if last > first * NOISE + SLACK[name.partition(" ")[0]]:
            mark = "   GROWS"
            found.append(name)
        cells = " ".join(f"{value / scale:11.2f} {unit:2}" for value in (first, last, slope))
        print(f"{name:24} {cells}{mark}")
    return found


def run(minutes: float, every: float, loads: list[str]) -> int:
    if "definitions" in loads:
        fill_caches()
    start = time.monotonic()
    end, due = start + 60 * minutes, start
    samples: list[Sample] = []
    rounds = 0
    while time.monotonic() < end or len(samples) < 8:
        for name in loads:
            LOADS[name]()
            go(LOADS[name]).result()
        rounds += 1
        if time.monotonic() >= due:
            due = time.monotonic() + every
            samples.append(measure(start))
            show(samples[-1])
    print(f"{rounds} rounds of {len(loads)} loads in {(time.monotonic() - start) / 60:.1f} minutes")
    return 1 if grown(samples) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=5, help="seconds between two lines")
    parser.add_argument("--procs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=sorted(LOADS), help="loads to run")
    options = parser.parse_args()
    with goproc.runtime(procs=options.procs):
        return run(options.minutes, options.every, options.only or list(LOADS))


if __name__ == "__main__":
    sys.exit(main())
