"""flat_map() with options: an item's values are handed on as they come, and a failed item keeps those handed on before."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from peek import until
from programs import Run

from goproc import Failure, TaskTimeout, chan, flow, go, sleep
from goproc.errors import PickleError
from goproc.sync import Atomic

MANY = 100_000

OPTIONS: dict[str, dict[str, Any]] = {
    "timeout": {"timeout": 60},
    "skip": {"on_error": "skip"},
    "threads": {"threads": 2},
    "two workers": {"workers": 2, "timeout": 60},
    "three workers": {"workers": 3, "timeout": 60},
    "unordered": {"workers": 3, "ordered": False, "on_error": "return"},
    "threads and a limit": {"workers": 2, "threads": 2, "timeout": 60, "on_error": "skip"},
    "key": {"workers": 2, "key": lambda x: x % 2},
    "init": {"init": lambda: None, "exit": lambda state: None},
}

options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@options
def test_an_item_of_very_many_values_does_not_fill_memory(runtime2: Any, options: dict[str, Any]) -> None:
    made = Atomic(0)

    def expand(x: int) -> Any:
        for i in range(MANY):
            made.add(1)
            yield x, i

    calls = options.get("workers", 1) * options.get("threads", 1)
    ordered = options.get("ordered", True)
    with iter(flow(range(6)).flat_map(expand, **options)) as values:
        for n, value in enumerate(values):
            assert made.load() - n <= 64 * 6 * calls + 300
            if ordered:
                assert value == (0, n)
            if n == 1500:
                break
    assert made.load() < MANY


def sizes(x: int) -> int:
    return [0, 1, 3, 700, 64, 65, 0, 1280][x % 8]


def expand_by_size(x: int) -> Any:
    return ((x, i) for i in range(sizes(x)))


@options
def test_all_values_come_in_order(runtime2: Any, options: dict[str, Any]) -> None:
    found = list(flow(range(24)).flat_map(expand_by_size, **options).filter(bool))
    if not options.get("ordered", True):
        found.sort()
    assert found == [(x, i) for x in range(24) for i in range(sizes(x))]


@pytest.mark.parametrize(
    "more", [{}, {"threads": 1}, {"workers": 2}], ids=["goroutine", "thread", "two workers"]
)
def test_a_value_comes_before_the_next_one_is_yielded(runtime2: Any, more: dict[str, Any]) -> None:
    gate = chan()

    def expand(x: int) -> Any:
        for i in range(40):
            yield i
            gate.recv()

    values = iter(flow([1]).flat_map(expand, timeout=60, **more))
    for i in range(40):
        assert next(values) == i
        gate.send(None)
    assert list(values) == []


def fails(x: int) -> Any:
    for i in range(300):
        if x == 2 and i == 200:
            raise LookupError(x)
        yield x, i


def cannot_be_sent(x: int) -> Any:
    for i in range(300):
        yield [threading.Lock()] if x == 2 and i == 200 else (x, i)


class Elsewhere:
    """Can be read by workers, and not by the script."""

    def __reduce__(self) -> Any:
        return read_elsewhere, (os.getpid(),)


def read_elsewhere(home: int) -> Any:
    if os.getpid() != home:
        raise LookupError("not here")
    return Elsewhere()


def cannot_be_read(x: int) -> Any:
    for i in range(300):
        yield Elsewhere() if x == 2 and i == 200 else (x, i)


def hangs(x: int) -> Any:
    for i in range(300):
        if x == 2 and i == 200:
            sleep(60)
        yield x, i


BAD: dict[str, Any] = {
    "raises": (fails, LookupError, {}),
    "raises in a thread": (fails, LookupError, {"threads": 2}),
    "cannot be sent": (cannot_be_sent, PickleError, {}),
    "cannot be sent from a thread": (cannot_be_sent, PickleError, {"threads": 2}),
    "cannot be read": (cannot_be_read, PickleError, {}),
    "hangs": (hangs, TaskTimeout, {"timeout": 2}),
}

bad = pytest.mark.parametrize(("f", "error", "more"), BAD.values(), ids=BAD)


@bad
@pytest.mark.parametrize("workers", [1, 3])
def test_an_item_that_fails_in_the_middle_keeps_its_values(
    runtime2: Any, f: Any, error: Any, more: Any, workers: int
) -> None:
    def expected(x: int) -> list[Any]:
        return [(x, i) for i in range(200 if x == 2 else 300)]

    stages = flow(range(5)).flat_map(f, workers, on_error="return", **more)
    found = list(stages)
    at = next(at for at, value in enumerate(found) if isinstance(value, Failure))
    failed = found.pop(at)
    assert isinstance(failed.error, error) and failed.item == 2 and failed.attempts == 1
    assert at == 800 and found == [value for x in range(5) for value in expected(x)]
    (record,) = stages.stats()
    assert (record.in_, record.out, record.failed) == (5, 1401, 1)


@bad
def test_an_item_that_fails_in_the_middle_is_skipped_from_there(
    runtime2: Any, f: Any, error: Any, more: Any
) -> None:
    letters = chan(1)
    values = list(flow(range(4)).flat_map(f, 2, on_error=letters, **more).filter(bool))
    assert len(values) == 3 * 300 + 200 and isinstance(letters.recv().error, error)
    with pytest.raises(error) as raised:
        flow(range(4)).flat_map(f, 2, timeout=more.get("timeout", 60), threads=more.get("threads")).run()
    assert raised.value.__notes__[-1] == f"in the stage {f.__name__!r} of the flow"


def test_values_before_one_that_cannot_be_sent_leave_room_for_others(runtime2: Any) -> None:
    """They are sent one by one. The other process sends at the same time, and a later stage runs there, too."""

    def parts(x: int) -> Iterator[Any]:
        if x % 2:
            yield from ((x, i) for i in range(63))
            yield threading.Lock()
        else:
            for i in range(200):
                time.sleep(0.0015)  # so slow that a thread of its process sends the values meanwhile
                yield x, i

    for _ in range(2):
        found = list(flow(range(6)).flat_map(parts, 2, on_error="return").map(lambda value: value, 2))
        assert [type(value) for value in found].count(Failure) == 3 and len(found) == 3 * (200 + 63 + 1)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_death_of_a_process_fails_the_items_that_have_handed_on_values(run: Run, workers: int) -> None:
    """They cannot begin again. Those that have handed on nothing do."""
    text = f"""
        import os, signal
        from goproc import Atomic, Failure, WorkerDied, flow, sleep

        taken = Atomic(0)  # values of item 2

        def dies(x):
            for i in range(300):
                if x == 2 and i == 200:
                    while taken.load() < 200:
                        sleep(0.001)
                    os.kill(os.getpid(), signal.SIGKILL)
                yield x, i

        found = []
        for value in flow(range(8)).flat_map(dies, {workers}, on_error="return"):
            found.append(value)
            if not isinstance(value, Failure) and value[0] == 2:
                taken.add(1)
        failures = [value for value in found if isinstance(value, Failure)]
        assert all(isinstance(value.error, WorkerDied) for value in failures), failures
        failed = {{value.item for value in failures}}
        assert 2 in failed and len(failures) == len(failed) <= {2 if workers == 4 else 1}, failures
        values = [value for value in found if not isinstance(value, Failure)]
        assert values == sorted(set(values))  # in order, none twice
        for x in range(8):
            mine = [i for y, i in values if y == x]
            assert mine == list(range(len(mine))), (x, mine)
            assert len(mine) >= 200 if x == 2 else (x in failed or len(mine) == 300), (x, mine)
        print("ok")
    """
    done = run(text, procs=2)
    assert (done.status, done.out) == (0, "ok\n"), done


@pytest.mark.parametrize("more", [{}, {"threads": 1}], ids=["goroutine", "thread"])
def test_the_wait_of_values_for_their_taker_is_no_time_of_the_call(
    runtime2: Any, more: dict[str, Any]
) -> None:
    values = iter(flow([1, 2]).flat_map(lambda x: range(2000), timeout=1.5, **more))
    taken = [next(values)]
    until(lambda: values.stats()[0].busy == 1)
    with pytest.raises(TimeoutError):
        chan().recv(timeout=2.8)  # beyond the limit, and the grace after which the process is killed
    assert [*taken, *values] == [*range(2000), *range(2000)]


def test_values_that_nobody_takes_hold_up_no_other_goroutine(runtime2: Any) -> None:
    """A process whose call waits for the taker of its values is lent."""
    values = iter(flow(range(4)).flat_map(lambda x: range(MANY), 2, timeout=60))
    assert next(values) == 0
    assert [go(abs, -x).result(timeout=20) for x in range(8)] == list(range(8))
    second = flow(range(50)).flat_map(lambda x: [x] * 3, 2, timeout=60)
    assert sum(second) == 3 * sum(range(50))
    values.close()


def busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@pytest.mark.parametrize("proc", [1, 2])
def test_an_item_that_a_busy_process_has_not_begun_ends_behind_later_ones(runtime2: Any, proc: int) -> None:
    """The process that is not busy runs the later ones first: their values are kept, with all credits of its lane."""
    assert [go.on(p)(abs, -p).result(timeout=20) for p in (1, 2)] == [1, 2]
    begun = Atomic(0)
    g = go.on(proc)(lambda: (begun.add(1), busy(0.3)))
    until(lambda: begun.load() == 1)
    found = list(flow(range(12)).flat_map(lambda x: [x, -x], 2, timeout=60))
    assert found == [value for x in range(12) for value in (x, -x)]
    g.result(timeout=20)


def test_two_stages_of_many_values_on_one_process(runtime1: Any) -> None:
    stages = (
        flow(range(3))
        .flat_map(lambda x: range(700), on_error="skip")
        .flat_map(lambda x: [x, x], 2, timeout=60)
    )
    assert sum(stages) == 3 * 2 * sum(range(700))


@pytest.mark.parametrize("more", [{}, {"threads": 2}], ids=["goroutines", "threads"])
def test_leaving_early_ends_calls_that_wait_for_the_taker(runtime2: Any, more: dict[str, Any]) -> None:
    assert list(flow(range(4)).flat_map(lambda x: range(MANY), 2, timeout=60, **more).take(3)) == [0, 1, 2]
    values = iter(flow(range(4)).flat_map(lambda x: range(MANY), 2, on_error="skip", **more))
    assert next(values) == 0
    values.close()
    values = iter(flow(range(4)).flat_map(lambda x: range(MANY), 2, on_error="skip", **more))
    assert next(values) == 0
    del values


def test_an_item_that_is_tried_again_hands_on_when_it_has_ended(runtime2: Any) -> None:
    tries = Atomic(0)

    def expand(x: int) -> Any:
        yield from range(200)
        if tries.add(1) == 1:
            raise LookupError(x)

    assert list(flow([1]).flat_map(expand, retries=1, retry_on=LookupError)) == list(range(200))


def test_a_result_that_is_no_iterable(runtime2: Any) -> None:
    found = list(flow([3, 0, 2]).flat_map(lambda x: range(x) if x else None, on_error="return"))
    assert [type(value) for value in found] == [int, int, int, Failure, int, int]
    assert "'NoneType' object is not iterable" in str(found[3].error)
