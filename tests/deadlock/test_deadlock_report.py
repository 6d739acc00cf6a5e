"""The report of a deadlock: its text, and what holds it off."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import Run, environment, eventually, start
from reports import entries, headers

ASLEEP = "fatal error: all goroutines are asleep - deadlock!\n\n"


@pytest.mark.parametrize("procs", [0, 1, 4])
def test_a_deadlock(run: Run, procs: int) -> None:
    script = """
        from goproc import WaitGroup, chan, go, procs, sleep
        ch = chan()
        def waits(wg): wg.wait()
        wg = WaitGroup()
        wg.add(1)
        for i in range(procs() + 1): go.on(i).opts(labels={"proc": i})(waits, wg)
        print("unfinished", end="")
        def main():
            ch.send(1)
        main()
    """
    done = run(script, procs=procs)
    assert (done.status, done.out) == (2, "unfinished") and done.err.startswith(
        ASLEEP + "goroutine 1 [chan send]:\n"
    ), done
    found = entries(done.err[len(ASLEEP) :])
    main = found.pop(1)
    assert main.functions == ["<module>", "main"] and re.search(
        r", waits on <chan 0x[0-9a-f]+ 0/0>$", main.about
    )
    assert len(found) == procs + 1 and {e.state for e in found.values()} == {"sync.WaitGroup.Wait"}
    assert {e.labels for e in found.values()} == {f"{{proc: {i}}}" for i in range(procs + 1)}
    assert all(e.functions == ["waits"] and "<WaitGroup" in e.about for e in found.values())


def test_a_deadlock_while_a_worker_is_stopped_is_none(tmp_path: Path) -> None:
    """Nobody knows what a stopped process was about to do; once it goes on, all are asleep."""
    script = """
        import os, signal
        from goproc import go, chan
        ready = chan(1)
        def stops():
            ready.send(1)
            os.kill(os.getpid(), signal.SIGSTOP)
            chan().recv()
        go.on(1)(stops)
        ready.recv()
        print("ready", flush=True)
        chan().recv()
    """
    with start(tmp_path, script) as program:
        program.wait_for("ready")
        worker = program.worker(1)
        assert eventually(lambda: _state(worker) == "T")
        time.sleep(0.3)  # nothing is to happen
        assert program.texts()[1] == ""
        program.kill(worker, signal.SIGCONT)
        done = program.wait()
    assert done.status == 2 and done.err.startswith(ASLEEP) and headers(done.err) == 2, done


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(
    "wake",
    [
        "signal.signal(signal.SIGUSR1, handler); later(lambda: os.kill(os.getpid(), signal.SIGUSR1))",
        "signal.signal(signal.SIGALRM, handler); signal.setitimer(signal.ITIMER_REAL, 1.5)",
        "signal.signal(signal.SIGALRM, handler); signal.alarm(2)",
    ],
)
def test_a_signal_can_still_come(run: Run, wake: str) -> None:
    """A handler of the program's own, or a running timer: nothing is reported, however long it takes."""
    script = f"""
        import os, signal, subprocess, sys
        from goproc import chan, go
        ch = chan(1)
        def handler(*a): ch.send("woken")
        def later(f): subprocess.Popen(["sh", "-c", f"sleep 1.5; kill -USR1 {{os.getpid()}}"])
        go.on(1)(chan().recv)
        {wake}
        print(ch.recv())
    """
    done = run(script, gone=5.0)
    assert (done.status, done.out, done.err) == (0, "woken\n", "")


def test_at_a_prompt_main_is_interrupted(tmp_path: Path) -> None:
    typed = """
from goproc import *
g = go.on(1)(chan().recv)
chan().recv()
try: chan().recv()
except RuntimeError as error: print(str(error).startswith("fatal error: all goroutines are asleep - deadlock!"))

print(go.on(1)(int, "5").result(), g.state)
"""
    line = [sys.executable, "-i", "-c", ""]
    done = subprocess.run(
        line,
        input=typed.replace("import *", "import go, chan"),
        env=environment(GOPROC_PROCS="2"),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0 and done.stdout == "True\n5 running\n", done
    assert (
        "RuntimeError: fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:"
        in done.stderr
    )


@pytest.mark.parametrize("procs", [0, 2])
def test_a_thread_that_waits_for_ever_when_main_has_returned(run: Run, procs: int) -> None:
    """Python waits for its threads; one that nobody can wake is reported instead."""
    script = """
        import threading
        from goproc import chan
        c = chan()
        threading.Thread(target=c.recv, name="stuck").start()
        print("main ends")
    """
    done = run(script, procs=procs)
    assert (done.status, done.out) == (2, "main ends\n"), done
    assert (
        done.err.startswith("fatal error: all goroutines are asleep - deadlock!\n") and "'stuck'" in done.err
    )


@pytest.mark.parametrize("procs", [0, 2])
def test_a_thread_that_is_still_served_when_main_has_returned(run: Run, procs: int) -> None:
    script = """
        import threading
        from goproc import chan, go, procs, sleep
        def slow(c):
            for i in range(3):
                sleep(0.1)  # main has long returned
                c.send(i)
            c.close()
        c = chan()
        threading.Thread(target=lambda: print(list(c))).start()
        go.on(procs())(slow, c)
    """
    done = run(script, procs=procs)
    assert (done.status, done.out, done.err) == (0, "[0, 1, 2]\n", "")


def test_the_report_can_be_switched_off(tmp_path: Path) -> None:
    script = """
        import os
        os.environ["GOPROC_DEADLOCK"] = "0"
        from goproc import chan
        print("ready", flush=True)
        chan().recv()
    """
    with start(tmp_path, script) as program:
        program.wait_for("ready")
        time.sleep(0.5)  # nothing is to happen
        assert program.process.poll() is None
        program.kill()
        program.wait()
