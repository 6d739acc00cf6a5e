"""pmap: what becomes of items that fail, by on_error, retries, delay and timeout."""

import threading
import time

import pytest
from programs import eventually

from goproc import (
    Cancelled,
    ChanClosed,
    Failure,
    PickleError,
    TaskTimeout,
    chan,
    current,
    go,
    goexit,
    pmap,
    sleep,
)

pytestmark = pytest.mark.usefixtures("runtime2")

LIMIT = 2  # seconds, which no short call takes, also if its process gets no CPU for some tenths


def fail_at(*bad):
    def f(x):
        if x in bad:
            raise ValueError(f"no {x}")
        return x

    return f


def test_the_first_failure_is_raised_with_the_traceback_of_the_worker_and_the_item():
    m = pmap(fail_at("n-h"), ["a", "n-h", "b"], chunk=1)
    with pytest.raises(ValueError, match="no n-h") as raised:
        list(m)
    notes = raised.value.__notes__
    assert "item 1: 'n-h'" in notes
    assert any("in f" in note and "raise ValueError" in note for note in notes)
    assert list(m) == []


def test_a_failure_is_raised_before_results_that_are_earlier():
    begin, gate = chan(), chan()

    def f(x):
        if x == 0:
            begin.recv()  # next() waits, and has drawn all items before
        if x == 5:
            gate.recv()
            raise ValueError(x)
        return x

    go.local(begin.send, None)
    m = pmap(f, range(6), ahead=6, chunk=1)
    assert next(m) == 0
    gate.send(None)
    assert eventually(lambda: m.stats().done == 5 and not m.stats().running)
    with pytest.raises(ValueError):
        next(m)
    assert list(m) == []


def test_return_puts_the_failure_into_its_place():
    found = list(pmap(fail_at(3), range(6), on_error="return"))
    assert [x for x in found if not isinstance(x, Failure)] == [0, 1, 2, 4, 5]
    failure = found[3]
    assert (failure.item, failure.index, failure.attempts) == (3, 3, 1)
    assert repr(failure.error) == "ValueError('no 3')"
    assert failure.proc in (1, 2) and failure.seconds >= 0


def test_with_several_iterables_the_item_is_the_tuple():
    (failure,) = pmap(lambda a, b: a / b, [1], [0], on_error="return")
    assert failure.item == (1, 0)


def test_skip_leaves_the_item_out_and_counts_it():
    m = pmap(fail_at(3, 4), range(8), on_error="skip")
    assert list(m) == [0, 1, 2, 5, 6, 7]
    assert m.stats().failed == 2


def test_a_channel_gets_the_failures_and_is_not_closed():
    letters = chan(10)
    assert list(pmap(fail_at(1, 4), range(6), on_error=letters)) == [0, 2, 3, 5]
    assert sorted(f.item for f in letters.recv_many(10)) == [1, 4]
    assert not letters.closed


def test_a_full_channel_blocks_next():
    letters = chan()
    reader = go.local(lambda: [letters.recv().item for _ in range(5)])
    assert list(pmap(fail_at(0, 1, 2, 3, 4), range(6), on_error=letters)) == [5]
    assert sorted(reader.result()) == [0, 1, 2, 3, 4]


def test_a_closed_channel_raises():
    letters = chan(1)
    letters.close()
    m = pmap(fail_at(1), range(6), on_error=letters)
    with pytest.raises(ChanClosed):
        list(m)
    assert list(m) == []


@pytest.mark.parametrize(
    "kind", [StopIteration, StopAsyncIteration, GeneratorExit, SystemExit, KeyboardInterrupt]
)
def test_exceptions_that_end_loops_and_programs_fail_the_item(kind):
    def f(x):
        if x == 2:
            raise kind("x")
        return x

    with pytest.raises(RuntimeError, match=kind.__name__) as raised:
        list(pmap(f, range(5)))
    assert type(raised.value.__cause__) is kind
    found = list(pmap(f, range(5), on_error="return"))
    assert type(found[2].error) is kind and found[3:] == [3, 4]


def test_goexit_and_cancelling_itself_fail_the_item():
    def leave(x):
        if x == 1:
            goexit()
        return x

    def cancel(x):
        if x == 1:
            raise Cancelled
        return x

    for f in (leave, cancel):
        found = list(pmap(f, range(4), on_error="return"))
        assert isinstance(found[1], Failure)
        assert [found[0], *found[2:]] == [0, 2, 3]
    assert current().id == 1


def test_a_result_that_cannot_be_sent_is_a_failure_that_names_the_path():
    def f(x):
        return {"rows": [x, threading.Lock()]} if x == 2 else x

    found = list(pmap(f, range(5), on_error="return", chunk=5))
    assert [*found[:2], *found[3:]] == [0, 1, 3, 4]
    assert isinstance(found[2].error, PickleError)
    assert "rows" in str(found[2].error) and "lock" in str(found[2].error)


def test_an_exception_that_cannot_be_pickled_arrives_as_a_remote_error():
    class Odd(Exception):
        def __init__(self):
            self.lock = threading.Lock()
            super().__init__("odd")

    def f(x):
        raise Odd

    with pytest.raises(Exception, match="odd"):
        list(pmap(f, range(2)))


def counted(fails):
    """Return a function that fails so many times for each item."""
    tries = chan(1000)

    def f(x):
        tries.send(x)
        seen = []
        while True:
            value, there = tries.try_recv()
            if not there:
                break
            seen.append(value)
        for value in seen:
            tries.send(value)
        if seen.count(x) <= fails:
            raise OSError(x)
        return seen.count(x)

    return f


def test_retries_for_the_exceptions_that_are_named():
    m = pmap(counted(2), range(3), retries=2, retry_on=OSError, workers=1, chunk=1)
    assert list(m) == [3, 3, 3]
    assert m.stats().retried == 6
    with pytest.raises(OSError):
        list(pmap(counted(2), range(3), retries=1, retry_on=OSError, workers=1))
    with pytest.raises(OSError):
        list(pmap(counted(1), range(3), retries=3, retry_on=ValueError, workers=1))


def test_failure_counts_its_attempts():
    (failure,) = pmap(fail_at(0), [0], retries=2, retry_on=ValueError, on_error="return")
    assert failure.attempts == 3


def test_delay_gets_the_number_of_the_failed_attempt_and_occupies_no_worker():
    asked = []

    def delay(n):
        asked.append(n)
        return 0.2

    gone = chan(10)

    def f(x):
        if x == 0:
            raise OSError(x)
        gone.send(x)
        return x

    m = pmap(f, range(4), retries=2, retry_on=OSError, delay=delay, workers=1, on_error="skip", ordered=False)
    assert list(m) == [1, 2, 3]
    assert asked == [1, 2]


def test_a_delay_that_is_no_number_of_seconds_ends_the_map():
    with pytest.raises(ValueError, match="delay="):
        list(pmap(fail_at(0), range(3), retries=1, retry_on=ValueError, delay=lambda n: -1))


def test_a_call_that_takes_too_long_is_cancelled_where_it_blocks():
    ended = chan(1)

    def f(x):
        if x == 1:
            try:
                sleep(60)
            finally:
                ended.send(x)
        return x

    found = list(pmap(f, range(4), timeout=LIMIT, on_error="return"))
    assert isinstance(found[1].error, TaskTimeout) and isinstance(found[1].error, TimeoutError)
    assert [found[0], *found[2:]] == [0, 2, 3]
    assert ended.recv() == 1


def test_a_call_that_ends_too_late_has_timed_out():
    def f(x):
        if x == 1:
            time.sleep(0.3)  # longer than the limit
        return x

    found = list(pmap(f, range(3), timeout=0.1, on_error="return"))
    assert isinstance(found[1].error, TaskTimeout)


def test_a_call_that_was_cancelled_cannot_hide_it():
    def f(x):
        try:
            sleep(60)
        except BaseException:
            return "fine"

    (failure,) = pmap(f, [0], timeout=0.1, on_error="return")
    assert isinstance(failure.error, TaskTimeout)


def test_time_limits_are_for_items_and_not_for_chunks():
    results = pmap(lambda x: (sleep(0.3), x)[1], range(10), timeout=LIMIT, chunk=10, workers=1)
    assert list(results) == list(range(10))


def test_timed_out_items_are_tried_again():
    first = chan(1)

    def f(x):
        if x == 1 and first.try_send(None):
            sleep(60)
        return x

    m = pmap(f, range(4), timeout=LIMIT, retries=1)
    assert list(m) == [0, 1, 2, 3]
    assert m.stats().retried == 1


def test_a_limit_around_next_does_not_end_the_map():
    from goproc import DeadlineExceeded, context

    gate = chan(1)
    m = pmap(lambda x: gate.recv() if x else x, range(2), chunk=1)
    assert next(m) == 0
    with pytest.raises(DeadlineExceeded), context.timeout(0.05):
        next(m)
    gate.send(7)
    assert list(m) == [7]
