"""Lines for the type checkers. A line with an error that they have to find ends in `# error`."""

from __future__ import annotations

from typing import Any, assert_type

from goproc import Chan, RecvChan, SendChan, chan, context, nil, patterns, select


def consume(jobs: RecvChan[int]) -> int:
    jobs.send(1)  # error
    jobs.close()  # error
    total = jobs.recv()
    for job in jobs:
        assert_type(job, int)
        total += job
    value, ok = jobs.recv_ok()
    assert_type(value, int | None)
    assert_type(jobs.recv_many(3), list[int])
    return total + len(jobs) + jobs.cap + ok


def produce(jobs: SendChan[int]) -> None:
    with jobs:
        jobs.send(1)
        jobs.send("one")  # error
        jobs.send_many([1, 2])
        jobs.recv()  # error
        for _ in jobs:  # error
            pass


def both(jobs: Chan[int]) -> None:
    jobs.send(jobs.recv())
    jobs.send("one")  # error
    assert_type(jobs.tx, SendChan[int])
    assert_type(jobs.rx, RecvChan[int])


def whatever(values: RecvChan[object]) -> None:
    values.recv()


numbers = chan[int](4)
assert_type(numbers, Chan[int])
consume(numbers)
consume(numbers.rx)
consume(numbers.tx)  # error
produce(numbers)
produce(numbers.tx)
produce(numbers.rx)  # error
both(numbers)
both(numbers.rx)  # error
whatever(numbers)
whatever(numbers.rx)

truths: SendChan[bool] = numbers.tx  # who takes an int takes a bool
texts: SendChan[str] = numbers.tx  # error
anything: Chan[Any] = chan()
consume(anything)
consume(nil)

chosen = select(numbers.recv, (numbers.send, 1), numbers.rx, timeout=1.0)
index: int = chosen.index
consume(patterns.generate(None, [1, 2]))
consume(patterns.generate(None, ["a"]))  # error
ended: RecvChan[None] = context.background().done()
