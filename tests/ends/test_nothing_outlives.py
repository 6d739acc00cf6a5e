"""Nothing outlives the program, whoever is stopped or killed, in whichever order; but what was started to do so."""

from __future__ import annotations

import os
import signal

import programs
import pytest
from programs import Process, Program, Start

SLEEPERS = """
    import subprocess
    from goproc import go, sleep
    def work():
        subprocess.Popen(["sleep", "60"])
        subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"])
        sleep(60)
    go.on(1)(work)
    go.on(2)(work)
    go.on(1)(int).result(), go.on(2)(int).result()
    print("ready", flush=True)
    sleep(60)
"""


def pids_of_all(program: Program) -> list[int]:
    return [process.pid for process in program.alive()]


def pids(program: Program, which: str) -> list[int]:
    """The processes of one kind."""
    zygote = program.zygote()
    found = {
        "host": [program.pid],
        "zygote": [zygote],
        "keeper": [p.pid for p in program.alive() if p.name == "goproc-keeper"],
        "worker": [program.worker(1)],
        "workers": [program.worker(1), program.worker(2)],
        "all": pids_of_all(program),
    }
    return found[which]


def signal_all(targets: list[int], number: int) -> None:
    for pid in targets:
        os.kill(pid, number)


def ready(program: Program) -> None:
    program.wait_for("ready")
    assert programs.eventually(lambda: sum(p.name == "sleep" for p in program.alive()) >= 6, 5.0)


VICTIMS = ["host", "zygote", "keeper", "worker"]
STOPPED = [(None, killed) for killed in VICTIMS]
STOPPED += [("workers", killed) for killed in VICTIMS]
STOPPED += [("zygote", "host"), ("zygote", "zygote"), ("zygote", "keeper"), ("all", "host")]


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize(("stopped", "killed"), STOPPED)
def test_one_is_killed(start: Start, stopped: str | None, killed: str, how: str) -> None:
    # with another policy the program goes on without its zygote or keeper: tests/recovery
    env = {"GOPROC_ON_DEATH": "exit"} if killed in ("zygote", "keeper") else None
    with start(SLEEPERS, how=how, env=env) as program:
        ready(program)
        victims = pids(program, killed)
        if stopped is not None:
            signal_all(pids(program, stopped), signal.SIGSTOP)
        signal_all(victims, signal.SIGKILL)
        done = program.wait(10, gone=3.0)
        assert done.status == (-signal.SIGKILL if killed == "host" else 2), done
        if killed in ("zygote", "keeper"):
            assert done.err.startswith("fatal error: goproc's zygote process died"), done


@pytest.mark.parametrize("first", ["zygote", "keeper", "workers"])
def test_all_are_stopped_and_two_killed(start: Start, first: str) -> None:
    with start(SLEEPERS) as program:
        ready(program)
        victims = pids(program, first)
        signal_all(pids(program, "all"), signal.SIGSTOP)
        signal_all([*victims, program.pid], signal.SIGKILL)
        program.wait(10, gone=3.0)


IDLE = """
    import sys
    from goproc import go, sleep
    go.on(1)(int).result(), go.on(2)(int).result()
    go.on(1)({work})
    print("ready", flush=True)
    sleep(60)
"""
BUSY = "sum, range(10**12)"  # C code, in which a worker sees nothing


@pytest.mark.parametrize("stopped", ["all", "host"])
@pytest.mark.parametrize("work", ["sleep, 60", BUSY])
def test_the_host_dies_after_zygote_and_keeper(start: Start, work: str, stopped: str) -> None:
    """No process is left that could end the workers."""
    with start(IDLE.format(work=work), env={"GOPROC_PREEMPT": "0"}) as program:
        program.wait_for("ready")
        zygote, keeper = pids(program, "zygote"), pids(program, "keeper")
        signal_all(pids(program, stopped), signal.SIGSTOP)
        signal_all([*zygote, *keeper, program.pid], signal.SIGKILL)
        program.wait(10, gone=3.0)


@pytest.mark.parametrize("all_of_it", [False, True])
@pytest.mark.parametrize("how", ["goproc", "python"])
def test_the_host_dies_after_the_keeper(start: Start, how: str, all_of_it: bool) -> None:
    """The zygote is stopped, and has no parent that would continue it."""
    with start(SLEEPERS, how=how) as program:
        ready(program)
        zygote, keeper = program.zygote(), pids(program, "keeper")[0]
        program.kill(keeper)
        assert programs.eventually(lambda: keeper not in pids_of_all(program), 5.0)
        signal_all(pids(program, "all") if all_of_it else [zygote], signal.SIGSTOP)
        program.kill()
        program.wait(10, gone=3.0)


def test_the_host_dies_after_two_zygotes_and_keepers(start: Start) -> None:
    """Workers of the first zygote are there, and of the second one."""
    with start(IDLE.format(work=BUSY), env={"GOPROC_PREEMPT": "0", "GOPROC_QUIET_DEATHS": "1"}) as program:
        program.wait_for("ready")
        first, worker = program.zygote(), program.worker(2)
        program.kill(first)
        program.kill(worker)

        def new_workers() -> list[Process]:  # the dead one is a child of the keeper for a while
            return [p for p in program.alive() if p.name == "goproc-2" and p.pid != worker]

        assert programs.eventually(lambda: bool(new_workers()), 10.0)
        alive = program.alive()
        second = next(p.parent for p in alive if p.name == "goproc-2")
        signal_all([p.pid for p in alive], signal.SIGSTOP)
        signal_all(
            [second, *(p.pid for p in alive if p.name == "goproc-keeper"), program.pid], signal.SIGKILL
        )
        program.wait(10, gone=3.0)


@pytest.mark.parametrize("how", ["goproc", "python"])
def test_an_early_zygote_that_is_stopped(start: Start, how: str) -> None:
    """The host dies before it has used goproc."""
    script = """
        import time
        print("ready", flush=True)
        time.sleep(60)
    """
    with start(script, how=how) as program:
        program.wait_for("ready")
        signal_all(pids_of_all(program), signal.SIGSTOP)
        program.kill()
        program.wait(10, gone=2.0)


def test_an_early_zygote_without_a_keeper(start: Start) -> None:
    """It is stopped before it has lifelines."""
    script = """
        import time
        print("ready", flush=True)
        time.sleep(60)
    """
    with start(script) as program:
        program.wait_for("ready")
        keeper = next(p.pid for p in program.alive() if p.name == "goproc-keeper")
        program.kill(keeper)
        assert programs.eventually(lambda: keeper not in pids_of_all(program), 5.0)
        signal_all(pids_of_all(program), signal.SIGSTOP)
        program.kill()
        program.wait(10, gone=3.0)


ENDS = {
    "returns": ("pass", 0),
    "exits": ("raise SystemExit(3)", 3),
    "panics": ("raise ValueError", 2),
    "a goroutine panics": ("go.on(2)(fails); sleep(20)", 2),
    "a goroutine exits": ("go.on(1)(sys.exit, 4); sleep(20)", 4),
    "a worker crashes": ("go.on(1)(os.abort); sleep(20)", 2),
    "a worker leaves": ("go.on(1)(os._exit, 9); sleep(20)", 2),
    "a worker computes": ("go.on(1)(spin); begun.recv()", 0),
}


@pytest.mark.parametrize("way", ENDS)
def test_programs_of_goroutines_end_with_it(start: Start, way: str) -> None:
    how, status = ENDS[way]
    script = f"""
        import os, subprocess, sys, time
        from goproc import chan, go, sleep
        begun = chan()
        def fails(): raise ValueError
        def spin():
            begun.send(1)
            sum(range(10**12))
        for p in (1, 2):
            go.on(p)(lambda: subprocess.Popen(["sh", "-c", "sleep 60; sleep 61"]).pid).result()
        {how}
    """
    with start(script) as program:
        assert program.wait(15, gone=2.0).status == status


DAEMONS = {
    "a session of its own": "subprocess.Popen(['sleep', '60'], start_new_session=True)",
    "by a shell": "os.system('sleep 60 &')",
    "forked twice": "double()",
}


@pytest.mark.parametrize("end", ["pass", "raise ValueError"])
@pytest.mark.parametrize("way", DAEMONS)
def test_a_daemon_lives_on(start: Start, way: str, end: str) -> None:
    script = f"""
        import os, subprocess, warnings
        warnings.simplefilter("ignore")
        from goproc import go
        def double():
            if (pid := os.fork()) == 0:
                os.setsid()
                if os.fork() == 0:
                    os.execlp("sleep", "sleep", "60")
                os._exit(0)
            os.waitpid(pid, 0)
        def work(): {DAEMONS[way]}
        go.on(1)(work).result()
        {end}
    """
    with start(script, stdout=2, stderr=2) as program:
        program.process.wait(15)
        assert programs.eventually(lambda: [p.name for p in program.alive()] == ["sleep"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("killed", ["host", "zygote"])
def test_a_worker_that_became_somebody_else(start: Start, killed: str) -> None:
    """A change of the user undoes what a process has asked the kernel for: to die with its parent."""
    script = """
        import os
        from goproc import go, sleep
        def become():
            os.setgid(65534)
            os.setuid(65534)
            sleep(0.3)  # it goes on with the rights that it has now
            return os.getuid()
        print(go.on(1)(become).result(), flush=True)
        go.on(1)(sleep, 60)
        sleep(60)
    """
    with start(script) as program:
        program.wait_for("65534")
        victims = pids(program, killed)
        signal_all(pids(program, "all"), signal.SIGSTOP)
        signal_all([*victims, program.pid], signal.SIGKILL)
        program.wait(10, gone=2.0)
