"""No more items are in flight than the sum of buffers and workers, over any number of stages."""

import pytest

from goproc import chan, flow, go, sleep


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
        sleep(0.05)
    assert len(drawn) <= 3 + 3 * workers + 3
    gate.close()
    assert g.result()[-1].out == 100
