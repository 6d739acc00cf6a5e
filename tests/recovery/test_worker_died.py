"""A worker dies while it runs Python code: what its goroutines' handles say, and that the program goes on."""

from __future__ import annotations

import pytest
from programs import Run, Start, ok

# How a worker may end, by the code that does it there; and the signal or the status that WorkerDied names.
ENDS = {
    "kill": ("os.kill(os.getpid(), 9)", "e.signal == 9 and e.status is None"),
    "segfault": ("ctypes.string_at(0)", "e.signal == 11 and e.status is None"),
    "abort": ("os.abort()", "e.signal == 6 and e.status is None"),
    "exit": ("os._exit(3)", "e.signal is None and e.status == 3"),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_handle_tells_how_the_worker_died(run: Run, how: str) -> None:
    code, known = ENDS[how]
    script = f"""
        import ctypes, os
        import goproc
        from goproc import go
        def die(): {code}
        before = go.on(1)(os.getpid).result()
        g = go.on(1).opts(name="culprit")(die)
        try: g.result()
        except goproc.WorkerDied as error: e = error
        assert e.proc == 1 and e.pid == before and {known}, vars(e)
        assert e.reason in str(e) and "culprit" in str(e) and e.goroutines == ((g.id, "culprit"),), e
        assert e.memory > 1 << 20 and e.started and not e.timed_out, vars(e)
        assert g.state == "failed" and type(g.exception()) is goproc.WorkerDied
        after = go.on(1)(os.getpid).result()
        assert after != before
        print("goes on")
    """
    assert ok(run(script)) == "goes on\n"


def test_those_that_were_blocked_there_are_lost_and_leave_their_queues(run: Run) -> None:
    script = """
        import goproc
        from goproc import Mutex, Semaphore, WaitGroup, chan, go, select, sleep
        from goproc.testing import until_waiting
        def receiver(ch, there): there.done(); return ch.recv()
        def sender(ch, there): there.done(); ch.send("from the dead")
        def chooser(a, b, there): there.done(); return select(a, (b.send, 1))
        def locker(m, there): there.done(); m.lock()
        def taker(s, there): there.done(); s.acquire()
        def sleeper(there): there.done(); sleep(100)
        there = WaitGroup()
        there.add(6)
        a, b, m, s = chan(), chan(), Mutex(), Semaphore(0 + 1)
        m.lock(); s.acquire()
        on = go.on(1)
        lost = [on(receiver, a, there), on(sender, b, there), on(chooser, a, b, there), on(locker, m, there),
                on(taker, s, there), on(sleeper, there)]
        there.wait()
        until_waiting(a, receivers=2); until_waiting(b, senders=2); until_waiting(m); until_waiting(s)
        goproc.kill(1)
        for g in lost:
            try: g.result(20)
            except goproc.WorkerDied as e: assert len(e.goroutines) == 6, e.goroutines
            else: raise AssertionError(g)
        assert a.try_send(1) is False  # nobody is in its queue any more
        def living(ch): return ch.recv()
        g = go.on(2)(living, a)
        a.send("for the living")
        assert g.result(20) == "for the living"
        m.unlock(); s.release()
        assert m.try_lock() and s.try_acquire()
        print("goes on")
    """
    assert ok(run(script)) == "goes on\n"


def test_others_go_on(run: Run) -> None:
    """Goroutines of another worker are not disturbed, whatever they are doing."""
    script = """
        import os
        import goproc
        from goproc import chan, go
        def count(ch, n): return sum(ch.recv() for _ in range(n))
        def feed(ch, n):
            for i in range(n): ch.send(i)
        ch = chan(8)
        n = 30_000
        feeder = go.on(2)(feed, ch, n)
        counter = go.local(count, ch, n)
        for _ in range(5):
            try: go.on(1)(os._exit, 1).result()
            except goproc.WorkerDied: pass
        assert counter.result(60) == n * (n - 1) // 2
        feeder.result()
        print("goes on")
    """
    assert ok(run(script)) == "goes on\n"


def test_unstarted_goroutines_run_elsewhere_and_pinned_ones_on_the_replacement(run: Run) -> None:
    script = """
        import os, time
        import goproc
        from goproc import chan, go, proc
        def burn(started):
            started.send(proc())
            while True: time.sleep(0.01)
        started = chan()
        first = go.on(1)(burn, started)
        started.recv()
        pinned = [go.on(1)(proc) for _ in range(5)]
        loose = [go(proc) for _ in range(20)]
        goproc.kill(1)
        assert [g.result(20) for g in pinned] == [1] * 5
        assert {g.result(20) for g in loose} <= {1, 2}
        try: first.result(20)
        except goproc.WorkerDied: print("goes on")
    """
    assert ok(run(script)) == "goes on\n"


def test_a_lost_goroutine_without_a_handle_is_a_panic(run: Run) -> None:
    script = """
        import os
        from goproc import go, chan
        def die(): os.kill(os.getpid(), 11)
        go(die)
        chan().recv(timeout=20)
    """
    done = run(script)
    assert done.status == 2, done
    lines = done.err.splitlines()
    assert lines[0].startswith("panic: goproc.errors.WorkerDied: proc "), done.err
    assert lines[0].endswith("was killed by signal 11 (SIGSEGV)"), done.err
    assert lines[2].startswith("goroutine 2 [") and "die" in lines[3], done.err
    assert lines[4] == "created by main in goroutine 1" and lines[5].endswith("script.py:5"), done.err


def test_policy_continue(run: Run) -> None:
    """The dead one is not replaced: its pinned goroutines are lost, the others run on those that are left."""
    script = """
        import os, time
        import goproc
        from goproc import chan, go, proc
        def burn(started):
            started.send(1)
            while True: time.sleep(0.01)
        started = chan()
        first = go.on(1)(burn, started)
        started.recv()
        pinned = go.on(1)(proc)
        goproc.kill(1)
        for g, begun in (first, True), (pinned, False):
            try: g.result(20)
            except goproc.WorkerDied as e: assert e.started is begun and e.proc == 1, vars(e)
            else: raise AssertionError(g)
        try: go.on(1)(proc)
        except goproc.WorkerDied as e: assert e.proc == 1 and "not replaced" in str(e), e
        else: raise AssertionError
        assert {go(proc).result(20) for _ in range(50)} == {2}
        print("goes on")
    """
    assert ok(run(script, options=["--on-death", "continue"])) == "goes on\n"


def test_all_workers_gone_under_continue(run: Run) -> None:
    """Nobody is left who could run a goroutine: that is a deadlock, and its report names it."""
    script = """
        import goproc
        from goproc import chan, go
        there = chan()
        def stay(there): there.send(1); chan().recv()
        gs = [go.on(p)(stay, there) for p in goproc.workers()]
        for _ in gs: there.recv()
        for p in goproc.workers(): goproc.kill(p)
        for g in gs: g.join(20)
        go(int).result()
    """
    done = run(script, options=["--on-death=continue"])
    assert done.status == 2 and "all workers have died" in done.err, done


def test_policy_exit(run: Run) -> None:
    script = """
        import goproc
        with goproc.runtime(procs=2, on_death="exit"):
            goproc.kill(1)
            goproc.sleep(20)
    """
    done = run(script, procs=None)
    assert done.status == 2 and done.err.startswith("fatal error: proc 1 "), done


def test_a_worker_that_dies_at_each_start_ends_the_program(run: Run) -> None:
    script = """
        import os
        import goproc
        from goproc import go
        from goproc._proc import launch
        launch._ENTRY = "os:_exit"
        go(int).result()
    """
    done = run(script, how="python")
    assert done.status == 2, done
    assert "time in a row that this worker has ended before it could begin a goroutine" in done.err, done


def test_kill_at(run: Run) -> None:
    script = """
        import time
        import goproc
        from goproc import go
        from goproc.shm import _core
        def hang(seconds):
            _core.kill_at(time.monotonic() + seconds)
            time.sleep(20)
        def saved():
            _core.kill_at(time.monotonic() + 0.05)
            _core.kill_at(0)
            time.sleep(0.3)  # nothing is to happen
            return "saved"
        def attempt():
            try: return go(saved).result(15)
            except goproc.WorkerDied: return ""  # its time was over before it could take that back
        try: go(hang, 0.1).result(15)
        except goproc.WorkerDied as e: assert e.timed_out and e.signal == 9, vars(e)
        while attempt() != "saved": pass
        try: _core.kill_at(1.0)
        except ValueError as e: print(e)
    """
    assert ok(run(script)) == "kill_at(): the host is not killed\n"


def test_kill_refuses_an_argument_that_is_no_worker(runtime2: None) -> None:
    import goproc

    for wrong, error in (
        (0, ValueError),
        (3, ValueError),
        (-1, ValueError),
        (True, TypeError),
        ("1", TypeError),
    ):
        with pytest.raises(error, match=r"kill\("):
            goproc.kill(wrong)  # type: ignore[arg-type]


def test_a_host_that_survives_goes_on(start: Start) -> None:
    """As at a prompt: the same runtime is used after a death."""
    script = """
        import os, sys
        sys.ps1 = ">>> "
        import goproc
        from goproc import go
        try: go(os._exit, 1).result()
        except goproc.WorkerDied: pass
        print(go(pow, 2, 5).result())
    """
    with start(script, how="python") as program:
        assert ok(program.wait()) == "32\n"
