"""The program's own children: what waits for any child, or counts SIGCHLD, sees those that the program has started."""

from __future__ import annotations

import programs
import pytest
from programs import Run

WAYS = {
    "wait": "os.wait",
    "waitpid": "lambda: os.waitpid(-1, 0)",
    "wait3": "lambda: os.wait3(0)",
    "waitid": "lambda: os.waitid(os.P_ALL, 0, os.WEXITED)",
    "group": "lambda: os.waitpid(0, 0)",
}


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("way", WAYS)
def test_waiting_for_any_child_ends(run: Run, how: str, way: str) -> None:
    script = f"""
        import os, warnings
        warnings.simplefilter("ignore")
        from goproc import go
        wait = {WAYS[way]}
        def children():
            for i in range(3):
                if os.fork() == 0:
                    os._exit(i)
            n = 0
            try:
                while True:
                    wait()
                    n += 1
            except ChildProcessError:
                return n
        go.on(1)(int).result()
        print(children(), go.on(1)(children).result(), go.on(2)(children).result())
    """
    assert programs.ok(run(script, how=how)) == "3 3 3\n"


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("where", ["main", "thread"])
def test_sigchld_tells_of_the_programs_children(run: Run, where: str, how: str) -> None:
    """Also where a thread that ends has started the runtime: the workers live on."""
    script = f"""
        import os, signal, subprocess, threading, time
        import goproc
        from goproc import go
        told = []
        signal.signal(signal.SIGCHLD, lambda *_: told.append(1))
        def use():
            assert [go.on(p)(os.getppid).result() for p in goproc.workers()] * 2
        if {where!r} == "thread":
            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
        else:
            use()
        before = len(told)
        assert subprocess.run(["true"]).returncode == 0
        for i in range(3):
            assert go.on(1)(int).result() == 0
        print(before, len(told))
    """
    assert programs.ok(run(script, how=how)) == "0 1\n"


@pytest.mark.parametrize("how", ["goproc", "python"])
def test_no_signal_at_the_end_of_a_runtime(run: Run, how: str) -> None:
    script = """
        import os, signal
        import goproc
        told = []
        signal.signal(signal.SIGCHLD, lambda *_: told.append(1))
        for i in range(2):
            with goproc.runtime(procs=2):
                assert goproc.go.on(1)(int).result() == 0
        try:
            print(os.wait())
        except ChildProcessError:
            print("none", told)
    """
    assert programs.ok(run(script, how=how, procs=None)) == "none []\n"


def test_ignored_sigchld(run: Run) -> None:
    """Children whose end is ignored are collected by the kernel; the zygote must not be lost that way."""
    script = """
        import signal
        from goproc import go, procs
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print(sum(go.on(p)(int, p).result() for p in (1, 2)))
    """
    assert programs.ok(run(script)) == "3\n"


def test_a_keeper_holds_no_files(run: Run) -> None:
    """Or the reader of a pipe would wait for its end in vain."""
    script = """
        import os
        r, w = os.pipe()
        os.set_inheritable(w, True)
        from goproc import go
        go.on(1)(int).result()
        os.close(w)
        print(os.read(r, 1))
    """
    assert programs.ok(run(script)) == "b''\n"
