"""Ctrl-C and goroutines: main hears of it once, wherever it comes, and the program can go on after it."""

from __future__ import annotations

import re
import signal
import textwrap
import time

import programs
import pytest
from programs import Run, Start

from goproc._proc import sigint

BUSY = {
    "go": "[go(f, i) for i in range(30)][-1].result()",
    "go.local": "[go.local(f, i) for i in range(30)][-1].result()",
    "WaitGroup": "wg = WaitGroup(); [wg.go(f, i) for i in range(30)]; wg.wait()",
    "Group": """
        with Group() as group:
            for i in range(20): group.go(f, i)""",
    "Group with a limit": "g = Group(limit=3); [g.go(f, i) for i in range(20)]; g.wait()",
}


@pytest.mark.parametrize("busy", list(BUSY))
def test_ctrl_c_again_and_again_loses_count_of_nothing(run: Run, busy: str) -> None:
    """Wherever in goproc it comes, main hears of it once, and what goproc has begun is done or undone."""
    script = f"""
        import os, random, signal, threading, time
        from goproc import Group, WaitGroup, go, procs, sleep
        def f(x): return x
        def work():
{textwrap.indent(textwrap.dedent(BUSY[busy]).strip(), " " * 12)}
        procs()
        work()
        ready, over = threading.Event(), False
        def presses():
            while ready.wait() and not over:
                ready.clear()
                time.sleep(random.random() * 0.01)
                os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=presses, daemon=True).start()
        for _ in range(60):
            try:
                ready.set()
                while True: work()
            except KeyboardInterrupt:
                pass
            sleep(0.001)  # an interrupt that came twice would be raised here
            work()  # not interrupted a second time, and nothing is left behind
        over = True
        print("fine", flush=True)
    """
    done = run(script, limit=40)
    assert (done.status, done.out, done.err) == (0, "fine\n", ""), done


@pytest.mark.parametrize("work", ["time.sleep(60)", "while True: sum(range(10000))"])
def test_ctrl_c_in_a_group_whose_members_do_not_react(start: Start, work: str) -> None:
    script = f"""
        import time
        from goproc import Group, WaitGroup
        def member():
            started.done()
            {work}
        started = WaitGroup()
        started.add(4)
        with Group() as g:
            for _ in range(4): g.go(member)
            started.wait()
            print("ready", flush=True)
    """
    with start(script, procs=4) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait(4.0)
    assert done.status == 130 and done.err.startswith("goproc: interrupted (Ctrl-C)"), done
    assert done.err.count("\n") == 1, done


@pytest.mark.parametrize("error", ["Stop('s')", "KeyboardInterrupt('s')"])
@pytest.mark.parametrize("start_it", ["go.on(0)", "go.local"])
def test_an_interrupt_raised_by_a_goroutine_of_the_host_comes_once(
    run: Run, start_it: str, error: str
) -> None:
    script = f"""
        from goproc import go, sleep, chan
        class Stop(KeyboardInterrupt): pass
        def f(): raise {error}
        def told(wait):
            try: wait()
            except KeyboardInterrupt as e: return repr(e)
            return "nothing"
        g = {start_it}(f)
        print(told(g.result), told(lambda: sleep(0.01)), told(lambda: chan(1).send(1)))
        g = {start_it}(f)
        print(told(lambda: repr(g.exception())), told(lambda: sleep(0.01)))
        g = {start_it}(f)
        print(told(lambda: sleep(20)), told(lambda: sleep(0.01)), told(g.result))
        {start_it}(f)
        print(told(lambda: sleep(20)), told(lambda: sleep(0.01)))
    """
    done = run(textwrap.dedent(script))
    assert (done.status, done.err) == (0, ""), done
    assert done.out.splitlines() == [
        f"{error} nothing nothing",
        "nothing nothing",
        f"{error} nothing {error}",
        f"{error} nothing",
    ]


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "Stop"])
@pytest.mark.parametrize("proc", ["go.local", "go.on(0)", "go.on(1)"])
@pytest.mark.parametrize("read", ["result", "exception", "select", "as_completed"])
def test_an_interrupt_that_a_goroutine_raises_comes_once(run: Run, kind: str, proc: str, read: str) -> None:
    """Main reads it from the handle, or is interrupted; never both."""
    script = f"""
        from goproc import as_completed, go, select, sleep
        class Stop(KeyboardInterrupt): pass
        def f(): raise {kind}("x")
        def read(g):
            if {read!r} == "select": select(g)
            if {read!r} == "as_completed": assert [*as_completed([g])] == [g]
            return g.exception() if {read!r} == "exception" else g.result()
        came = []  # sleep() would raise an interrupt that comes twice
        for _ in range(3):
            try:
                exc = read({proc}(f))
                assert type(exc) is {kind} and {read!r} == "exception"
                came.append("read")
            except {kind}: came.append("read")
            for _ in range(3):
                try: sleep(0.005)
                except KeyboardInterrupt: came.append("again")
        print(*came)
    """
    done = run(script)
    assert (done.status, done.out, done.err) == (0, "read read read\n", ""), done


def test_an_interrupt_that_nobody_reads_comes_to_main(run: Run) -> None:
    """A handler of the program has raised it in a goroutine of the host, say."""
    script = """
        from goproc import go, sleep
        class Stop(KeyboardInterrupt): pass
        def f(): raise Stop("x")
        came = 0  # sleep() raises what comes to main
        kept = []
        for start in (lambda: go.local(f).join(), lambda: go.on(0)(f) and None, lambda: kept.append(go.on(0)(f))):
            try:
                start()
                for _ in range(3): sleep(0.005)
            except Stop: came += 1
            sleep(0.005)
        print(came)
    """
    done = run(script)
    assert (done.status, done.out, done.err) == (0, "3\n", ""), done


CHILDREN = {
    "run": "subprocess.run(['sleep', '41'])",
    "again and again": "while True: subprocess.run(['sleep', '41'])",
    "a shell": "subprocess.run('sleep 41; sleep 41', shell=True)",
    "system": "os.system('sleep 41')",
    "ignores SIGINT": "subprocess.run(['sh', '-c', 'trap \"\" INT; sleep 41'])",
    "not waited for": "subprocess.Popen(['sleep', '41']); time.sleep(60)",
    "in a session of its own": "subprocess.run(['sleep', '41'], start_new_session=True)",
    "multiprocessing": "multiprocessing.get_context('fork').Process(target=time.sleep, args=(41,)).start(); time.sleep(41)",
}


@pytest.mark.parametrize("to", ["group", "host"])
@pytest.mark.parametrize("child", CHILDREN)
def test_ctrl_c_ends_the_child_processes_of_goroutines(start: Start, child: str, to: str) -> None:
    script = f"""
        import multiprocessing, os, subprocess, time, warnings
        from goproc import go, chan, sleep
        def job(i, began):
            warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
            began.send(i)
            {CHILDREN[child]}
        began = chan(2)
        gs = [go(job, i, began) for i in range(8)]
        print("begun", began.recv(), began.recv(), flush=True)
        for i in began: print("another", i, flush=True)
    """
    with start(script) as program:
        program.wait_for("begun")
        name, count = ("goproc-", 4) if child == "multiprocessing" else ("sleep", 2)
        assert programs.eventually(lambda: sum(p.name.startswith(name) for p in program.alive()) >= count)
        program.interrupt() if to == "group" else program.kill(number=signal.SIGINT)
        done = program.wait(5.0)
    assert done.status == 130 and "another" not in done.out, done


@pytest.mark.parametrize("to", ["group", "host"])
def test_a_program_that_catches_ctrl_c_goes_on(start: Start, to: str) -> None:
    """No goroutine begins until main uses goproc again; then all do."""
    script = """
        import os, time
        from goproc import go, chan, sleep
        heard = __file__ + ".heard"
        if os.path.exists(heard): os.remove(heard)
        def first(began):
            began.send(os.getpid())
            while not os.path.exists(heard): time.sleep(0.01)
        def job(i): return i, time.monotonic()
        began = chan(2)
        held = [go.on(proc)(first, began) for proc in (1, 2)]
        gs = [go(job, i) for i in range(6)]
        began.recv(), began.recv()
        try:
            print("ready", flush=True)
            while True: sleep(60)
        except KeyboardInterrupt:
            open(heard, "w").close()
            while any(g.state != "done" for g in held): time.sleep(0.01)
            time.sleep(0.1)  # so long the workers have nothing to do but the other goroutines
            released = time.monotonic()
            results = [g.result() for g in gs]
        print([i for i, when in results], released, all(when > released for i, when in results))
        print([go.on(proc)(int, proc).result() for proc in (0, 1, 2)])
    """
    in_time = 0
    while in_time < 2:
        with start(script) as program:
            program.wait_for("ready")
            pressed = time.monotonic()
            program.interrupt() if to == "group" else program.kill(number=signal.SIGINT)
            done = program.wait(10.0)
        assert (done.status, done.err) == (0, ""), done
        found = re.fullmatch(r"ready\n\[0, 1, 2, 3, 4, 5\] (\S+) (\w+)\n\[0, 1, 2\]\n", done.out)
        assert found, done
        if float(found[1]) < pressed + sigint.HOLD:  # main was soon enough: a hold ends by itself
            assert found[2] == "True", done
            in_time += 1


CAUGHT = {
    "polls": "while any(g.state != 'done' for g in gs): time.sleep(0.01)",
    "waits in a thread": "t = threading.Thread(target=lambda: [g.join() for g in gs]); t.start(); t.join()",
    "returns": "",
}


@pytest.mark.parametrize("then", CAUGHT)
def test_goroutines_begin_again_though_main_never_blocks(start: Start, then: str) -> None:
    script = f"""
        import threading, time
        from goproc import go, chan
        go.on(1)(int).result()
        try:
            print("ready", flush=True)
            chan().recv(timeout=60)
        except KeyboardInterrupt:
            gs = [go(int) for _ in range(4)]
            {CAUGHT[then]}
        print("done")
    """
    with start(script) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait(10.0)
    assert (done.status, done.out, done.err) == (0, "ready\ndone\n", ""), done


def test_goroutines_begin_again_where_the_program_answers_ctrl_c_itself(start: Start) -> None:
    script = """
        import signal, time
        from goproc import go
        pressed = []
        signal.signal(signal.SIGINT, lambda *args: pressed.append(1))
        go.on(1)(int).result()
        print("ready", flush=True)
        while not pressed: time.sleep(0.01)
        print([go(int).result() for _ in range(4)])
    """
    with start(script) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait(10.0)
    assert (done.status, done.out, done.err) == (0, "ready\n[0, 0, 0, 0]\n", ""), done


@pytest.mark.parametrize("line", ["import goproc", "from goproc import go"])
def test_ctrl_c_in_an_import_of_a_program_of_goproc_run(start: Start, line: str) -> None:
    """Before the runtime runs the program ends as it does later: with one line, and in order."""
    script = f"""
        import atexit, sys, time
        atexit.register(print, "at exit")
        {line}
        class Slow:
            def find_spec(self, name, path=None, target=None):
                if name == "imports_much":
                    sys.stdout.write("importing\\n")
                    sys.stdout.flush()
                    time.sleep(60)
        sys.meta_path.insert(0, Slow())
        import imports_much
    """
    with start(script) as program:
        program.wait_for("importing")
        program.interrupt()
        done = program.wait(5.0)
    assert (done.status, done.out) == (130, "importing\nat exit\n"), done
    assert done.err == "goproc: interrupted (Ctrl-C)\n", done


def test_ctrl_c_in_an_import_with_a_hook_of_the_program(start: Start) -> None:
    script = """
        import sys
        sys.excepthook = lambda kind, exc, tb: print("hook", kind.__name__)
        import goproc
        raise KeyboardInterrupt
    """
    with start(script) as program:
        done = program.wait(5.0)
    assert done.out == "hook KeyboardInterrupt\n", done
