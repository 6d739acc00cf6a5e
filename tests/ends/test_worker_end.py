"""The end of workers: exit handlers, finalizers, open files, and a limit to how long they take."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from programs import Run, Start, ok

ENDS = {
    "main returns": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "main panics": ("raise ValueError('main')", 2),
    "an unread failure": ("failed = go.on(2)(fail); failed.join()", 2),
    "a runtime block ends": ("ended = True", 0),
}


@pytest.mark.parametrize("busy", ["idle", "waiting", "computing"])
@pytest.mark.parametrize("end", ENDS)
def test_workers_end_in_order(run: Run, tmp_path: Path, end: str, busy: str) -> None:
    line, status = ENDS[end]
    block = "with runtime(procs=2):" if end == "a runtime block ends" else "if True:"
    script = f"""
        import atexit, functools, multiprocessing.util, os, sys, tempfile, weakref
        from goproc import chan, go, runtime
        folder = sys.argv[1]
        def fail(): raise ValueError("nobody reads it")
        def note(text):
            with open(os.path.join(folder, "notes"), "a") as file: file.write(text + "\\n")
        class Thing: pass
        kept = []
        def work():
            kept.append(tempfile.TemporaryDirectory(dir=folder))
            kept.append(open(os.path.join(folder, "text"), "w"))
            kept[-1].write("buffered")
            kept.append(open(os.path.join(folder, "binary"), "wb"))
            kept[-1].write(b"buffered")
            kept.append(Thing())
            weakref.finalize(kept[-1], note, "finalize")
            multiprocessing.util.Finalize(None, note, ("multiprocessing",), exitpriority=1)
            atexit.register(note, "atexit")
            sys.modules["kept"] = kept  # a module keeps it, as a cache would
        def compute(began):
            began.send(None)
            while True: pass
        {block}
            go.on(1)(work).result()
            began = chan()
            if {busy!r} == "waiting": go.on(1)(chan().recv)
            if {busy!r} == "computing":
                go.on(1)(compute, began)
                began.recv()
            {line}
    """
    done = run(script, str(tmp_path), procs=None if block.startswith("with") else 2)
    assert done.status == status, done
    assert sorted((tmp_path / "notes").read_text().split()) == ["atexit", "finalize", "multiprocessing"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert (tmp_path / "text").read_text() == (tmp_path / "binary").read_text() == "buffered"


def test_exit_handlers_run_after_ctrl_c(start: Start, tmp_path: Path) -> None:
    script = """
        import atexit, os, sys
        from goproc import go, chan
        def work(): atexit.register(os.mkdir, sys.argv[1])
        go.on(1)(work).result()
        print("ready", flush=True)
        chan().recv(timeout=60)
    """
    with start(script, str(tmp_path / "made")) as program:
        program.wait_for("ready")
        program.interrupt()
        assert program.wait(5).status == 130
    assert (tmp_path / "made").is_dir()


def test_sigterm_to_a_worker_runs_its_exit_handlers(start: Start, tmp_path: Path) -> None:
    script = """
        import atexit, os, sys
        from goproc import go, chan
        def work(): atexit.register(os.mkdir, sys.argv[1])
        go.on(1)(work).result()
        print("ready", flush=True)
        chan().recv(timeout=60)
    """
    with start(script, str(tmp_path / "made"), env={"GOPROC_ON_DEATH": "exit"}) as program:
        program.wait_for("ready")
        program.kill(program.worker(1), signal.SIGTERM)
        done = program.wait(5)
    assert done.status == 2 and "was killed by signal 15 (SIGTERM)" in done.err, done
    assert (tmp_path / "made").is_dir()


HANGS = {
    "sleeps": "time.sleep(60)",
    "computes": "exec('while True: pass')",
    "in C": "sum(range(10**12))",
    "waits for a goroutine": "chan().recv()",
    "a lock": "threading.Lock().__enter__() or lock.acquire() or lock.acquire()",
}


@pytest.mark.parametrize("how", HANGS)
def test_an_exit_handler_that_hangs_ends_with_the_limit(run: Run, how: str) -> None:
    script = f"""
        import atexit, sys, threading, time
        from goproc import go, chan
        def hang():
            lock = threading.Lock()
            print("begun", flush=True)
            {HANGS[how]}
        go.on(1)(lambda: atexit.register(hang)).result()
        print("main")
        sys.exit(3)
    """
    done = run(script, limit=10.0)
    assert (done.status, done.out) == (3, "main\nbegun\n"), done


def test_a_host_that_is_killed_does_not_leave_exit_handlers_behind(start: Start) -> None:
    script = """
        import atexit, time
        from goproc import go
        def hang():
            print("hangs", flush=True)
            time.sleep(60)
        go.on(1)(lambda: atexit.register(hang)).result()
    """
    with start(script) as program:
        program.wait_for("hangs")
        program.kill()
        assert program.wait().status == -signal.SIGKILL


def test_pools_of_a_goroutine_end_with_their_worker(run: Run) -> None:
    """A ProcessPoolExecutor that nobody has shut down, one of threads, and a multiprocessing.Pool that nobody has closed."""
    script = """
        import concurrent.futures, multiprocessing, sys, types, warnings
        from goproc import go
        def work():
            warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
            context = multiprocessing.get_context("fork")
            processes = concurrent.futures.ProcessPoolExecutor(2, context)
            threads = concurrent.futures.ThreadPoolExecutor(2)
            pool = context.Pool(2)
            sys.modules["kept_by_a_module"] = types.SimpleNamespace(kept=(processes, threads, pool))
            return processes.submit(pow, 2, 5).result(), threads.submit(pow, 2, 6).result(), pool.apply(pow, (2, 7))
        print(go.on(1)(work).result())
    """
    assert ok(run(script)) == "(32, 64, 128)\n"


def test_a_busy_thread_does_not_keep_the_exit_handlers_from_running(run: Run) -> None:
    script = """
        import atexit, concurrent.futures, sys, time, types
        from goproc import go
        def work():
            pool = concurrent.futures.ThreadPoolExecutor(1)
            pool.submit(time.sleep, 60)
            sys.modules["kept_by_a_module"] = types.SimpleNamespace(kept=pool)
            atexit.register(print, "handler")
        go.on(1)(work).result()
        print("main")
    """
    assert ok(run(script)) == "main\nhandler\n"


def test_a_handler_registered_by_an_import_runs_in_each_worker(run: Run, tmp_path: Path) -> None:
    """As if each had imported the module; the zygote, which really does, has no exit handlers."""
    (tmp_path / "registers.py").write_text("import atexit, os\natexit.register(os.write, 1, b'bye\\n')\n")
    script = """
        import registers
        from goproc import go
        def use(): return registers.__name__
        print([go.on(proc)(use).result() for proc in (1, 2)], flush=True)
    """
    assert ok(run(script)) == "['registers', 'registers']\nbye\nbye\nbye\n"


def test_workers_that_have_just_started_end_in_order(run: Run) -> None:
    """Main is over before the host has heard of all its workers."""
    script = """
        import atexit
        from goproc import chan, go
        def work(began):
            atexit.register(print, "handler")
            began.send(None)
            while True: pass
        began = chan()
        go.on(1)(work, began)
        began.recv()
    """
    for _ in range(8):
        assert ok(run(script)) == "handler\n"
