"""The keeper dies or is stopped, or the zygote dies before it has forked a worker: the program goes on."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import programs
import pytest
import where
from programs import Run, Start, ok

# The keeper is the parent of a zygote.
WHERE = (
    where.WHERE
    + """
    def parent_of(pid):
        with open(f"/proc/{pid}/stat") as file: return int(file.read().rpartition(")")[2].split()[1])
    def kill_keeper(p=1):
        zygote = at(p)[1]
        keeper = parent_of(zygote)
        os.kill(keeper, signal.SIGKILL)
        while parent_of(zygote) == keeper: pass
        return zygote
"""
)


@pytest.mark.parametrize("policy", ["restart", "continue"])
def test_nobody_notices(run: Run, policy: str) -> None:
    script = f"""{WHERE}
    def echo(a, b):
        for v in a: b.send((os.getpid(), v))
    a, b = chan(), chan()
    go.on(1)(echo, a, b)
    pids = at(1)[0], at(2)[0]
    kill_keeper()
    a.send(7)
    assert b.recv() == (pids[0], 7)
    assert (at(1)[0], at(2)[0]) == pids
    print("goes on")
    """
    assert ok(run(script, "--procs", "2", "--on-death", policy)) == "goes on\n"


def test_with_the_policy_exit_it_ends_the_program(run: Run) -> None:
    script = f"""{WHERE}
    kill_keeper()
    sleep(20)
    """
    done = run(script, env={"GOPROC_ON_DEATH": "exit"})
    assert done.status == 2 and done.err.count("fatal error: ") == 1, done


def test_the_zygote_forks_on(run: Run) -> None:
    script = f"""{WHERE}
    zygote = kill_keeper()
    pid = at(1)[0]
    kill(1)
    new = at(1)
    assert new[0] != pid and new[1] == zygote
    print("goes on")
    """
    assert ok(run(script, "--procs", "2")) == "goes on\n"


@pytest.mark.parametrize("busy", [True, False])
def test_the_zygote_dies_later(run: Run, busy: bool) -> None:
    """Its workers have no parent that would end them with the host. They end now, and are replaced."""
    script = f"""{WHERE}
    def work(started):
        started.send(None)
        while {busy}: sum(range(10**7))
        chan().recv()
    started = chan()
    g = go.on(1)(work, started)
    started.recv()
    zygote = kill_keeper(2)
    before = at(2)[0]
    os.kill(zygote, signal.SIGKILL)
    try: g.result(20)
    except goproc.WorkerDied: pass
    while at(2)[0] == before: sleep(0.001)
    assert at(1)[1] == at(2)[1] != zygote
    print("goes on")
    """
    assert ok(run(script, "--procs", "2")) == "goes on\n"


@pytest.mark.parametrize("busy", [True, False])
def test_after_its_zygote(run: Run, busy: bool) -> None:
    """The workers that it kept die with it, and are replaced."""
    script = f"""{WHERE}
    def work(started):
        started.send(os.getpid())
        while {busy}: sum(range(10**7))
        chan().recv()
    started = chan()
    g = go.on(1)(work, started)
    pid = started.recv()
    zygote = at(2)[1]
    keeper = parent_of(zygote)
    os.kill(zygote, signal.SIGKILL)
    while parent_of(pid) == zygote: pass
    os.kill(keeper, signal.SIGKILL)
    try: g.result(20)
    except goproc.WorkerDied as e: assert e.pid == pid
    else: raise AssertionError
    assert at(1)[1] not in (zygote, keeper)
    print("goes on")
    """
    assert ok(run(script, "--procs", "2")) == "goes on\n"


def test_the_keeper_of_a_zygote_without_workers(start: Start) -> None:
    """It ends with its zygote. Workers of an earlier zygote have another keeper, and go on."""
    script = f"""{WHERE}
    pid, zygote = at(1)
    os.kill(zygote, signal.SIGKILL)
    while at(1)[1] == zygote: pass
    goproc.runtime.resize(2)
    print("zygote", at(2)[1], flush=True)
    goproc.runtime.resize(1)
    print("alone", flush=True)
    sys.stdin.readline()
    goproc.runtime.resize(2)  # there is a third zygote
    print(at(1)[0] == pid, flush=True)
    """
    with start(script, "--procs", "1", stdin=-1) as program:
        program.wait_for("alone")
        zygote = int(program.texts()[0].split()[1])
        keeper = next(process.parent for process in program.alive() if process.pid == zygote)
        program.kill(number=signal.SIGSTOP)
        program.kill(zygote)
        assert programs.eventually(lambda: keeper not in [process.pid for process in program.alive()])
        program.kill(number=signal.SIGCONT)
        program.type("\n")
        assert program.wait().out.endswith("True\n")


def test_exit_handlers_of_workers_run_all_the_same(run: Run) -> None:
    script = f"""{WHERE}
    import atexit
    def hooked(): atexit.register(handler)
    def handler():
        time.sleep(0.3)  # the work of the handler: the program waits for it
        print("handler", flush=True)
    go.on(1)(hooked).result()
    kill_keeper()
    """
    assert ok(run(script, "--procs", "1")) == "handler\n"


@pytest.mark.parametrize("end", ["kill", "panic"])
def test_nothing_is_left(start: Start, end: str) -> None:
    script = f"""{WHERE}
    def burn():
        while True: sum(range(10**7))
    g = go.on(1)(burn)
    kill_keeper(2)
    print("ready", flush=True)
    sys.stdin.readline()
    raise ValueError
    """
    with start(script, "--procs", "2", stdin=-1) as program:
        program.wait_for("ready")
        if end == "kill":
            program.kill()
        else:
            program.type("\n")
        done = program.wait(5)  # checks that no process is left
    assert done.status == (-9 if end == "kill" else 2), done


@pytest.mark.parametrize("end", ["pass", "raise ValueError", "go.on(1)(os.abort); sleep(20)"])
def test_stopped_at_the_end(start: Start, end: str) -> None:
    """The host continues the keeper. Without that it waits 2 s or more for each stopped keeper, and then kills the zygote."""
    script = f"""{WHERE}
    for _ in range(3):  # keepers of dead zygotes, too
        pid, zygote = at(1)
        keeper = parent_of(zygote)
        os.kill(zygote, signal.SIGKILL)
        while parent_of(pid) == zygote: pass
        kill(1)
        while at(1)[0] == pid: pass
        os.kill(keeper, signal.SIGSTOP)
    os.kill(parent_of(at(1)[1]), signal.SIGSTOP)
    print("stopped", flush=True)
    {end}
    """
    with start(script, "--procs", "2") as program:
        program.wait_for("stopped")
        done = program.wait(5)
    assert done.status == (0 if end == "pass" else 2), done


BIRTH = """#!/bin/sh
echo >> {births}
test $(wc -l < {births}) -le {deaths} && kill -9 {victim}
exec {python} "$@"
"""


@pytest.mark.parametrize("victim", ["keeper", "zygote"])
@pytest.mark.parametrize(("deaths", "policy"), [(4, "restart"), (4, "continue"), (9, "restart"), (1, "exit")])
def test_at_the_birth_of_the_zygote(run: Run, tmp_path: Path, victim: str, deaths: int, policy: str) -> None:
    """The zygote is a shell at first, which kills its parent or itself."""
    births, shell = tmp_path / "births", tmp_path / "shell"
    pid = {"keeper": "$PPID", "zygote": "$$"}[victim]
    shell.write_text(BIRTH.format(births=births, deaths=deaths, victim=pid, python=sys.executable))
    shell.chmod(0o755)
    script = f"""{WHERE}
    sys.executable = {str(shell)!r}
    assert len({{at(1)[0], at(2)[0]}}) == 2
    print("right")
    """
    done = run(script, how="python", env={"GOPROC_ON_DEATH": policy})
    if deaths == 4:
        assert ok(done) == "right\n"
    else:
        assert done.status == 2 and done.err.startswith("fatal error: goproc's zygote process died"), done
        assert done.err.count("\n") == 1, done
