"""Items and results that cannot be read where they arrive, numbers that are too large, output that nobody takes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from programs import Run, Start

from goproc import Failure, PickleError, flow, pfor, pmap
from goproc._data.policy import MOST_CALLS
from goproc.futures import Executor


class Unreadable:
    """Can be pickled, and not read."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def name(x: Any) -> str:
    return type(x).__name__


@pytest.mark.parametrize("chunk", ["auto", 1, 4])
def test_an_item_that_the_worker_cannot_read_fails_alone(runtime2: Any, chunk: Any) -> None:
    items = [1, 2, Unreadable(), 4, 5, "x"]
    found = list(pmap(name, items, chunk=chunk, on_error="return"))
    failed = found.pop(2)
    assert found == ["int", "int", "int", "int", "str"]
    assert isinstance(failed, Failure) and failed.item is items[2] and failed.index == 2
    assert isinstance(failed.error, PickleError) and "cannot be read by the worker: ValueError" in str(
        failed.error
    )


def test_an_item_that_the_worker_cannot_read_is_counted_and_tried_again(runtime2: Any) -> None:
    m = pmap(name, [1, Unreadable(), 3], retries=2, retry_on=PickleError, on_error="skip", key=lambda x: 0)
    assert list(m) == ["int", "int"]
    assert (m.stats().done, m.stats().failed, m.stats().retried) == (2, 1, 2)


def test_an_item_that_the_worker_cannot_read_is_named(runtime2: Any) -> None:
    with pytest.raises(PickleError, match="cannot be read by the worker") as raised:
        pfor(name, [Unreadable()])
    assert any(note.startswith("item 0: ") for note in raised.value.__notes__)
    assert isinstance(raised.value.__cause__, ValueError)


def test_a_result_that_this_process_cannot_read_ends_the_map(runtime2: Any) -> None:
    for read in (False, True):
        m = pmap(lambda x: Unreadable(), range(3), ahead=1)
        if read:
            threading.Timer(0.01, m.stats).start()  # whoever receives it, next() raises it
        with pytest.raises(ValueError, match="invalid literal"):
            next(m)
        assert list(m) == []


def test_a_result_of_an_executor_is_named_by_its_path(runtime2: Any) -> None:
    def locked() -> Any:
        return {"x": [threading.Lock()]}

    with (
        Executor(1) as executor,
        pytest.raises(PickleError, match=r"the result of .*locked -> \['x'\] -> \[0\] -> _thr"),
    ):
        executor.submit(locked).result(20)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: pmap(name, [1], workers=n),
        lambda n: pmap(name, [1], threads=n),
        lambda n: flow([1]).map(name, n),
        lambda n: flow([1]).each(name, threads=n),
        lambda n: flow([1]).stage(name, n),
    ],
)
def test_more_calls_at_once_than_a_machine_can_hold(make: Any) -> None:
    make(MOST_CALLS)
    with pytest.raises(ValueError, match=f"(workers|threads)= is at most {MOST_CALLS}, not {MOST_CALLS + 1}"):
        make(MOST_CALLS + 1)


def test_more_threads_in_all_processes_than_a_machine_can_hold(runtime2: Any) -> None:
    with pytest.raises(ValueError, match="in each of 2 processes are more than"):
        next(pmap(name, [1], threads=MOST_CALLS))


def test_an_empty_path_of_a_checkpoint(runtime2: Any) -> None:
    with pytest.raises(ValueError, match="not an empty one"):
        pmap(name, [1], checkpoint="")


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


def test_a_process_that_close_kills_is_not_told_of(run: Run) -> None:
    done = run("""
        import time
        from goproc import chan, flow, pmap
        begun = chan()
        def hang(x):
            begun.send(x)
            time.sleep(60)
        m = pmap(hang, range(1), workers=1)
        from goproc import go
        g = go.local(lambda: list(m))
        begun.recv()
        g.cancel()
        g.join()
        m.close()
        print(list(pmap(abs, range(3))))
    """)
    assert (done.status, done.out, done.err) == (0, "[0, 1, 2]\n", ""), done


def test_a_goroutine_that_was_lost_beside_it_is_told_of(run: Run) -> None:
    done = run(
        """
        import time
        from goproc import WorkerDied, chan, go, pmap
        begun, never = chan(), chan()
        waits = go.opts(name="bystander")(never.recv)
        while waits.state == "queued": time.sleep(0.001)
        def hang(x):
            begun.send(x)
            time.sleep(60)
        m = pmap(hang, range(1), workers=1)
        g = go.local(lambda: list(m))
        begun.recv()
        g.cancel()
        g.join()
        m.close()
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


# -- flows, checkpoints ----------------------------------------------------------------------------------------------


LOCK = threading.Lock()


@pytest.mark.parametrize(
    "stages",
    [
        lambda f: f.map(lambda x: [threading.Lock()]),
        lambda f: f.map(lambda x: [threading.Lock()], 2),
        lambda f: f.map(lambda x: [threading.Lock()], 2, ordered=False).map(name),
        lambda f: f.flat_map(lambda x: [[threading.Lock()]]),
    ],
)
def test_a_result_of_a_flow_that_cannot_be_sent_is_named(runtime2: Any, stages: Any) -> None:
    with pytest.raises(PickleError, match=r"cannot pickle the result -> \[0\] -> _thread.lock") as raised:
        list(stages(flow([7, 7, 7])))
    assert raised.value.__notes__[-1].startswith("in the stage '<lambda>' of the flow")


def test_a_result_of_a_flow_that_cannot_be_sent_is_told_with_its_item(runtime2: Any) -> None:
    with pytest.raises(PickleError) as raised:
        flow([7]).map(lambda x: threading.Lock()).map(name).run()
    assert raised.value.__notes__[-1] == "in the stage '<lambda>' of the flow, item 7"


def test_a_function_of_a_flow_that_cannot_be_sent_is_named(runtime2: Any) -> None:
    with pytest.raises(
        PickleError, match=r"cannot pickle <lambda> -> global 'LOCK' -> _thread.lock"
    ) as raised:
        list(flow([7]).map(name).map(lambda x: LOCK))
    assert raised.value.__notes__[-1] == "in the stage '<lambda>' of the flow"


def test_an_item_of_a_flow_that_cannot_be_sent_is_named(runtime2: Any) -> None:
    with pytest.raises(PickleError, match=r"cannot pickle item 1 of the source -> \['x'\] -> _thread.lock"):
        list(flow([1, {"x": LOCK}]).map(name))


def double(x: int) -> int:
    return 2 * x


def test_a_damaged_checkpoint_is_named(runtime2: Any, tmp_path: Any) -> None:
    path = tmp_path / "job.db"
    list(pmap(double, range(1000), checkpoint=path))
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(ValueError, match=r"checkpoint '.*job.db' is damaged"):
        list(pmap(double, range(1000), checkpoint=path))


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
