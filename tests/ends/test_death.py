"""Ends that nobody asked for: kill -9 of any process, crashes, SIGTERM."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import time

import pytest
from programs import Run, Start, ok

# What a program may be doing when it is hit. Each prints "ready" once it does it.
DOING = {
    "idle": """
        from goproc import go, chan, procs, sleep
        go.local(sleep, 100)  # else all would be asleep for ever, which is a fatal error
        for i in range(procs() + 1): go.on(i)(chan().recv)
        go.on(1)(int).result()
        print("ready", flush=True)
        chan().recv()
    """,
    "streaming": """
        from goproc import go, chan, procs
        ch = chan(64)
        started = chan(4)
        def produce(ch):
            started.send(1)
            i = 0
            while True:
                ch.send((i, "text", "x" * (i % 200) * (i % 100)))
                i += 1
        for i in range(1, procs() + 1): go.on(i)(produce, ch)
        for _ in range(1, procs() + 1): started.recv()
        for _ in range(1000): ch.recv()
        print("ready", flush=True)
        for _ in ch: pass
    """,
    "spawning": """
        from goproc import go, chan, WaitGroup, yield_now
        wg = WaitGroup()
        said = False
        while True:
            wg.go(pow, 2, 10)
            if wg.count > 1000: wg.wait()
            if not said:
                wg.wait()
                print("ready", flush=True)
                said = True
    """,
    "computing": """
        from goproc import go, chan, procs
        started = chan(4)
        def burn():
            started.send(1)
            while True: pass
        for i in range(1, procs() + 1): go.on(i)(burn)
        for _ in range(1, procs() + 1): started.recv()
        print("ready", flush=True)
        while True: pass
    """,
    "printing": """
        from goproc import go, chan, procs
        started = chan(4)
        def chatter(name):
            started.send(1)
            while True: print(name * 100)
        for i in range(1, procs() + 1): go.on(i)(chatter, str(i))
        for _ in range(1, procs() + 1): started.recv()
        print("ready", flush=True)
        chatter("0")
    """,
}
EACH = pytest.mark.parametrize("doing", list(DOING))
EXIT = {"GOPROC_ON_DEATH": "exit"}  # the policy whose report is looked at here; tests/recovery has the others


# -- kill -9 -------------------------------------------------------------------------------------------------


@EACH
def test_kill_the_host(start: Start, doing: str) -> None:
    with start(DOING[doing], procs=3) as program:
        program.wait_for("ready")
        program.kill()
        assert program.wait().status == -signal.SIGKILL


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.06, 0.08, 0.1, 0.12, 0.15])
def test_kill_the_host_while_it_starts(start: Start, delay: float) -> None:
    with start(DOING["streaming"], procs=4, how="python") as program:
        time.sleep(delay)  # the moment of the death: any will do
        program.kill()
        assert program.wait().status == -signal.SIGKILL


@EACH
def test_kill_the_zygote(start: Start, doing: str) -> None:
    """With another policy than `exit` the program goes on: tests/recovery/test_zygote_died.py."""
    with start(DOING[doing], procs=3, env=EXIT) as program:
        program.wait_for("ready")
        program.kill(program.zygote())
        done = program.wait(5)
    assert done.status == 2, done
    assert done.err == "fatal error: goproc's zygote process died (killed?), and the workers with it\n"


@EACH
def test_kill_a_worker(start: Start, doing: str) -> None:
    with start(DOING[doing], procs=3, env=EXIT) as program:
        program.wait_for("ready")
        victim = program.worker(random.choice([1, 2]))
        number = next(p.name for p in program.alive() if p.pid == victim)[-1]
        program.kill(victim)
        done = program.wait(5)
    assert done.status == 2, done
    first, _, rest = done.err.partition("\n")
    assert first.startswith(f"fatal error: proc {number} (pid {victim}) was killed by signal 9 (SIGKILL)")
    assert done.err.count("fatal error") == 1 and "Traceback" not in done.err
    if doing in ("streaming", "computing", "printing"):
        name = {"streaming": "produce", "computing": "burn", "printing": "chatter"}[doing]
        assert re.fullmatch(rf"1 goroutine was lost with it:\n    goroutine \d+: {name}\n", rest), done.err


@pytest.mark.parametrize("attempt", range(6))
def test_kill_any_process_at_any_moment(start: Start, attempt: int) -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    doing = dice.choice(list(DOING))
    with start(DOING[doing], procs=3, how="python", env=EXIT) as program:
        time.sleep(dice.random() * 0.4)
        victim = dice.choice(program.alive())
        try:
            program.kill(victim.pid)
        except ProcessLookupError:
            pytest.fail(f"{victim} ended by itself: {program.texts()}")
        done = program.wait(5)
    message = f"seed {seed}: {doing}, {victim}, {done}"
    assert done.status == (-signal.SIGKILL if victim.pid == program.pid else 2), message
    assert done.err.count("fatal error") == (victim.pid != program.pid) and "Traceback" not in done.err, (
        message
    )


def test_the_zygote_is_killed_before_it_forks(start: Start) -> None:
    script = """
        import os, select, signal
        import goproc
        from goproc import go; from goproc._proc import launch
        launched = launch.launch
        def killed(*args):
            zygote = launched(*args)
            pidfd = os.pidfd_open(zygote.pid)
            os.kill(zygote.pid, signal.SIGKILL)
            select.select([pidfd], [], [])  # a dead process without a CPU still has its end of the socket
            os.close(pidfd)
            return zygote
        launch.launch = killed
        go(int).result()
    """
    with start(script, how="python") as program:
        done = program.wait(5)
    assert done.status == 2 and done.err.startswith("fatal error: goproc's zygote process died"), done


def killed_keeper(microseconds: int, then: str) -> str:
    """Return a script whose keeper is killed so long after its start."""
    return f"""
        import os, signal, subprocess, sys
        KILLER = '''if True:
            import os, signal, sys, time
            host = int(sys.argv[1])
            with open(f"/proc/{{host}}/task/{{host}}/children") as children:
                print("ready", flush=True)
                found = []
                while not found:
                    children.seek(0)
                    found = [pid for pid in map(int, children.read().split()) if pid != os.getpid()]
            end = time.perf_counter() + {microseconds} / 1e6  # at which instruction the keeper is then: any will do
            while time.perf_counter() < end: pass
            os.kill(found[0], signal.SIGKILL)
        '''
        killer = subprocess.Popen([sys.executable, "-c", KILLER, str(os.getpid())], stdout=subprocess.PIPE)
        killer.stdout.readline()
        {then}
    """


_ZYGOTE_DIED = "fatal error: goproc's zygote process died"
_MOMENTS = pytest.mark.parametrize("microseconds", [0, 50, 100, 200, 400, 800, 1600])


@_MOMENTS
@pytest.mark.parametrize("policy", ["exit", "restart"])
def test_the_keeper_is_killed_while_it_starts_the_zygote(run: Run, policy: str, microseconds: int) -> None:
    """The host waits for the keeper at that time. Whatever has become of the zygote, nothing of it is left."""
    then = f"""
        import goproc
        goproc.runtime().__enter__()
        goproc.go(int).result()
        while {policy == "exit"}: signal.pause()  # until the coroner ends the program
        print("goes on")
    """
    script = killed_keeper(microseconds, then.strip())
    done = run(script, how="python", env={"GOPROC_ON_DEATH": policy, "GOPROC_QUIET_DEATHS": "1"})
    if policy == "restart":
        assert (done.status, done.out, done.err) == (0, "goes on\n", ""), done
        return
    assert done.status == 2 and done.err.startswith(_ZYGOTE_DIED), done
    assert done.err.count("\n") == 1 and not done.out, done


@_MOMENTS
def test_the_keeper_is_killed_while_the_zygote_boots(run: Run, microseconds: int) -> None:
    """The host imports its modules at that time, and another zygote is started."""
    then = """
        from goproc import go
        print(go(int).result())
    """
    script = killed_keeper(microseconds, then.strip())
    assert ok(run(script, how="python", env={"GOPROC_QUIET_DEATHS": "1"})) == "0\n"


def test_all_workers_are_killed_at_once(start: Start) -> None:
    with start(DOING["idle"], procs=4, env=EXIT) as program:
        program.wait_for("ready")
        victims = [program.worker(i) for i in (1, 2, 3)]
        program.kill(victims[0])
        for pid in victims[1:]:
            try:
                program.kill(pid)
            except ProcessLookupError:
                pass  # the first death has ended the program already
        done = program.wait(5)
    assert done.status == 2 and done.err.count("fatal error") == 1, done


def test_the_goroutines_of_a_dead_worker_are_named(start: Start) -> None:
    script = """
        from goproc import go, chan, sleep
        go.local(sleep, 100)
        ready = chan(3)
        def first(): ready.send(1); chan().recv()
        def second(): ready.send(1); chan().recv()
        def elsewhere(): ready.send(1); chan().recv()
        a, b = go.on(1)(first), go.on(1).opts(name="nick")(second)
        go.on(2)(elsewhere)
        for _ in range(3): ready.recv()
        print(a.id, b.id, flush=True)
        go(chan().recv)
        chan().recv()
    """
    with start(script, procs=3, env=EXIT) as program:
        program.wait_for("\n")
        a, b = program.texts()[0].split()
        program.kill(program.worker(1))
        done = program.wait(5)
    lines = done.err.splitlines()
    assert lines[1] == "2 goroutines were lost with it:", done.err
    assert sorted(lines[2:]) == sorted([f"    goroutine {a}: first", f"    goroutine {b}: nick"])


def test_the_report_names_unstarted_goroutines_of_the_dead_process(run: Run) -> None:
    script = """
        import os, signal
        from goproc import go, chan
        begun = chan()
        def last():
            begun.send(1)
            while True: sum(range(10**6))  # C code is not interrupted
        pid = go.on(1)(os.getpid).result()
        kept = [go.on(1)(last)]
        begun.recv()
        kept += [go.on(1)(waits) for waits in (int, str)]
        for other in [go(int) for _ in range(3)]: other.join()
        os.kill(pid, signal.SIGKILL)
        chan().recv()
    """
    done = run(script, env={"GOPROC_PREEMPT": "0", **EXIT})
    lines = done.err.splitlines()
    assert (done.status, lines[1]) == (2, "3 goroutines were lost with it:"), done.err
    assert sorted(re.sub(r"\d+", "N", line) for line in lines[2:]) == [
        f"    goroutine N: {name}" for name in ("int (not started)", "last", "str (not started)")
    ]


@pytest.mark.parametrize(
    "main", ["g.result()", "wg.wait()", "ch.recv()", "sleep(60)", "time.sleep(60)", "thread()"]
)
def test_nothing_hangs_on_a_dead_worker(run: Run, main: str) -> None:
    script = f"""
        import os, signal, time, threading
        from goproc import go, chan, sleep, WaitGroup
        def thread():
            t = threading.Thread(target=ch.recv)
            t.start()
            t.join()
        def dies():
            time.sleep(0.1)  # nothing to wait on: main is in its wait by then, or about to be
            os.kill(os.getpid(), signal.SIGKILL)
        ch, wg = chan(), WaitGroup()
        wg.add(1)
        g = go.on(1)(dies)
        {main}
    """
    done = run(script, env=EXIT)
    assert done.status == 2 and done.err.count("fatal error: proc 1") == 1, done
    assert "goroutine was lost with it:" in done.err and ": dies\n" in done.err


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ("ctypes.string_at(0)", "was killed by signal 11 (SIGSEGV)"),
        ("os.abort()", "was killed by signal 6 (SIGABRT)"),
        ("os._exit(3)", "ended by itself with status 3"),
        ("os._exit(0)", "ended by itself with status 0"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)", "was killed by signal 15 (SIGTERM)"),
        ("os.kill(os.getpid(), signal.SIGHUP)", "was killed by signal 1 (SIGHUP)"),
        (
            "resource.setrlimit(resource.RLIMIT_CPU, (1, 2)); [0 for _ in iter(int, 1)]",
            "was killed by signal",
        ),
    ],
)
def test_crashes_of_a_worker(run: Run, end: str, text: str) -> None:
    script = f"""
        import ctypes, os, resource, signal, time
        from goproc import go, chan
        def crash():
            print("last words", end="", flush=True)
            {end}
        go.on(1)(crash)
        chan().recv()
    """
    done = run(script, env=EXIT)
    assert (done.status, done.out) == (2, "last words"), done
    assert re.match(rf"fatal error: proc 1 \(pid \d+\) {re.escape(text)}", done.err), done.err
    assert done.err.count("fatal error") == 1 and ": crash\n" in done.err


def test_faulthandler_works_in_a_worker(run: Run) -> None:
    script = """
        import ctypes
        from goproc import go, chan
        def crash():
            import faulthandler
            faulthandler.enable()
            ctypes.string_at(0)
        go.on(1)(crash)
        chan().recv()
    """
    done = run(script)
    assert done.status == 2 and "Segmentation fault" in done.err and "in crash" in done.err


def test_stopped_workers_do_not_hold_up_the_end(start: Start) -> None:
    script = """
        from goproc import go, chan, procs
        for i in range(procs() + 1): go.on(i)(int).result()
        print("ready", flush=True)
        input()
    """
    with start(script, procs=3, stdin=subprocess.PIPE) as program:
        program.wait_for("ready")
        program.kill(program.worker(1), signal.SIGSTOP)
        program.type("\n")
        done = program.wait(5)
    assert (done.status, done.err) == (0, "")


def test_a_stopped_zygote_does_not_hold_up_the_end(start: Start) -> None:
    script = 'from goproc import go\ngo.on(1)(int).result()\nprint("ready", flush=True)\ninput()\n'
    with start(script, stdin=subprocess.PIPE) as program:
        program.wait_for("ready")
        program.kill(program.zygote(), signal.SIGSTOP)
        program.type("\n")
        done = program.wait(10)
    assert (done.status, done.err) == (0, "")


# -- SIGTERM -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@EACH
def test_sigterm_ends_the_host(start: Start, doing: str, number: int) -> None:
    if number == signal.SIGHUP and doing != "idle":
        pytest.skip("the same as SIGTERM")
    with start(DOING[doing], procs=3) as program:
        program.wait_for("ready")
        program.kill(number=number)
        done = program.wait()
    assert (done.status, done.err) == (-number, "")


def test_signals_of_a_worker_group_do_no_harm(start: Start) -> None:
    script = """
        import os, signal
        from goproc import go
        def f():
            os.kill(os.getpid(), signal.SIGINT)
            return sum(range(10**6))
        print([go.on(1)(f).result() for _ in range(3)])
    """
    with start(script) as program:
        done = program.wait()
    assert (done.status, done.out, done.err) == (0, "[499999500000, 499999500000, 499999500000]\n", "")
