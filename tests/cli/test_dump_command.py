"""``goproc dump PID``: the dump of a program that goes on, whatever it does, and what the command says if there is none."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from programs import Program, Start, environment, eventually
from reports import entries, headers

from goproc.cli import main

WAITING = """
    import os, signal, sys, threading, time
    import goproc
    from goproc import go, chan, sleep
    ready, gate = chan(4), chan()
    def waits():
        ready.send(1)
        gate.recv_ok()
    def burn():
        ready.send(1)
        while True: pass
    handles = [go.opts(labels={"job": "x"}).on(1)(waits), go.on(0)(waits)]
    ready.recv(); ready.recv()
    class Stop(Exception): pass
    stop = []
    def on_signal(*_):
        stop.append(1)
        raise Stop
    signal.signal(signal.SIGUSR1, on_signal)
    try:
        print("ready", flush=True)
        MAIN
    except Stop:
        AFTER
    gate.close()
    for g in handles: g.join()
    print("end")
"""


def waiting(main: str, after: str = "pass") -> str:
    return WAITING.replace("MAIN", main).replace("AFTER", after)


def dump(pid: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "goproc", "dump", str(pid)],
        capture_output=True,
        text=True,
        timeout=50,  # the command gives 30 s to a process that gets no CPU
        env=environment(),
    )


def shown(pid: int) -> Any:
    """The goroutines of a dump that has nothing to complain about, by number."""
    done = dump(pid)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "did not answer" not in done.stdout, done
    return entries(done.stdout)


def goes_on(program: Program) -> None:
    """Tell it to end, and see that it does so as if nothing had been."""
    program.kill(number=signal.SIGUSR1)
    done = program.wait()
    assert (done.status, done.out, done.err) == (0, "ready\nend\n", ""), done


# -- what main does --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preempt", ["0", "1"])
@pytest.mark.parametrize(
    "main",
    [
        "time.sleep(60)",
        "sleep(60)",
        "while True: sum(range(1000))",
        "chan().recv()",
        "os.read(os.pipe()[0], 1)",
    ],
)
def test_dump_leaves_main_alone(start: Start, main: str, preempt: str) -> None:
    with start(waiting(main), env={"GOPROC_PREEMPT": preempt}) as program:
        program.wait_for("ready")
        assert eventually(
            lambda: [e.state for i, e in shown(program.pid).items() if i != 1] == ["chan receive"] * 2
        )
        for _ in range(3):
            found = shown(program.pid)
            assert list(found) == [1, *sorted(found)[1:]] and len(found) == 3
            assert found[1].about.startswith(f"  main, proc 0 (pid {program.pid})")
            assert found[1].state in ("running", "sleep", "chan receive")
            others = [found[i] for i in list(found)[1:]]
            assert [e.state for e in others] == ["chan receive"] * 2
            assert [e.functions for e in others] == [["waits"]] * 2
            assert {e.labels for e in others} == {"{job: x}", None}
            assert all(e.created[0] == "created by main in goroutine 1" for e in others)
        goes_on(program)


@pytest.mark.parametrize("procs", [0, 1, 3])
def test_main_is_blocked_in_a_channel(start: Start, procs: int) -> None:
    script = """
        from goproc import chan, go
        done = chan()
        def waits(): done.recv()
        go.on(0)(waits)
        keep = go.on(KEEP)(lambda: __import__("time").sleep(60))
        print("ready", flush=True)
        done.recv()
    """
    with start(script.replace("KEEP", str(procs)), procs=procs) as program:
        program.wait_for("ready")
        done = dump(program.pid)
        while sorted(e.state for e in entries(done.stdout).values())[:2] != ["chan receive", "chan receive"]:
            done = dump(program.pid)  # main was on its way to where it blocks
        assert done.returncode == 0 and done.stderr == "", done
        assert len(entries(done.stdout)) == 3 and "did not answer" not in done.stdout


def test_goroutines_that_compute_everywhere(start: Start) -> None:
    script = """
        from goproc import chan, go
        ready = chan(3)
        def burn(tell):
            tell()
            while True: pass
        def told(): ready.send(1)
        for p in range(3): go.on(p)(burn, told)
        for p in range(3): ready.recv()
        burn(lambda: print("ready", flush=True))
    """
    with start(script, procs=3) as program:
        program.wait_for("ready")
        assert eventually(lambda: [e.functions[-1] for e in shown(program.pid).values()] == ["burn"] * 4)


def test_a_process_without_a_cpu(start: Start) -> None:
    script = """
        import os, subprocess, sys
        from goproc import chan, go
        ready = chan()
        def burn():
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            ready.send(os.getpid())
            while True: pass
        go(burn)
        cpus = ",".join(map(str, os.sched_getaffinity(ready.recv())))
        busy = f"import os; os.sched_setaffinity(0, [{cpus}])\\nwhile os.getppid() == {os.getpid()}: pass"
        for _ in range(2): subprocess.Popen([sys.executable, "-c", busy])
        print("ready", flush=True)
        chan().recv()
    """
    with start(script, procs=1) as program:
        program.wait_for("ready")
        assert [e.functions for e in shown(program.pid).values()] == [["<module>"], ["burn"]]


def test_before_any_goroutine(start: Start) -> None:
    with start("import time, goproc\ngoproc.chan()\nprint('ready', flush=True)\ntime.sleep(60)") as program:
        program.wait_for("ready")
        assert list(shown(program.pid)) == [1]


def test_many_goroutines(start: Start) -> None:
    script = """
        from goproc import chan, go, sleep, WaitGroup
        gate, began = chan(), WaitGroup()
        def waits():
            began.done()
            gate.recv()
        began.add(3000)
        for i in range(3000): go(waits)
        began.wait()
        print("ready", flush=True)
        sleep(60)
    """
    with start(script) as program:
        program.wait_for("ready")
        done = dump(program.pid)
        assert (done.returncode, headers(done.stdout)) == (0, 3001)


# -- which process ---------------------------------------------------------------------------------------------------


def test_any_process_of_the_program_will_do(start: Start) -> None:
    with start(waiting("time.sleep(60)"), procs=3) as program:
        program.wait_for("ready")
        zygote = program.zygote()
        keeper = psutil.Process(zygote).ppid()
        for pid in (program.worker(1), program.worker(2), zygote, keeper):
            found = shown(pid)
            assert len(found) == 3 and found[1].about.startswith(f"  main, proc 0 (pid {program.pid})")
        goes_on(program)


@pytest.mark.parametrize("preempt", ["0", "1"])
def test_one_process(start: Start, preempt: str) -> None:
    script = waiting("time.sleep(60)").replace(".on(1)", ".on(0)")
    with start(script, procs=0, env={"GOPROC_PREEMPT": preempt}) as program:
        program.wait_for("ready")
        assert len(shown(program.pid)) == 3
        goes_on(program)


def test_a_runtime_in_a_thread(start: Start) -> None:
    script = """
        import threading, time, goproc
        from goproc import chan, go
        def use():
            go.on(0)(lambda: chan().recv())
            go.on(1)(lambda: chan().recv())
        t = threading.Thread(target=use)
        t.start()
        t.join()
        print("ready", flush=True)
        time.sleep(60)
    """
    with start(script) as program:
        program.wait_for("ready")
        assert eventually(lambda: sum(e.state == "chan receive" for e in shown(program.pid).values()) == 2)
        found = shown(program.pid)
        assert found[1].state == "running" and "    time.sleep(60)" in found[1].lines


def test_another_runtime_of_the_same_program(start: Start) -> None:
    script = """
        import time, goproc
        from goproc import chan, go
        for turn in range(3):
            with goproc.runtime(procs=2):
                g = go.on(1)(int)
                g.join()
        with goproc.runtime(procs=2):
            h = go.opts(name="fourth").on(1)(lambda: chan().recv())
            while h.state != "running": pass
            print("ready", flush=True)
            time.sleep(60)
    """
    with start(script, how="python", procs=None) as program:
        program.wait_for("ready")
        assert "  fourth, proc 1" in "".join(e.about for e in shown(program.pid).values())


# -- no answer -------------------------------------------------------------------------------------------------------

STUCK = """
    import os, signal, sys, time
    from goproc import go, chan
    ready = chan(1)
    def waits():
        ready.send(1)
        chan().recv()
    if PROCS > 1:
        go.on(1)(waits)
        ready.recv()
    print("ready", flush=True)
    sum(range(10**10))  # C code that looks at no signals
"""


def test_the_host_is_in_c_code(start: Start) -> None:
    with start(STUCK.replace("PROCS", "2")) as program:
        program.wait_for("ready")
        silent = f"proc 0 (pid {program.pid}) did not answer within 1 s: it "

        def in_c_code() -> bool:  # it was on its way there
            text = dump(program.pid).stdout
            return "chan receive" in text and silent in text

        assert eventually(in_c_code)
        done = dump(program.pid)
        assert (done.returncode, done.stderr) == (0, ""), done
        found = entries(done.stdout.replace("\nproc 0", "\n\nproc 0"))
        assert found[1].text.startswith(f"goroutine 1 [no answer]:\n  main, proc 0 (pid {program.pid})")
        assert "chan receive" in [e.state for e in found.values()]
        assert silent in done.stdout
        assert program.process.poll() is None


@pytest.mark.parametrize("why", ["computes", "is stopped"])
def test_nobody_answers(start: Start, why: str) -> None:
    script = STUCK if why == "computes" else STUCK.replace("sum(range(10**10))", "time.sleep(60)")
    with start(script.replace("PROCS", "0"), procs=0) as program:
        program.wait_for("ready")
        if why == "is stopped":
            program.kill(number=signal.SIGSTOP)
        expected = f"goproc dump: no process of the program answered: proc 0 (pid {program.pid}) did not answer within 1 s: it "

        def silent() -> bool:
            done = dump(program.pid)
            return done.returncode == 1 and done.stderr.startswith(expected) and done.stderr.count("\n") == 1

        assert eventually(silent, 20)
        assert dump(program.pid).stdout.startswith("goroutine 1 [no answer]:\n  main, proc 0")
        program.kill(number=signal.SIGCONT)


# -- commands beside each other, and those that die ------------------------------------------------------------------


def test_several_at_once(start: Start) -> None:
    with start(waiting("time.sleep(60)"), procs=3) as program:
        program.wait_for("ready")
        line = [sys.executable, "-m", "goproc", "dump", str(program.pid)]
        commands = [
            subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(5)
        ]
        texts = [c.communicate(timeout=60)[0] for c in commands]
        assert [c.returncode for c in commands] == [0] * 5
        assert [headers(t) for t in texts] == [3] * 5 and not any("did not answer" in t for t in texts)
        goes_on(program)


def test_beside_dumps_of_the_program_itself(start: Start) -> None:
    # `stop`: what the handler raises may come in the middle of an answer, which lets nothing through
    main = "while not stop: assert 'did' + ' not answer' not in goproc.dump()"
    with start(waiting(main)) as program:
        program.wait_for("ready")
        for _ in range(5):
            assert len(shown(program.pid)) == 3
        goes_on(program)


def test_a_command_that_was_killed(start: Start) -> None:
    """Its request stays behind: neither the program nor the next command minds."""
    after = """text = goproc.dump()
        assert "did" + " not answer" not in text and text.count("[chan" + " receive]") == 2, text"""
    with start(waiting("sleep(60)", after), procs=3) as program:
        program.wait_for("ready")
        stopped = program.worker(2)
        os.kill(stopped, signal.SIGSTOP)  # it keeps the command waiting
        command = subprocess.Popen(
            [sys.executable, "-m", "goproc", "dump", str(program.pid)], stdout=subprocess.DEVNULL
        )
        try:
            assert eventually(lambda: _maps_the_segment(command.pid), 20)
        finally:
            command.kill()
            command.wait()
            os.kill(stopped, signal.SIGCONT)
        assert len(shown(program.pid)) == 3
        goes_on(program)


def _maps_the_segment(pid: int) -> bool:
    return "/memfd:goproc" in Path(f"/proc/{pid}/maps").read_text()


def test_a_reader_that_goes_away(start: Start) -> None:
    with start(waiting("time.sleep(60)")) as program:
        program.wait_for("ready")
        end, other = os.pipe()
        os.close(end)
        done = subprocess.run(
            [sys.executable, "-m", "goproc", "dump", str(program.pid)],
            stdout=other,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
        os.close(other)
        assert (done.returncode, done.stderr) == (1, "")
        goes_on(program)


def test_the_program_keeps_no_memory_of_it(start: Start) -> None:
    main = """from goproc.shm import _core
        before = _core.census()["blocks"]
        print("counted", flush=True)
        time.sleep(60)"""
    after = "assert _core.census()['blocks'] <= before, (_core.census(), before)"
    with start(waiting(main, after)) as program:
        program.wait_for("counted")
        for _ in range(5):
            assert len(shown(program.pid)) == 3
        program.kill(number=signal.SIGUSR1)
        done = program.wait()
        assert (done.status, done.err) == (0, ""), done


# -- programs that end, signals --------------------------------------------------------------------------------------


def test_dumps_all_along_the_life_of_programs(start: Start) -> None:
    """From its start to its end: whatever the command says, the program ends well."""
    script = """
        import goproc
        from goproc import go
        print("ready", flush=True)
        print(sum(go(abs, -i).result() for i in range(300)))
    """
    for _ in range(5):
        with start(script, procs=3) as program:
            statuses = []
            while program.process.poll() is None:
                done = dump(program.pid)
                statuses.append(done.returncode)
                assert done.returncode == 0 or done.stderr.startswith("goproc dump: "), done
                assert done.stderr.count("\n") <= 1, done
            done_program = program.wait()
        assert (done_program.status, done_program.out, done_program.err) == (0, "ready\n44850\n", "")


def test_no_signal_to_a_process_without_a_handler(start: Start) -> None:
    """The worker has given SIGQUIT back: it is not sent, and the worker answers when its scheduler looks around."""
    script = """
        import signal, sys
        from goproc import chan, go, sleep
        def careless(begun):
            import signal
            signal.signal(signal.SIGQUIT, signal.SIG_DFL)
            begun.send(1)
            sleep(60)
        begun = chan()
        g = go.on(1)(careless, begun)
        begun.recv()
        print("ready", flush=True)
        sys.stdin.readline()
        print("end")
    """
    with start(script, stdin=subprocess.PIPE) as program:
        program.wait_for("ready")
        done = dump(program.pid)
        program.type("\n")
        ended = program.wait()
    assert done.returncode == 0 and "did not answer" not in done.stdout, done
    assert (ended.status, ended.out) == (0, "ready\nend\n"), ended


# -- nothing to show -------------------------------------------------------------------------------------------------


def unused_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_no_such_process(capsys: pytest.CaptureFixture[str]) -> None:
    pid = unused_pid()
    assert main(["dump", str(pid)]) == 1
    assert capsys.readouterr() == ("", f"goproc dump: there is no process {pid}\n")


def test_no_goproc_program() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        done = dump(process.pid)
        process.communicate(b"\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"goproc dump: process {process.pid} has no goproc runtime: it is no goproc program, "
        "or has not used goproc yet\n"
    )


def test_the_runtime_has_not_started(start: Start) -> None:
    with start("import goproc\nprint('ready', flush=True)\nimport time\ntime.sleep(60)") as program:
        program.wait_for("ready")
        done = dump(program.pid)
    assert done.returncode == 1 and "or has not used goproc yet" in done.stderr


def test_a_program_that_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        done = dump(process.pid)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"goproc dump: process {process.pid} has ended; its parent has not taken its exit status yet\n"
    )


def test_the_runtime_has_stopped(start: Start) -> None:
    script = (
        "import goproc, time\nwith goproc.runtime(procs=2): pass\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    with start(script, how="python", procs=None) as program:
        program.wait_for("ready")
        done = dump(program.pid)
    assert done.returncode == 1 and "has no goproc runtime" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_no_permission(start: Start, tmp_path: Path) -> None:
    with start(waiting("time.sleep(60)")) as program:
        program.wait_for("ready")
        code = "import os, sys; sys.path[:] = eval(sys.argv[2]); import goproc.cli.dump, goproc.shm._core, goproc._gathering; os.setgid(65534); os.setuid(65534); sys.exit(goproc.cli.main(['dump', sys.argv[1]]))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(program.pid), repr(sys.path)],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr == (
            f"goproc dump: no permission to look into process {program.pid}: "
            "it belongs to another user, or is protected\n"
        )
        goes_on(program)


def test_another_version_of_the_layout(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment whose ABI number is not the command's."""
    script = """
        import os, time
        fd = os.memfd_create("goproc")
        os.write(fd, (0x31636F72706F67).to_bytes(8, "little") + (99).to_bytes(4, "little") + bytes(4084))
        print("ready", flush=True)
        time.sleep(60)
    """
    with start(script) as program:
        program.wait_for("ready")
        done = dump(program.pid)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"goproc dump: process {program.pid} runs another version of goproc: use the `goproc` of its environment\n"
    )


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "no process; usage: goproc dump PID"),
        (["1", "2"], "one process at a time, not 2 arguments; usage: goproc dump PID"),
        (["x"], "'x' is not a process id"),
        (["0"], "'0' is not a process id"),
        (["-1"], "'-1' is not a process id"),
        (["99999999999"], "'99999999999' is not a process id"),
        (["\u0663"], "is not a process id"),
        (["--all"], "unknown option '--all'; see `goproc dump --help`"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    assert main(["dump", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("goproc dump: error: ") and problem in err and err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: goproc dump PID") and err == ""
    assert all(len(line) <= 80 for line in out.splitlines())
    main(["--help"])
    assert re.search(r"^  dump PID ", capsys.readouterr().out, re.M)
