"""Setting up each process: --init, runtime(init=...), worker_local, GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import Run, ok

INIT = """
    import builtins
    from goproc import go, proc, procs, runtime
    def setup(): builtins.DONE = getattr(builtins, "DONE", 0) + 1
    def done(): return DONE
"""


def test_once_in_each_process_the_host_included(run: Run) -> None:
    script = (
        INIT
        + """
    with runtime(procs=2, init=setup):
        print([go.on(p)(done).result() for p in (0, 1, 2, 1)])
    """
    )
    assert ok(run(script)) == "[1, 1, 1, 1]\n"


def test_before_the_first_goroutine_also_if_it_blocks(run: Run) -> None:
    script = """
        import builtins, logging, sys
        from goproc import chan, go, proc, runtime, sleep
        logging.basicConfig(level=logging.INFO, format="%(proc)d %(message)s", stream=sys.stdout)
        def setup():
            ch = chan(1)
            sleep(0.05)  # it blocks, and others of its process could run
            ch.send(7)
            builtins.DONE = ch.recv()
            if proc() == 1: logging.info("set up")
        def done(): return DONE
        with runtime(procs=2, init=setup):
            # The first is for worker 1: without it the other one may have made all calls before that is set up.
            print({g.result() for g in [go.on(1)(done), *(go(done) for _ in range(50))]})
    """
    assert sorted(ok(run(script)).splitlines()) == ["1 set up", "{7}"]


def test_by_name_on_the_command_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import goproc\nseen = []\ndef setup(): seen.append(goproc.proc())\n")
    script = """
        import mine
        from goproc import go
        def seen(): return mine.seen
        print([go.on(p)(seen).result() for p in (0, 1, 2)])
    """
    assert ok(run(script, options=["--init", "mine:setup"])) == "[[0], [1], [2]]\n"
    done = run(script, options=["--init", "mine"])
    assert (
        done.status == 2
        and "--init: 'mine' is not of the form module:function, such as mymodule:setup" in done.err
    )
    done = run(script, options=["--init", "mine:missing"])
    assert done.status != 0 and "init) failed in the process of the script" in done.err
    assert "AttributeError: module 'mine' has no attribute 'missing'" in done.err


@pytest.mark.parametrize("number", [0, 1])
def test_a_failure_is_a_clear_error(run: Run, number: int) -> None:
    script = f"""
        from goproc import go, proc, runtime
        def setup():
            if proc() == {number}: raise ValueError("no database")
        try:
            with runtime(procs=2, init=setup): go.on(1)(int).result()
        except ValueError as exc: print("raised at with", exc)
    """
    done = run(script)
    if number == 0:
        assert ok(done) == "raised at with no database\n"
    else:
        assert done.status == 2 and done.err.startswith("panic: no database\n")
        assert "the function setup that sets up each process (init) failed in worker 1" in done.err


def test_a_worker_that_is_replaced_is_set_up_again(run: Run) -> None:
    script = (
        INIT
        + """
    import logging, os, signal, sys
    from goproc import errors, yield_now
    handled = []
    class Handler(logging.StreamHandler):
        def emit(self, record):
            super().emit(record)
            handled.append(record)
    logging.basicConfig(level=logging.INFO, format="%(proc)d %(message)s", handlers=[Handler(sys.stdout)])
    def die():
        logging.info("last words")
        os.kill(os.getpid(), signal.SIGKILL)
    def after():
        logging.debug("of the new one")
        return DONE, os.environ["CUDA_VISIBLE_DEVICES"]
    with runtime(procs=2, init=setup, gpus="0,1", on_death="restart"):
        logging.getLogger().setLevel(logging.DEBUG)
        try: go.on(2)(die).result()
        except errors.WorkerDied:
            while not handled: yield_now()  # the death may be known before the record is handled
            print("died")
        print(go.on(2)(after).result())
    """
    )
    done = run(script)
    assert (done.status, done.out) == (0, "2 last words\ndied\n2 of the new one\n(1, '1')\n"), done


def test_bad_values(run: Run) -> None:
    script = """
        from goproc import runtime
        for options in [{"init": 3}, {"init": "x"}, {"gpus": "a"}, {"gpus": "1,1"}, {"gpus": "0", "per_gpu": 0},
                        {"per_gpu": 2}, {"gpus": "0", "per_gpu": 1, "procs": 2}]:
            try: runtime(**options)
            except (TypeError, ValueError) as exc: print(type(exc).__name__, exc)
    """
    lines = ok(run(script)).splitlines()
    assert len(lines) == 7 and lines[0].startswith("TypeError runtime(init=...) takes a function")


# -- worker_local --------------------------------------------------------------------------------------------

LOCAL = """
    import os, threading, time
    from goproc import blocking, go, proc, sleep, worker_local
    class Connection:
        made = 0
        def __init__(self):
            Connection.made += 1
            sleep(0.02)  # it blocks, and another could begin to make one
            self.pid, self.uses = os.getpid(), 0
        def close(self): print("closed", proc(), flush=True)
    connection = worker_local(Connection)
"""


def test_a_value_per_process_made_at_first_use(run: Run) -> None:
    script = (
        LOCAL
        + """
    def use():
        c = connection()
        assert c is connection() and c.pid == os.getpid()
        c.uses += 1
        return c.uses
    print([go.on(p)(use).result() for p in (1, 1, 2, 0, 1)])
    """
    )
    assert sorted(ok(run(script)).splitlines()) == ["[1, 2, 1, 1, 3]", "closed 0", "closed 1", "closed 2"]


def test_goroutines_and_threads_at_the_same_moment_make_one(run: Run) -> None:
    script = (
        LOCAL
        + """
    def job():
        found = []
        threads = [threading.Thread(target=lambda: found.append(connection())) for _ in range(3)]
        gs = [go.local(lambda: found.append(connection())) for _ in range(3)]
        for t in threads: t.start()
        for g in gs: g.join()
        for t in threads: blocking(t.join)
        return len({id(c) for c in found}), len(found)
    print(go.on(1)(job).result())
    """
    )
    assert ok(run(script)).splitlines()[0] == "(1, 6)"


def test_by_argument_by_channel_in_a_closure_and_in_a_module(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from goproc import worker_local\nvalue = worker_local(lambda: ['module'])\n"
    )
    script = """
        import mine
        from goproc import chan, go, worker_local
        def outer():
            value = worker_local(lambda: ["closure"])
            def add(ch, given):
                value().append(1)
                given().append(2)
                mine.value().append(3)
                return value(), given(), ch.recv()() is value(), mine.value()
            ch = chan(1)
            ch.send(value)
            return go.on(1)(add, ch, value).result()
        print(outer(), mine.value())
    """
    assert ok(run(script)) == "(['closure', 1, 2], ['closure', 1, 2], True, ['module', 3]) ['module']\n"


def test_a_factory_that_fails_or_asks_for_itself(run: Run) -> None:
    script = """
        from goproc import go, worker_local
        tries = []
        def make():
            tries.append(1)
            if len(tries) == 1: raise OSError("not yet")
            return len(tries)
        value = worker_local(make)
        def use():
            try: return value()
            except OSError as exc: return str(exc)
        print(use(), use(), use())
        again = worker_local(lambda: again())
        try: again()
        except RuntimeError as exc: print(exc)
        try: worker_local(5)
        except TypeError as exc: print(exc)
        print(repr(worker_local(int)))
    """
    assert ok(run(script)).splitlines() == [
        "not yet 2 2",
        "the factory of a worker_local() asks for the value that it is to make",
        "worker_local() takes a function that makes the value, not int (use worker_local(lambda: ...))",
        "<worker_local not made yet>",
    ]


# -- GPUs ----------------------------------------------------------------------------------------------------

SEEN = """
    import os
    from goproc import go, procs, runtime
    def seen(): return os.environ.get("CUDA_VISIBLE_DEVICES")
    def all_seen(): return [go.on(p)(seen).result() for p in range(procs() + 1)]
"""


@pytest.mark.parametrize(
    ("options", "variable", "expected"),
    [
        (["--gpus", "0,1", "--procs", "4"], None, [None, "0", "1", "0", "1"]),
        (["--gpus", "0,1", "--per-gpu", "2"], None, [None, "0", "1", "0", "1"]),
        (["--gpus", "auto", "--procs", "3"], "4,7", ["4,7", "4", "7", "4"]),
        (["--gpus", "1", "--procs", "1"], "4,7", ["4,7", "7"]),
        (["--gpus", "7", "--procs", "1"], "4,7", ["4,7", "7"]),
        (["--gpus", "auto", "--procs", "1"], "", ["", ""]),
        (["--gpus", "auto", "--procs", "2"], "-1", ["-1", "-1", "-1"]),
        (["--gpus", "auto", "--procs", "2"], "4,-1,7", ["4,-1,7", "4", "4"]),
    ],
)
def test_each_worker_sees_its_gpu(
    run: Run, options: list[str], variable: str | None, expected: list[str | None]
) -> None:
    script = SEEN + "    print(all_seen())\n"
    done = run(script, procs=None, options=options, env={"CUDA_VISIBLE_DEVICES": variable})
    assert ok(done) == f"{expected}\n"


def test_a_module_of_the_script_sees_the_gpu_at_its_import(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cuda.py").write_text("import os\nVISIBLE = os.environ.get('CUDA_VISIBLE_DEVICES')\n")
    script = (
        SEEN
        + """
    import cuda
    def at_import(): return cuda.VISIBLE
    with runtime(procs=2, gpus=[3, 5]):
        print([go.on(p)(at_import).result() for p in (0, 1, 2)], all_seen())
    """
    )
    assert ok(run(script, env={"CUDA_VISIBLE_DEVICES": None})) == "[None, '3', '5'] [None, '3', '5']\n"


def test_a_gpu_that_is_not_visible(run: Run) -> None:
    script = SEEN + "    print(all_seen())\n"
    done = run(script, options=["--gpus", "9"], env={"CUDA_VISIBLE_DEVICES": "4,7"})
    assert "ValueError: GOPROC_GPUS: '9' is not among the GPUs of CUDA_VISIBLE_DEVICES=4,7" in done.err


def test_a_gpu_where_cuda_is_to_see_none(run: Run) -> None:
    script = SEEN + "    print(all_seen())\n"
    done = run(script, options=["--gpus", "0"], env={"CUDA_VISIBLE_DEVICES": "-1"})
    assert "ValueError: GOPROC_GPUS: '0' is not among the GPUs of CUDA_VISIBLE_DEVICES=-1" in done.err
