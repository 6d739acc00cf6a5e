"""Runtimes that begin and end in a program: several in a row, in threads, left by exceptions, used afterwards."""

from __future__ import annotations

import pytest
from programs import Run, ok


def test_fifty_runtimes_in_one_program_leave_nothing(run: Run) -> None:
    script = """
        import gc, os, sys, threading
        import psutil
        import goproc
        from goproc import go, chan, WaitGroup
        me = psutil.Process()
        def census():
            gc.collect()
            with open("/proc/self/maps") as file: maps = [l for l in file if "goproc" in l and "memfd" in l]
            return me.num_fds(), len(maps), me.num_threads(), len(me.children(recursive=True)), threading.active_count()
        kept = []
        def once(i):
            with goproc.runtime(procs=1 + i % 3):
                ch = chan(4)
                kept.append(ch)
                g = go(sum, [i, 1])
                go.on(goproc.procs() - 1)(ch.send, "x" * 30_000)
                go(chan().recv)
                go.local(chan().recv)
                assert g.result() == i + 1 and len(ch.recv()) == 30_000
                kept.append(g)
        for i in range(3): once(i)
        before = census()
        for i in range(50): once(i)
        assert census() == before, (before, census())
        assert [kept[i].result() for i in range(1, len(kept), 2)] == [1, 2, 3, *range(1, 51)]
        print("fine", before[1:])
    """
    assert ok(run(script, how="python")) == "fine (0, 1, 0, 1)\n"


def test_a_runtime_inside_a_runtime(run: Run) -> None:
    script = """
        import traceback
        import goproc
        from goproc import go, chan
        def try_it():
            try:
                with goproc.runtime(procs=2): print("inside")
            except RuntimeError as e:
                lines = [frame.name for frame in traceback.extract_tb(e.__traceback__)]
                print(type(e).__name__, e, lines, flush=True)
        with goproc.runtime(procs=3):
            try_it()
            go.on(1)(try_it).result()
            go.on(0)(try_it).result()
        with goproc.runtime(procs=2): pass
        chan()
        try_it()
        try: goproc.run(print, procs=2)
        except RuntimeError as e: print(e)
    """
    lines = ok(run(script, procs=2)).splitlines()
    said = "RuntimeError a goproc runtime runs already, procs="
    assert lines[0] == lines[2]
    assert lines[0].startswith(f"{said}3: it starts at the first use of goproc;")
    assert lines[0].endswith("goproc.runtime.resize(n) ['try_it']")
    assert lines[1] == f"{said}3 (this is proc 1: start it in the main program) ['try_it']"
    assert lines[3].startswith(f"{said}2: ")
    assert lines[4] == lines[3].removeprefix("RuntimeError ").removesuffix(" ['try_it']")


def test_leaving_a_runtime_unwinds_its_goroutines(run: Run) -> None:
    script = """
        import goproc
        from goproc import go, chan
        from goproc.testing import until_waiting
        def f(name, ch):
            try: ch.recv()
            finally: print("finally", name)
        with goproc.runtime(procs=2):
            ch = chan()
            go.on(0)(f, "host", ch)
            go.on(1)(f, "worker", ch)
            go.local(f, "local", ch)
            until_waiting(ch, receivers=3)
        print("left")
        with goproc.runtime(procs=2): print(go(int).result())
    """
    assert sorted(ok(run(script, how="python")).splitlines()) == [
        "0",
        "finally host",
        "finally local",
        "left",
    ]


def test_operations_of_unwound_goroutines_start_no_runtime(run: Run) -> None:
    script = """
        import goproc, psutil
        from goproc import go, chan, RuntimeStopped
        from goproc.testing import until_waiting
        def f(ch):
            try: ch.recv()
            finally:
                for use in (lambda: chan(1), lambda: go(int), lambda: ch.send(1), goproc.procs):
                    try: print("gave", use())
                    except RuntimeStopped: print("stopped")
        with goproc.runtime(procs=2):
            ch = chan()
            go.local(f, ch)
            until_waiting(ch, receivers=1)
        print(psutil.Process().children())
    """
    assert ok(run(script)) == "stopped\n" * 4 + "[]\n"


def test_the_first_use_is_in_a_thread_that_ends(run: Run) -> None:
    script = """
        import threading
        from goproc import go
        thread = threading.Thread(target=lambda: print(go(lambda: 5).result()))
        thread.start()
        thread.join()
        print(go(lambda: 6).result(timeout=20))
    """
    assert ok(run(script, procs=1)) == "5\n6\n"


def test_ctrl_c_leaves_a_runtime(run: Run) -> None:
    script = """
        import os, signal, time
        import goproc
        from goproc import go, chan
        signal.signal(signal.SIGALRM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
        def interrupted(wait):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                wait()
            except KeyboardInterrupt: print("caught")
        def inside():
            with goproc.runtime(procs=2):
                go.on(1)(chan().recv)
                chan().recv()
        interrupted(inside)
        interrupted(lambda: time.sleep(5))  # Python's own handler is back
        with goproc.runtime(procs=2): print(go.on(1)(int).result())
        interrupted(inside)
    """
    assert ok(run(script)) == "caught\ncaught\n0\ncaught\n"


@pytest.mark.parametrize(
    "raising", ["raise ValueError('through')", "go(lambda: 1 / 0).result()", "import no_such"]
)
def test_an_exception_leaves_a_runtime(run: Run, raising: str) -> None:
    script = f"""
        import goproc
        from goproc import go, chan
        for i in range(3):
            try:
                with goproc.runtime(procs=2):
                    go(chan().recv)
                    {raising}
            except (ValueError, ZeroDivisionError, ImportError) as e: print(type(e).__name__)
    """
    assert len(ok(run(script)).split()) == 3


def test_run(run: Run) -> None:
    script = """
        import goproc
        from goproc import go, procs
        def main(a, *, b): return a, b, procs(), go.on(1)(lambda: 5).result()
        print(goproc.run(main, 1, b=2, procs=3))
        try: goproc.run(lambda: 1 / 0, procs=2)
        except ZeroDivisionError as e: print("error", e)
        print(goproc.run(procs))
    """
    assert ok(run(script, procs=2)) == "(1, 2, 3, 5)\nerror division by zero\n2\n"


def test_use_after_the_runtime_stopped(run: Run) -> None:
    script = """
        import threading
        import goproc
        from goproc import go, chan, WaitGroup, Atomic, RuntimeStopped
        with goproc.runtime(procs=2):
            ch = chan(1)
            ch.send(1)
            read, unread, wg, at = go(int, "5"), go(int, "6"), WaitGroup(), Atomic(3)
            read.result(), unread.join()
        uses = {
            "send": lambda: ch.send(1), "recv": lambda: ch.recv(), "try_send": lambda: ch.try_send(1),
            "try_recv": lambda: ch.try_recv(), "recv_ok": lambda: ch.recv_ok(), "len": lambda: len(ch),
            "close": lambda: ch.close(), "for": lambda: list(ch), "closed": lambda: ch.closed,
            "send_many": lambda: ch.send_many([1]), "recv_many": lambda: ch.recv_many(1),
            "result": lambda: unread.result(), "join": lambda: unread.join(), "cancel": lambda: unread.cancel(),
            "state": lambda: unread.state, "exception": lambda: unread.exception(),
            "wait": lambda: wg.wait(), "add": lambda: wg.add(1), "done": lambda: wg.done(),
            "load": lambda: at.load(), "store": lambda: at.store(1), "atomic add": lambda: at.add(1),
        }
        def check():
            for name, use in uses.items():
                try: print(name, "gave", use())
                except RuntimeStopped as e:
                    assert isinstance(e, RuntimeError) and "stopped" in str(e), (name, e)
                except BaseException as e: print(name, "raised", repr(e))
        check()
        print(read.result(), bool(repr((ch, read, unread, ch.tx, ch.rx))), ch == ch.tx, hash(ch) == hash(ch.rx))
        with goproc.runtime(procs=2):
            check()  # not those of the new one either
            new = chan(1)
            new.send("new")
            for use in (lambda: new.send(ch), lambda: go(print, ch)):
                try: print("gave", use())
                except (RuntimeStopped, goproc.PickleError) as e: assert "stopped" in str(e)
            print(new.recv(), new == ch, len({new, ch}))
    """
    assert ok(run(script, how="python")) == "5 True True True\nnew False 2\n"


def test_everything_can_be_shown_after_the_runtime_stopped(run: Run) -> None:
    script = """
        import goproc
        from goproc import go, chan, WaitGroup, Atomic
        with goproc.runtime(procs=2): things = chan(1), go(int, "5"), WaitGroup(), Atomic(3)
        print(*map(repr, things))
    """
    assert len(ok(run(script)).split("<")) == 5


def test_a_thread_that_waits_hears_of_the_end(run: Run) -> None:
    script = """
        import threading, time
        import goproc
        from goproc import chan, RuntimeStopped
        def wait(ch):
            try: ch.recv()
            except RuntimeStopped as e: print(f"thread: {e}\\n", end="")
        with goproc.runtime(procs=2):
            threads = [threading.Thread(target=wait, args=(chan(),)) for _ in range(3)]
            for t in threads: t.start()
            time.sleep(0.1)  # nothing to wait on: the threads wait by then, or are about to
        for t in threads: t.join(5)
        print([t.is_alive() for t in threads])
    """
    assert ok(run(script)) == "thread: the goproc runtime stopped\n" * 3 + "[False, False, False]\n"
