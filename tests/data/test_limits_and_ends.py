"""Maps: numbers that are too large, output that nobody takes, and processes that are killed for calls that nobody wants."""

from __future__ import annotations

from typing import Any

import pytest
from programs import Run, Start

from goproc import flow, pmap
from goproc._data.policy import MOST_CALLS


@pytest.mark.parametrize(
    "make",
    [
        lambda n: pmap(abs, [1], workers=n),
        lambda n: pmap(abs, [1], threads=n),
        lambda n: flow([1]).map(abs, n),
        lambda n: flow([1]).each(abs, threads=n),
        lambda n: flow([1]).stage(abs, n),
    ],
)
def test_more_calls_at_once_than_a_machine_can_hold(make: Any) -> None:
    make(MOST_CALLS)
    with pytest.raises(ValueError, match=f"(workers|threads)= is at most {MOST_CALLS}, not {MOST_CALLS + 1}"):
        make(MOST_CALLS + 1)


def test_more_threads_in_all_processes_than_a_machine_can_hold(runtime2: Any) -> None:
    with pytest.raises(ValueError, match="in each of 2 processes are more than"):
        next(pmap(abs, [1], threads=MOST_CALLS))


def test_an_empty_path_of_a_checkpoint(runtime2: Any) -> None:
    with pytest.raises(ValueError, match="not an empty one"):
        pmap(abs, [1], checkpoint="")


def test_progress_that_nobody_can_read_does_not_end_the_map(run: Run) -> None:
    done = run("""
        import sys
        from goproc import pmap
        class Gone:
            def write(self, text): raise BrokenPipeError
            def flush(self): pass
        sys.stderr = Gone()
        print(len(list(pmap(abs, range(100), progress="numbers"))))
    """)
    assert (done.status, done.out) == (0, "100\n"), done


# -- processes that are killed for calls that nobody wants ---------------------------------------------------------


LEFT = """
    import time
    from goproc import WorkerDied, chan, go, pmap
    def leave_a_map_that_hangs():
        begun = chan()
        def hang(x):
            begun.send(x)
            time.sleep(60)
        m = pmap(hang, range(1), workers=1)
        g = go.local(lambda: list(m))
        begun.recv()
        g.cancel()
        g.join()
        m.close()
"""


def test_a_process_that_close_kills_is_not_told_of(run: Run) -> None:
    done = run(
        LEFT
        + """
    leave_a_map_that_hangs()
    print(list(pmap(abs, range(3))))
    """
    )
    assert (done.status, done.out, done.err) == (0, "[0, 1, 2]\n", ""), done


def test_a_goroutine_that_was_lost_beside_it_is_told_of(run: Run) -> None:
    done = run(
        LEFT
        + """
    waits = go.opts(name="bystander")(chan().recv)
    while waits.state == "queued": time.sleep(0.001)
    leave_a_map_that_hangs()
    print(type(waits.exception()) is WorkerDied)
    """,
        procs=1,
    )
    assert (done.status, done.out) == (0, "True\n"), done
    assert "bystander" in done.err and done.err.count("\n") == 1, done


def test_ctrl_c_ends_calls_of_joblib_with_one_line(start: Start) -> None:
    pytest.importorskip("joblib")
    script = """
        import time, goproc.joblib
        from goproc import chan
        from joblib import Parallel, delayed, parallel_config
        def hang():
            print("begun", flush=True)
            time.sleep(60)
        with parallel_config("goproc", n_jobs=2):
            Parallel()(delayed(hang)() for _ in range(10))
    """
    with start(script) as program:
        program.wait_for("begun")
        program.interrupt()
        done = program.wait(10.0)
    assert done.status == 130, done
    assert done.err == "goproc: interrupted (Ctrl-C)\n", done


def test_the_line_about_a_call_that_took_too_long(run: Run) -> None:
    done = run(
        """
        import time
        from goproc import pmap
        print(list(pmap(lambda x: time.sleep(60), range(1), timeout=0.1, on_error="skip")))
        """,
        procs=1,
    )
    assert (done.status, done.out) == (0, "[]\n"), done
    assert "was killed while it ran goroutine" in done.err, done
    assert ", as a call had not ended in time; the worker is replaced" in done.err, done
    assert "memory" not in done.err
