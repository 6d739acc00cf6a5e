"""No more items are in flight than the sum of buffers and workers, over any number of stages."""

import pytest

from goproc import chan, flow, go, sleep
from goproc.sync import Atomic


def same(x):
    return x


def keep(x):
    return True


CHAINS = {
    "one stage": lambda f: f.map(same),
    "five stages": lambda f: f.map(same).map(same).map(same).map(same).map(same),
    "several workers": lambda f: f.map(same, 3).map(same, 2).map(same),
    "unordered": lambda f: f.map(same, 3, ordered=False).map(same),
    "options": lambda f: f.map(same, 2, on_error="skip").map(same),
    "threads": lambda f: f.map(same, 2, threads=2),
    "filters": lambda f: f.filter(keep, 2).map(same).filter(keep),
    "each and throttle": lambda f: f.each(same, 2).throttle(10**6).each(same),
}
# The calls at once of each stage.
CALLS = {
    "one stage": [1],
    "five stages": [1] * 5,
    "several workers": [3, 2, 1],
    "unordered": [3, 1],
    "options": [2, 1],
    "threads": [4],
    "filters": [2, 1, 1],
    "each and throttle": [2, 1, 1],
}


@pytest.mark.parametrize("buffer", [None, 1, 4])
@pytest.mark.parametrize("chain", CHAINS)
def test_source_is_not_far_ahead_of_the_consumer(runtime2, chain, buffer):
    drawn = []

    def source():
        for i in range(80):
            drawn.append(i)
            yield i

    most = 0
    for n, _ in enumerate(CHAINS[chain](flow(source(), buffer=buffer)), 1):
        if n % 20 == 0:
            sleep(0.02)  # nothing to wait on: the source gets the time to run ahead
        most = max(most, len(drawn) - n)
    assert most <= sum((2 * calls if buffer is None else buffer) + calls for calls in CALLS[chain])


@pytest.mark.parametrize("workers", [1, 2])
def test_source_is_not_far_ahead_of_a_stage_that_waits(runtime2, workers):
    """As in pypeln, where the bound was lost in a chain of stages."""
    drawn, gate = [], chan()

    def source():
        for i in range(100):
            drawn.append(i)
            yield i

    def wait(x):
        gate.recv_ok()

    g = go.local(flow(source()).map(same).map(same, workers).each(wait).run)
    before = 0
    while before != len(drawn) or not drawn:  # until the source stands
        before = len(drawn)
        sleep(0.05)  # nothing to wait on: a source that only seems to stand has drawn less
    assert len(drawn) <= 3 + 3 * workers + 3
    gate.close()
    assert g.result()[-1].out == 100


# -- back-pressure inside an item ---------------------------------------------------------------------------------

MANY = 100_000


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("ordered", [True, False])
def test_an_item_that_becomes_very_many_does_not_fill_memory(runtime2, workers, ordered):
    made = Atomic(0)

    def expand(x):
        for i in range(MANY):
            made.add(1)
            yield x, i

    read = 0
    with iter(flow(range(6)).flat_map(expand, workers, ordered=ordered)) as values:
        for n, value in enumerate(values):
            read += 1
            assert made.load() - read <= 2 * 64 * workers + 4 * workers + 300
            if ordered:
                assert value == (0, n)
            if read == 500:
                break
    assert made.load() < MANY


def sizes(x):
    return [0, 1, 3, 700, 64, 65, 0, 128][x % 8]


def expand_by_size(x):
    for i in range(sizes(x)):
        yield x, i


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_values_of_large_and_small_items_keep_their_order(runtime2, workers):
    found = list(flow(range(32)).flat_map(expand_by_size, workers).filter(keep))
    assert found == [(x, i) for x in range(32) for i in range(sizes(x))]


def test_values_arrive_as_they_are_yielded_when_it_is_the_turn_of_their_item(runtime2):
    gate = chan()

    def expand(x):
        yield x
        gate.recv()
        yield -x

    values = iter(flow([1]).flat_map(expand, 2))
    assert next(values) == 1  # the second value waits for that
    gate.send(None)
    assert list(values) == [-1]


@pytest.mark.parametrize("bad", [0, 1, 5])
def test_an_item_that_fails_in_the_middle_of_its_values_ends_the_others(runtime2, bad):
    def expand(x):
        for i in range(1000):
            if x == bad and i == 300:
                raise LookupError(x)
            yield x, i

    found = []
    with pytest.raises(LookupError) as raised:
        for value in flow(range(8)).flat_map(expand, 3):
            found.append(value)
    assert raised.value.__notes__[-1] == f"in the stage 'expand' of the flow, item {bad}"
    assert found == [(x, i) for x in range(8) for i in range(1000)][: len(found)]
    assert (bad, 300) not in found


def test_values_of_a_stage_in_this_process_come_one_by_one(runtime2):
    def expand(x):
        yield x
        raise LookupError(x)

    values = iter(flow([7]).flat_map(expand, 0))
    assert next(values) == 7
    with pytest.raises(LookupError) as raised:
        next(values)
    assert raised.value.__notes__ == ["in the stage 'expand' of the flow, item 7"]
