"""The zygote dies: its workers go on, another one is started, and workers that die later are seen and replaced."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import peek
import pytest
import where
from programs import Run, Start, ok

LOUD = True
SUPPORT = Path(peek.__file__).parent
LINE = "goproc: the process that starts the workers (the zygote) died; another one is started\n"

# The zygote is the parent of a worker that it has forked.
WHERE = (
    where.WHERE
    + """
    def kill_zygote(p=1):
        pid, zygote = at(p)
        os.kill(zygote, signal.SIGKILL)
        while os.getpid() and at(p) == (pid, zygote): sleep(0.001)
        return pid
"""
)


def test_workers_go_on_and_are_replaced_later(run: Run) -> None:
    script = f"""{WHERE}
    def echo(a, b):
        for v in a: b.send((os.getpid(), v))
    a, b = chan(), chan()
    g = go.on(1)(echo, a, b)
    a.send(1)
    first = b.recv()
    other = at(2)[0]
    pid = kill_zygote()
    a.send(2)
    assert (first, b.recv()) == ((pid, 1), (pid, 2)), "its state is gone"
    assert at(2)[0] == other
    kill(1)
    try: g.result(20)
    except goproc.WorkerDied as e: assert (e.proc, e.pid, e.signal) == (1, pid, 9), vars(e)
    else: raise AssertionError
    new, zygote = at(1)
    assert new != pid and at(2)[0] == other and zygote != at(2)[1]
    print("goes on")
    """
    done = run(script, "--procs", "2")
    assert (done.status, done.out) == (0, "goes on\n"), done
    assert done.err.startswith(LINE) and done.err.count("\n") == 2 and "killed by signal 9" in done.err, done


def test_the_folder_is_that_of_the_moment_and_the_environment_that_of_the_start(
    run: Run, tmp_path: Path
) -> None:
    script = f"""{WHERE}
    def facts(): return os.getcwd(), os.environ.get("LATER"), os.path.realpath("/proc/self/fd/1")
    first = go.on(1)(facts).result()
    os.environ["LATER"] = "1"
    os.mkdir("other"); os.chdir("other")
    kept = os.dup(1)
    os.dup2(os.open("printed", os.O_WRONLY | os.O_CREAT), 1)
    pid = kill_zygote()
    kill(1)
    while at(1)[0] == pid: sleep(0.001)
    found = go.on(1)(facts).result()
    os.dup2(kept, 1)
    assert first[1] is None and found[0] == os.getcwd() != first[0], (first, found)
    print(found[1:] == (None, os.path.abspath("printed")))
    """
    done = run(script, "--procs", "1")
    assert (done.status, done.out) == (0, "True\n"), done


def test_again_and_again(run: Run) -> None:
    """Each of the zygotes has workers of its own in the end, and all end with the program."""
    script = f"""{WHERE}
    import atexit
    def hooked(): atexit.register(print, "handler", flush=True)
    last = 1  # the worker that was forked last
    for p in (1, 2, 3):
        kill_zygote(last)
        kill(p)
        at(p)
        last = p
    assert len({{at(p)[1] for p in (1, 2, 3)}}) == 3
    for p in (1, 2, 3): go.on(p)(hooked).result()
    print("end", flush=True)
    """
    done = run(script, "--procs", "3", env={"GOPROC_QUIET_DEATHS": "1"})
    assert ok(done) == "end\nhandler\nhandler\nhandler\n"


@pytest.mark.parametrize("what", ["main computes", "main sleeps", "main waits"])
def test_deaths_of_zygote_and_worker_while_main_is_busy(run: Run, what: str) -> None:
    script = f"""{WHERE}
    def killer(ch):
        pid, zygote = where()
        os.kill(zygote, signal.SIGKILL)
        while where()[1] == zygote: time.sleep(0.001)
        ch.send(pid)
        time.sleep(0.3)  # nothing to wait on: main is in the middle of it by then
        os.kill(pid, signal.SIGKILL)
    what = {what!r}
    ch = chan()
    g = go.on(1)(killer, ch)
    end = time.monotonic() + 1.0
    if what == "main waits": ch.recv()
    if what == "main sleeps": go.local(ch.recv); time.sleep(1)
    if what == "main computes":
        go.local(ch.recv)
        while time.monotonic() < end: pass
    try: g.result(20)
    except goproc.WorkerDied: pass
    assert at(1)
    print("goes on")
    """
    assert ok(run(script, env={"GOPROC_QUIET_DEATHS": "1"})) == "goes on\n"


def test_a_worker_dies_before_the_next_zygote_is_there(run: Run, tmp_path: Path) -> None:
    """The coroner repairs the place of that worker once, and the replacement keeps the place."""
    late = tmp_path / "late"
    late.write_text(f'#!/bin/sh\nsleep 0.5\nexec {sys.executable} "$@"\n')
    late.chmod(0o755)
    script = f"""{WHERE}
    import sys
    def die(zygote):
        os.kill(zygote, signal.SIGKILL)
        while os.getppid() == zygote: pass
        os.kill(os.getpid(), signal.SIGKILL)
    pid, zygote = at(1)
    sys.executable = {str(late)!r}  # zygotes come late from here on
    try: go.on(1)(die, zygote).result(20)
    except goproc.WorkerDied as e: assert e.pid == pid, e.pid
    else: raise AssertionError
    pids = {{at(1)[0]}}
    end = time.monotonic() + 1
    while time.monotonic() < end: pids.add(at(1)[0])
    print(len(pids))
    """
    done = run(script, "--procs", "2")
    assert (done.status, done.out) == (0, "1\n"), done
    assert done.err.startswith(LINE) and done.err.count("\n") == 2 and "killed by signal 9" in done.err, done


@pytest.mark.parametrize("limit", ["20", ""])
def test_main_is_in_a_library(run: Run, limit: str) -> None:
    """Another zygote is started all the same: the library polls, or blocks, for what a replacement does."""
    script = f"""{WHERE}
    import subprocess
    def die(zygote):
        os.kill(zygote, signal.SIGKILL)
        while os.getppid() == zygote: pass
        os.kill(os.getpid(), signal.SIGKILL)
    zygote = at(1)[1]
    child = subprocess.Popen(["sleep", "60"])
    g = go.on(1)(die, zygote)
    h = go.on(1)(os.kill, child.pid, signal.SIGTERM)
    print(child.wait({limit}))
    try: g.result(20)
    except goproc.WorkerDied: pass
    h.result(20)
    """
    assert ok(run(script, env={"GOPROC_QUIET_DEATHS": "1"})) == "-15\n"


@pytest.mark.parametrize("policy", ["restart", "continue"])
def test_the_zygote_dies_after_a_death_that_ends_the_program(run: Run, policy: str) -> None:
    """The zygote is stopped, so that it does not tell how the worker ended.

    Worker 2 dies first: the coroner knows that, and so the coroner has been told of worker 1, the first to be forked.
    """
    script = f"""{WHERE}
    import sys
    sys.path.append({str(SUPPORT)!r})
    from peek import repairs
    def wait(ready):
        ready.send(where())
        while True: time.sleep(1)
    at(2)
    before = repairs()
    kill(2)
    while repairs() < before + 2: sleep(0.001)
    ready = chan()
    go.on(1)(wait, ready)
    pid, zygote = ready.recv()
    print(pid, flush=True)
    before = repairs()
    os.kill(zygote, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    while repairs() == before: pass  # until the coroner has claimed the end of the program
    os.kill(zygote, signal.SIGKILL)
    chan().recv()
    """
    done = run(script, "--procs", "2", "--on-death", policy, env={"GOPROC_QUIET_DEATHS": "1"})
    title = (
        f"panic: goproc.errors.WorkerDied: proc 1 (pid {done.out.strip()}) was killed by signal 9 (SIGKILL)\n"
    )
    assert done.status == 2 and done.err.startswith(title) and done.err.count("panic") == 1, done


def test_exit_handlers_of_workers_run_all_the_same(run: Run) -> None:
    script = f"""{WHERE}
    import atexit
    def hooked(): atexit.register(print, "handler", flush=True)
    go.on(1)(hooked).result()
    kill_zygote()
    """
    assert ok(run(script, "--procs", "1", env={"GOPROC_QUIET_DEATHS": "1"})) == "handler\n"


def test_a_panic_ends_all(run: Run) -> None:
    script = f"""{WHERE}
    kill_zygote()
    def fail(): raise ValueError("boom")
    go.on(2)(fail)
    time.sleep(20)
    """
    done = run(script, "--procs", "2", env={"GOPROC_QUIET_DEATHS": "1"})
    assert done.status == 2 and done.err.startswith("panic: boom"), done


@pytest.mark.parametrize("then", ["host", "zygote, host", "host, zygote", "keeper", "keeper, zygote"])
def test_nothing_is_left(start: Start, then: str) -> None:
    script = f"""{WHERE}
    def burn():
        while True: pass
    def idle(): chan().recv()
    g = go.on(1)(burn)
    h = go.on(2)(idle)
    keeper = int(open(f"/proc/{{at(3)[1]}}/stat").read().rpartition(")")[2].split()[1])
    print("keeper", keeper, flush=True)
    kill_zygote(3)
    kill(3)
    print("zygote", at(3)[1], flush=True)
    print("ready", flush=True)
    g.join()
    """
    with start(script, procs=4, env={"GOPROC_QUIET_DEATHS": "1"}) as program:
        program.wait_for("ready")
        words = program.texts()[0].split()
        pids = {"host": program.pid, "keeper": int(words[1]), "zygote": int(words[3])}
        for who in then.split(", "):
            try:
                program.kill(pids[who])
            except ProcessLookupError:
                pass
        done = program.wait(5)  # checks that no process is left
    assert done.status != 0, done


@pytest.mark.parametrize("turn", range(3))
def test_at_any_moment(start: Start, turn: int) -> None:
    """Zygotes and workers are killed at random; what the program computes is right, and it ends as it should."""
    seed = random.randrange(1 << 32)
    script = f"""{WHERE}
    import random
    dice = random.Random({seed})
    def square(n): return n * n
    def one(n):
        while True:
            try: return go.opts(retries=5)(square, n).result(20)
            except goproc.WorkerDied: pass
    zygotes = set()
    for round in range(6):
        sleep(dice.random() * 0.05)
        p = dice.choice([1, 2, 3])
        pid, zygote = at(p)
        for victim in dice.sample([pid, zygote], 2):
            if dice.random() < 0.7:
                try: os.kill(victim, signal.SIGKILL)
                except ProcessLookupError: pass
            sleep(dice.random() * 0.02)
        assert [one(n) for n in range(20)] == [n * n for n in range(20)]
    assert all(at(p) for p in (1, 2, 3))
    print("right")
    """
    with start(script, procs=4, env={"GOPROC_QUIET_DEATHS": "1"}) as program:
        done = program.wait(30)
    assert (done.status, done.out, done.err) == (0, "right\n", ""), (seed, done)


@pytest.mark.parametrize("idle", [True, False])
def test_main_returns_at_that_moment(run: Run, idle: bool) -> None:
    """No other zygote is started any more: the workers end all the same, and run their exit handlers."""
    script = f"""{WHERE}
    import atexit
    def work(started, idle):
        atexit.register(print, "handler", flush=True)
        started.send(where())
        while not idle: pass
    started = chan()
    g = go.on(1)(work, started, {idle})
    os.kill(started.recv()[1], signal.SIGKILL)
    """
    done = run(script, "--procs", "1", env={"GOPROC_QUIET_DEATHS": "1"})
    assert ok(done) == "handler\n"


HALTS = """
import os, signal
def halt():
    if os.path.exists("halt"): os.kill(os.getpid(), signal.SIGSTOP)
    else: open("forked", "w").close()
os.register_at_fork(after_in_parent=halt)
"""


def test_stopped_right_after_a_fork(run: Run, tmp_path: Path) -> None:
    """It has not told of the worker that it has forked. The worker's death is seen all the same, and only once."""
    (tmp_path / "sitecustomize.py").write_text(HALTS)
    script = f"""{WHERE}
    from goproc._deaths import deaths
    zygote = at(1)[1]
    while not os.path.exists("forked"): sleep(0.001)  # the worker may be faster than the end of this fork
    open("halt", "w").close()
    kill(1)
    pid = at(1)[0]
    started = chan()
    def work():
        started.send(None)
        chan().recv()
    g = go.on(1)(work)
    started.recv()
    os.kill(pid, signal.SIGKILL)
    try: g.result(20)
    except goproc.WorkerDied as e: assert e.pid == pid
    os.unlink("halt")
    os.kill(zygote, signal.SIGCONT)
    new = at(1)
    assert new[0] != pid and new[1] == zygote
    assert (at(1), deaths()) == (new, 2)
    kill(1)
    assert at(1)[0] != new[0] and deaths() == 3
    print("goes on")
    """
    done = run(script, "--procs", "1", env={"PYTHONPATH": str(tmp_path), "GOPROC_QUIET_DEATHS": "1"})
    assert ok(done) == "goes on\n"


@pytest.mark.parametrize("ends", [True, False])
def test_a_kernel_that_ends_its_descendants_hears_nothing_of_them(run: Run, ends: bool) -> None:
    """The kernel of a notebook does so at its end. Then the zygote is not replaced for ever, if at all."""
    script = f"""{WHERE}
    from goproc._proc import processes
    zygote = at(1)[1]
    if {ends}: processes._be_quiet()
    os.kill(zygote, signal.SIGKILL)
    sleep(20)
    """
    done = run(script, "--on-death", "exit")
    assert done.status == 2, done
    assert done.err == "" if ends else done.err.startswith("fatal error: goproc's zygote process died"), done
