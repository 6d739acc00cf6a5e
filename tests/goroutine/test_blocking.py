"""blocking(): calls in threads, while other goroutines of the process run."""

from __future__ import annotations

import pytest
from programs import Run, Start, ok

PLACES = ["go.local", "go.on(1)"]


@pytest.mark.parametrize("where", PLACES)
def test_others_run_while_a_call_waits(run: Run, where: str) -> None:
    script = f"""
        import threading
        from goproc import blocking, go
        def job(n):
            barrier = threading.Barrier(n)  # passed only if all calls wait at once
            gs = [go.local(blocking, barrier.wait, 20) for _ in range(n)]
            return sorted(g.result() for g in gs)
        print({where}(job, 20).result() == list(range(20)))
    """
    assert ok(run(script, procs=1)) == "True\n"


def test_a_call_shares_memory_and_has_the_context_of_its_goroutine(run: Run) -> None:
    script = """
        import contextvars, threading
        from goproc import blocking, go
        var = contextvars.ContextVar("var")
        def call(box, *, key):
            box[key] = var.get(), threading.current_thread() is threading.main_thread()
            var.set("thread")
            return box
        def job(i):
            var.set(i)
            box = {}
            assert blocking(call, box, key="a") is box
            return box, var.get()
        print([go(job, i).result() for i in range(3)])
    """
    assert ok(run(script)) == str([({"a": (i, False)}, i) for i in range(3)]) + "\n"


def test_an_exception_has_the_traceback_of_the_thread(run: Run) -> None:
    script = """
        import traceback
        from goproc import blocking, go
        def inner(): raise ValueError("deep")
        def call(): inner()
        def job():
            try: blocking(call)
            except ValueError as exc: return [f.name for f in traceback.extract_tb(exc.__traceback__)]
        names = go.on(1)(job).result()
        print(names[0], names[-2:])
        def stop(): raise StopIteration(5)
        try: blocking(stop)
        except StopIteration as exc: print(exc.value)
    """
    assert ok(run(script)) == "job ['call', 'inner']\n5\n"


def test_cancel_ends_the_wait_and_drops_unstarted_calls(run: Run) -> None:
    script = """
        import threading
        from goproc import Cancelled, go
        from goproc._blocking import Threads
        pool, go_on, made = Threads(1), threading.Event(), []
        def first():
            made.append("first")
            go_on.wait()
            made.append("first ends")
        a = go.local(pool.run, first)
        b = go.local(pool.run, made.append, "second")
        c = go.local(pool.run, made.append, "third")
        while not made: go.local(int).result()
        for g in (a, b):
            g.cancel()
            try: g.result()
            except Cancelled: made.append("cancelled")
        go_on.set()
        c.result()
        print(made)
        pool.close()
        try: pool.run(int)
        except RuntimeError as exc: print(exc)
    """
    expected = ["first", "cancelled", "cancelled", "first ends", "third"]
    assert ok(run(script)) == f"{expected}\nthis pool of threads is closed\n"


def test_a_deadline_ends_the_wait(run: Run) -> None:
    script = """
        import threading
        from goproc import blocking, context
        never = threading.Event()
        try:
            with context.timeout(0.05): blocking(never.wait, 20)
        except TimeoutError as exc: print(type(exc).__name__)
        never.set()
    """
    assert ok(run(script)) == "DeadlineExceeded\n"


def test_at_most_so_many_threads(run: Run) -> None:
    script = """
        import threading, time
        from goproc import go
        from goproc._blocking import Threads
        pool, lock, now, most = Threads(3), threading.Lock(), [0], [0]
        def call():
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.002)  # the length of the call
            with lock: now[0] -= 1
        for g in [go.local(pool.run, call) for _ in range(50)]: g.result()
        print(most[0] <= 3, threading.active_count() <= 4)
    """
    assert ok(run(script)) == "True True\n"


def test_a_call_that_runs_is_no_deadlock_and_an_idle_thread_hides_none(run: Run) -> None:
    script = """
        import time
        from goproc import blocking, chan
        blocking(time.sleep, 0.3)  # the length of the call
        print("no deadlock", flush=True)
        chan().recv()
    """
    done = run(script)
    assert (done.status, done.out) == (2, "no deadlock\n")
    assert "all goroutines are asleep - deadlock!" in done.err


def test_a_thread_that_sends_wakes_a_goroutine(run: Run) -> None:
    script = """
        import time
        from goproc import blocking, chan, go
        ch = chan()
        def call(ch):
            time.sleep(0.2)  # the length of the call
            ch.send("from the thread")
        go.on(1)(blocking, call, ch)
        print(ch.recv())
    """
    assert ok(run(script)) == "from the thread\n"


def test_ctrl_c_ends_the_wait_of_main(start: Start) -> None:
    with start("""
        import time
        from goproc import blocking
        try:
            print("waits", flush=True)
            blocking(time.sleep, 60)
        except KeyboardInterrupt: print("interrupted")
    """) as program:
        program.wait_for("waits\n")
        program.interrupt()
        done = program.wait()
    assert (done.status, done.out) == (0, "waits\ninterrupted\n")


def test_misuse(run: Run) -> None:
    script = """
        from goproc import blocking
        try: blocking(3)
        except TypeError as exc: print(exc)
    """
    expected = "blocking: 'int' object is not callable (use blocking(f, *args), not blocking(f(*args)))\n"
    assert ok(run(script)) == expected


def test_in_a_plain_thread_the_call_is_made_there(run: Run) -> None:
    script = """
        import threading
        from goproc import blocking
        seen = []
        thread = threading.Thread(target=lambda: seen.append(blocking(threading.current_thread) is thread))
        thread.start()
        thread.join()
        print(seen)
    """
    assert ok(run(script)) == "[True]\n"
