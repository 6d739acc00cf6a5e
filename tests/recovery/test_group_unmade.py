"""A process is killed in Group.go() before the member is made: there is no such member, and wait() returns."""

from __future__ import annotations

import pytest
from programs import Run, ok

HEAD = """
    import os
    import goproc
    from goproc import Group, WorkerDied, chan, go, sync

    def die(*args): os.kill(os.getpid(), 9)

    class Deadly:
        def __reduce__(self): die()

    def start(group, when):
        if when == "as the call is packed": group.go(len, Deadly())
        if when == "before": goproc._group.spawn = die
        if when == "after":
            real = goproc._group.spawn
            goproc._group.spawn = lambda *args: (real(*args), die())
        if when == "in a WaitGroup":
            group.go(len, Deadly())
        group.go(sum, [1, 2])
"""


@pytest.mark.parametrize("when", ["as the call is packed", "before", "after"])
def test_wait_returns(run: Run, when: str) -> None:
    text = f"""
    g = Group()
    assert type(go.on(1)(start, g, {when!r}).exception()) is WorkerDied
    g.wait(20)
    print(g.go(sum, [1, 2]).result())
    g.wait(20)
    with Group() as block:
        assert type(go.on(1)(start, block, {when!r}).exception()) is WorkerDied
        print(block.go(sum, [3, 4]).result())
    """
    assert ok(run(HEAD + text)) == "3\n7\n"


def test_a_wait_group(run: Run) -> None:
    text = """
    g = sync.WaitGroup()
    assert type(go.on(1)(start, g, "in a WaitGroup").exception()) is WorkerDied
    g.wait(20)
    print(g.count)
    """
    assert ok(run(HEAD + text)) == "0\n"


def test_a_group_that_has_ended(run: Run) -> None:
    """Its flag is seen once the member is counted, and the count is taken back."""
    text = """
    with Group(limit=2) as g: pass
    for where in (g.go, g.local, g.try_go):
        try: where(int)
        except RuntimeError as error: print(error)
    g.wait(20)
    print(g._shared.members.count)
    """
    assert ok(run(HEAD + text)) == "go on a Group whose block has ended\n" * 3 + "0\n"


@pytest.mark.parametrize("when", ["as the call is packed", "before", "after"])
def test_the_places_come_back(run: Run, when: str) -> None:
    text = f"""
    g = Group(limit=1)
    for _ in range(3): assert type(go.on(1)(start, g, {when!r}).exception()) is WorkerDied
    with goproc.context.timeout(20):
        print(g.go(sum, [1, 2]).result())
        g.wait()
    g.set_limit(2)
    assert g.try_go(goproc.sleep, 0.1) and g.try_go(goproc.sleep, 0.1)
    """
    assert ok(run(HEAD + text)) == "3\n"


def test_kills_at_random_moments(run: Run, long: bool) -> None:
    text = f"""
    import random
    from goproc import sleep

    def start_always(group, began):
        began.send(None)
        while True: group.go(int)

    g = Group(limit=3)
    for _ in range({300 if long else 60}):
        began = chan()
        lost = go.on(1)(start_always, g, began)
        began.recv()
        sleep(random.random() / 100)
        goproc.kill(1)
        lost.exception()
        while g._shared.free.free < 3: sleep(0.001)  # else the program does not end
    print(g.try_go(int) is not None)
    """
    assert ok(run(HEAD + text)) == "True\n"
