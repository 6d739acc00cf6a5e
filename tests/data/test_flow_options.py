"""Stages with the options of pmap."""

import os
import threading
import time

import pytest
from peek import until_only_main

import goproc
from goproc import Failure, Limiter, chan, flow, sleep, worker_state
from goproc.errors import TaskTimeout


def inc(x):
    return x + 1


def fail_at_3(x):
    if x == 3:
        raise ValueError("three")
    return x


def wait_at_3(x):
    if x == 3:
        sleep(60)
    return x


def test_failure_takes_the_place_of_its_item(runtime2):
    results = list(flow(range(5)).map(fail_at_3, 2, on_error="return"))
    assert results[:3] + results[4:] == [0, 1, 2, 4]
    assert isinstance(results[3], Failure)
    assert (results[3].item, results[3].index, results[3].attempts) == (3, 3, 1)


@pytest.mark.parametrize(
    "stages, expected",
    [
        (lambda f, **o: f.map(fail_at_3, 2, **o).map(inc), [1, 2, 3, 5, 6]),
        (lambda f, **o: f.filter(lambda x: fail_at_3(x) % 2, **o), [1, 5]),
        (lambda f, **o: f.flat_map(lambda x: [fail_at_3(x)] * 2, **o), [0, 0, 1, 1, 2, 2, 4, 4, 5, 5]),
        (lambda f, **o: f.each(fail_at_3, **o), [0, 1, 2, 4, 5]),
    ],
)
def test_item_is_skipped(runtime2, stages, expected):
    assert list(stages(flow(range(6)), on_error="skip"))[: len(expected)] == expected


def test_failures_go_to_a_channel(runtime2):
    dead = chan(5)
    assert list(flow(range(6)).map(fail_at_3, 2, on_error=dead).map(inc)) == [1, 2, 3, 5, 6]
    assert dead.recv().item == 3
    assert not dead.closed


def test_failed_call_is_tried_again(runtime2):
    calls = goproc.Atomic(0)

    def at_the_third_time(x):
        if calls.add(1) < 3:
            raise OSError
        return x

    assert list(flow([7]).map(at_the_third_time, retries=2, retry_on=OSError)) == [7]


def test_calls_run_in_threads(runtime2):
    def here(x):
        time.sleep(0.01)  # the length of the call: all threads get one
        return threading.get_ident(), os.getpid()

    places = set(flow(range(40)).map(here, threads=5))
    assert 2 <= len(places) <= 5
    assert len({pid for _, pid in places}) == 1


def test_equal_keys_go_to_one_worker_in_order(runtime2):
    def where(x):
        return x % 3, goproc.current().id, x

    places = list(flow(range(30)).map(where, 3, key=lambda x: x % 3, ordered=False))
    for key in range(3):
        assert len({worker for k, worker, _ in places if k == key}) == 1
        assert [x for k, _, x in places if k == key] == list(range(key, 30, 3))


def test_init_gives_a_state_to_each_process(runtime2):
    def use(x):
        return worker_state() == ("state", os.getpid())

    assert all(flow(range(9)).map(use, 2, init=lambda: ("state", os.getpid())))


def test_limit_is_kept(runtime2):
    began = time.monotonic()
    assert len(list(flow(range(6)).map(inc, 2, limit=Limiter(100)))) == 6
    assert time.monotonic() - began >= 0.045


def test_call_that_waits_too_long_is_cancelled(runtime2):
    with pytest.raises(TaskTimeout) as caught:
        list(flow(range(6)).map(inc).map(wait_at_3, timeout=0.1).map(inc))
    assert "'wait_at_3'" in caught.value.__notes__[-1]
    until_only_main()
