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
