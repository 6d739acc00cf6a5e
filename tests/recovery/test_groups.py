"""Those who wait for several goroutines are told of one that was lost with its process."""

from __future__ import annotations

from programs import Run, ok

HEAD = """
        import os, time
        import goproc
        from goproc import Group, WaitGroup, chan, go, sleep
        def die(): os._exit(1)
        def stay(ch): ch.recv()
"""


def test_a_wait_group_counts_down(run: Run) -> None:
    script = f"""{HEAD}
        wg = WaitGroup()
        lost = [wg.go(die) for _ in range(3)]
        wg.wait(timeout=20)
        assert wg.count == 0
        for g in lost:
            assert type(g.exception()) is goproc.WorkerDied, g.exception()
        kept = wg.go(int)
        wg.wait(timeout=20)
        print(kept.result())
    """
    assert ok(run(script)) == "0\n"


def test_a_wait_group_that_a_dead_process_used_otherwise_is_left_alone(run: Run) -> None:
    """The count of add() belongs to nobody in particular."""
    script = f"""{HEAD}
        wg = WaitGroup()
        def count(wg): wg.add(2); wg.done(); die()
        go(count, wg).join()
        print(wg.count)
    """
    done = run(script, env={"GOPROC_UNREAD": "ignore"})
    assert ok(done) == "1\n"


def test_a_block_fails_with_worker_died(run: Run) -> None:
    """The members in the process that dies are lost, the others are cancelled."""
    script = f"""{HEAD}
        ended, there = chan(3), chan()
        def member(ended, there):
            try:
                there.send(goproc.proc())
                chan().recv()
            finally: ended.send("cancelled")
        try:
            with Group() as group:
                for _ in range(3): group.go(member, ended, there)
                where = [there.recv() for _ in range(3)]
                goproc.kill(where[0])
        except BaseExceptionGroup as e:
            assert {{type(x) for x in e.exceptions}} == {{goproc.WorkerDied}}, e.exceptions
            assert e.exceptions[0].signal == 9 and "member" in str(e.exceptions[0]), e.exceptions
        others = 3 - where.count(where[0])
        assert [ended.recv(timeout=20) for _ in range(others)] == ["cancelled"] * others
        print(ended.try_recv())
    """
    assert ok(run(script, procs=3)) == "(None, False)\n"


def test_wait_raises_worker_died_and_places_come_back(run: Run) -> None:
    script = f"""{HEAD}
        group = Group(limit=2)
        group.go(die)
        group.go(die)
        group.go(int)  # waits for a place
        try: group.wait(timeout=20)
        except goproc.WorkerDied as e: assert e.status == 1, e
        else: raise AssertionError
        assert group.ctx.err() is not None
        print(group)
    """
    assert ok(run(script)) == "<Group of 0 of 2 active>\n"


def test_a_creator_that_dies_leaves_its_members_running(run: Run) -> None:
    script = f"""{HEAD}
        wg, ch, there = WaitGroup(), chan(), chan()
        def member(ch, there): there.send(1); ch.recv()
        def create(wg, ch, there):
            g = wg.go(member, ch, there)
            there.recv()
            die()
        g = go.on(1)(create, wg, ch, there)
        g.join(20)
        while wg.count:  # until the member has it, or was lost, too: that is told a little later
            try: ch.send(1, timeout=0.05)
            except TimeoutError: continue
            wg.wait(timeout=20)
        print(type(g.exception()).__name__)
    """
    assert ok(run(script)) == "WorkerDied\n"


def test_a_member_that_dies_after_it_has_left_stops_no_other(run: Run) -> None:
    """Its call had returned. Its handle alone tells that the result is lost."""
    script = f"""{HEAD}
        from types import SimpleNamespace
        from goproc import _group_members
        from goproc.shm import _core

        def leave_and_die(task):
            _core.task_leave(task)
            os._exit(1)

        def arrange():
            names = {{name: getattr(_core, name) for name in dir(_core)}}
            _group_members._core = SimpleNamespace(**{{**names, "task_leave": leave_and_die}})

        go.on(1)(arrange).join()
        with Group() as group:
            lost = group.go(os.getpid)
            try: lost.result()
            except goproc.WorkerDied: pass
            else: raise AssertionError("the member has not died")
            assert not group.ctx.done().closed
        print("no error")
    """
    assert ok(run(script, procs=1)) == "no error\n"
