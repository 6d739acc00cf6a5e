"""Processes that a program starts by itself, from main and from goroutines."""

from __future__ import annotations

from pathlib import Path

import programs
import pytest
from programs import Run, Start


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("proc", [0, 1])
@pytest.mark.parametrize("end", ["os._exit(7)", "sys.exit(7)", "raise SystemExit(7)"])
def test_a_forked_child_gets_a_clear_error(run: Run, proc: int, end: str) -> None:
    script = f"""
        import os, sys, warnings
        import goproc
        from goproc import go, chan, RuntimeStopped
        ch = chan(1)
        ch.send("kept")
        def work():
            warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
            g, at = go(int), goproc.Atomic(1)
            pid = os.fork()
            if pid == 0:
                for use in (lambda: ch.recv(), lambda: ch.try_send(1), lambda: chan(1), lambda: go(int), lambda: len(ch),
                            lambda: g.result(), lambda: at.load(), lambda: goproc.runtime(procs=2).__enter__(),
                            lambda: ch.close(), lambda: goproc.sleep(0), lambda: goproc.WaitGroup()):
                    try: print("gave", use())
                    except RuntimeError as e: print(type(e).__name__, "fork" in str(e))
                sys.stdout.flush()
                {end}
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if {proc}:
            print("status", go.on(1)(work).result())
        else:
            print("status", work())
        print(ch.recv(), go.on(1)(int).result())
    """
    done = run(script)
    assert (done.status, done.err) == (0, ""), done
    lines = done.out.splitlines()
    assert lines[-2:] == ["status 7", "kept 0"]
    assert set(lines[:-2]) <= {"RuntimeStopped True", "RuntimeError True", "gave None"}, done.out
    assert lines.count("gave None") <= 1  # sleep(0)


@pytest.mark.parametrize("proc", [0, 1])
def test_forked_children_that_run_on(run: Run, proc: int) -> None:
    """A child that returns from main as its parent does ends its own interpreter and not the program."""
    script = f"""
        import os, sys, warnings
        from goproc import go, chan
        go.on(1)(int).result()
        def work():
            warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
            if (pid := os.fork()) == 0:
                print("child", flush=True)
                return "child"
            assert os.waitpid(pid, 0)[1] == 0
            return "parent"
        print(go.on({proc})(work).result() if {proc} else work())
        if os.getpid() == os.getsid(0): print(go.on(1)(int).result())
    """
    done = run(script)
    assert (done.status, done.err) == (0, ""), done
    if proc == 0:
        assert done.out == "child\nchild\nparent\n0\n"
    else:
        assert done.out in ("child\nparent\n0\n",)


@pytest.mark.parametrize("proc", [0, 1])
def test_subprocess_in_goroutines(run: Run, proc: int) -> None:
    script = f"""
        import os, subprocess, sys
        from goproc import go, WaitGroup
        def work(i):
            done = subprocess.run([sys.executable, "-S", "-c", f"print({{i}} + 1); raise SystemExit({{i}})"], capture_output=True, text=True)
            return done.stdout, done.returncode, os.system(f"exit {{i}}") >> 8, os.popen("echo shell").read()
        print([go.on({proc})(work, i).result() for i in range(2)])
    """
    done = run(script)
    assert (done.status, done.err) == (0, ""), done
    assert done.out == "[('1\\n', 0, 0, 'shell\\n'), ('2\\n', 1, 1, 'shell\\n')]\n"


@pytest.mark.parametrize("proc", [0, 1])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_in_goroutines(run: Run, tmp_path: Path, proc: int, method: str) -> None:
    (tmp_path / "functions.py").write_text("def square(x): return x * x\n")
    script = f"""
        import multiprocessing, warnings
        warnings.simplefilter("ignore")
        from goproc import go
        import functions
        def work():
            context = multiprocessing.get_context("{method}")
            with context.Pool(2) as pool: return pool.map(functions.square, range(5))
        def main():
            go.on(1)(int).result()
            print(go.on(1)(work).result() if {proc} else work(), flush=True)
        if __name__ == "__main__": main()
    """
    done = run(script, gone=5.0)  # its helper processes end when they notice
    assert (done.status, done.out, done.err) == (0, "[0, 1, 4, 9, 16]\n", ""), done


@pytest.mark.parametrize("proc", [0, 1])
def test_a_multiprocessing_process_with_a_function_of_main(run: Run, proc: int) -> None:
    script = f"""
        import multiprocessing, warnings
        from concurrent.futures import ProcessPoolExecutor
        warnings.simplefilter("ignore")
        from goproc import go
        context = multiprocessing.get_context("fork")
        def put(queue, value): queue.put(value + 1)
        def work():
            queue = context.SimpleQueue()
            p = context.Process(target=put, args=(queue, 4))
            p.start()
            value = queue.get()
            p.join()
            with ProcessPoolExecutor(1, mp_context=context) as pool: return value, p.exitcode, pool.submit(pow, 2, 5).result()
        print(go.on(1)(work).result() if {proc} else work())
        print(go.on(1)(int).result())
    """
    done = run(script)
    assert (done.status, done.out, done.err) == (0, "(5, 0, 32)\n0\n", ""), done


@pytest.mark.parametrize("daemon", [False, True])
def test_programs_of_workers_end_with_the_program(start: Start, daemon: bool) -> None:
    """A program that is started to outlive the worker has a session of its own, and is left alone."""
    script = f"""
        import subprocess
        from goproc import go
        print(go.on(1)(lambda: subprocess.Popen(["sleep", "60"], start_new_session={daemon}).pid).result())
    """
    with start(script) as program:
        assert program.process.wait(10) == 0
        if daemon:
            assert programs.eventually(lambda: [p.name for p in program.alive()] == ["sleep"])
        else:
            assert program.alive() == []


def test_a_manager_of_multiprocessing(run: Run) -> None:
    """Its proxies work in every process: all have the key that the host has."""
    script = """
        import multiprocessing
        from goproc import go, procs
        def put(d, k): d[k] = k * k
        if __name__ == "__main__":
            with multiprocessing.Manager() as manager:
                d = manager.dict()
                for i in range(procs() + 1): go.on(i)(put, d, i).result()
                print(dict(d))
    """
    done = run(script, procs=3)
    assert (done.status, done.out, done.err) == (0, "{0: 0, 1: 1, 2: 4, 3: 9}\n", ""), done
