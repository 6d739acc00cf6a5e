"""The end of a program whose standard error is a full pipe that nobody reads: it takes some seconds, not for ever."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from programs import Run, Start, ok

FILL = """
    import fcntl, os, signal, sys, time
    from goproc import chan, go, sleep
    def fill():
        r, w = os.pipe()
        fcntl.fcntl(w, 1031, 4096)  # F_SETPIPE_SZ
        os.dup2(w, 2)
        os.close(w)
        os.write(2, b"x" * 4096)
        os.set_inheritable(r, False)
        return r
"""
ENDS = {
    "a worker is killed": ("os.kill(go.on(1)(os.getpid).result(), 9); sleep(60)", 2),
    "main panics": ("raise ValueError('main')", 2),
    "a goroutine of the host panics": ("go.local(int, 'x'); sleep(60)", 2),
    "deadlock": ("chan().recv()", 2),
    "SIGQUIT": ("os.kill(os.getpid(), signal.SIGQUIT); sleep(60)", 2),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT); sleep(60)", 130),
    "sys.exit with a text": ("go.local(sys.exit, 'text'); sleep(60)", 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_nobody_reads(run: Run, end: str) -> None:
    line, status = ENDS[end]
    script = f"{FILL}\n    go.on(1)(int).result()\n    r = fill()\n    {line}\n"
    done = run(script, limit=20, env={"GOPROC_ON_DEATH": "exit"})
    assert done.status == status, done


def test_a_worker_that_panics(run: Run) -> None:
    """The pipe is full for the worker as well: it has it from the start."""
    done = run(
        f"{FILL}\n    r = fill()\n    def fail(): raise ValueError('x')\n    go.on(1)(fail)\n    sleep(60)\n",
        limit=20,
    )
    assert done.status == 2, done


def test_another_process_waits_for_the_reader(run: Run) -> None:
    """One that is in the middle of a line holds the lock for lines, and does not get done with it."""
    script = f"""{FILL}
    r = fill()
    def shout(begun):
        begun.send(1)
        print("y" * 10000, file=sys.stderr)
    def fail():
        time.sleep(0.3)  # nothing to wait on: stderr is full by then
        raise ValueError("x")
    begun = chan()
    go.on(2)(shout, begun)
    begun.recv()
    go.on(1)(fail)
    sleep(60)
    """
    assert run(script, limit=20).status == 2


HOLDERS = {
    "a thread": """
    import threading
    from goproc._proc import line_output
    threading.Thread(target=shout, daemon=True).start()
    while line_output._emitting is None: sleep(0.001)
    """,
    "a worker": """
    from goproc.shm import _core
    go.on(2)(shout)
    while _core.output_lock(False) is not None:
        _core.output_unlock()
        sleep(0.001)
    """,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_end_of_a_line_on_standard_output(run: Run, holder: str) -> None:
    """A thread or process is in the middle of a line for standard error, and its reader never comes."""
    script = f"""{FILL}
    r = fill()
    go.on(2)(int).result()
    def shout(): print("y" * 10000, file=sys.stderr)
    {HOLDERS[holder]}
    print("a line", end="")
    go.local(int, "x")
    sleep(60)
    """
    done = run(script, limit=20)
    assert (done.status, done.out) == (2, "a line"), done


DEATHS = """
    def die(p, goroutines=1, name="lost"):
        started = chan(goroutines)
        def lost():
            started.send(os.getpid())
            chan().recv()
        lost.__name__ = lost.__qualname__ = name
        tasks = [go.on(p)(lost) for _ in range(goroutines)]
        pid = [started.recv() for _ in tasks][0]
        os.kill(pid, 9)
        for g in tasks: assert g.exception(20).pid == pid
        return f"goproc: proc {p} (pid {pid}) was killed by signal 9"
"""


def test_the_program_goes_on_while_nobody_reads_of_deaths(run: Run) -> None:
    """The lines wait for the reader, and the coroner does not: it sees the next death, and replaces the workers."""
    script = f"""{FILL}{DEATHS}
    r = fill()
    lines = [die(p) for p in (1, 2, 1, 2)]
    text = ""
    while text.count("\\n") < len(lines): text += os.read(r, 4096).decode()
    print([text[4096:].splitlines()[i].startswith(line) for i, line in enumerate(lines)])
    """
    assert ok(run(script, limit=20)) == "[True, True, True, True]\n"


def test_lines_about_deaths_for_which_there_is_no_room(run: Run) -> None:
    script = f"""{FILL}{DEATHS}
    r = fill()
    deaths = 40
    for _ in range(deaths): die(1, 9, "n" * 40)
    text = ""
    while " more lines" not in text or not text.endswith("\\n"): text += os.read(r, 4096).decode()
    *lines, last = text[4096:].splitlines()
    assert all(line.startswith("goproc: proc 1 (pid ") and line.endswith("is replaced") for line in lines), lines
    assert last == f"goproc: {{deaths - len(lines)}} more lines about deaths; nobody has read standard error", last
    assert len(lines) > 10
    die(1)
    assert os.read(r, 4096).startswith(b"goproc: proc 1 (pid ")
    print("goes on")
    """
    assert ok(run(script, limit=25)) == "goes on\n"


@pytest.mark.parametrize("policy", ["restart", "continue"])
def test_main_returns_while_nobody_has_read_of_a_death(run: Run, policy: str) -> None:
    script = f"{FILL}{DEATHS}\n    r = fill()\n    die(1)\n    print('returns')\n"
    assert ok(run(script, limit=20, env={"GOPROC_ON_DEATH": policy})) == "returns\n"


UNREAD = {
    "main returns": ("g = go(fail); started.recv(); ended(g)", 2),
    "the handle goes": ("g = go(fail); started.recv(); ended(g); g = None", 0),
    "the handle goes on a worker": ("go.on(1)(drop).result()", 0),
}


@pytest.mark.parametrize("case", UNREAD)
def test_failures_that_nobody_reads(run: Run, case: str) -> None:
    line, status = UNREAD[case]
    script = f"""{FILL}
    r = fill()
    started = chan(1)
    def fail():
        started.send(1)
        raise ValueError("x")
    def ended(g):
        while g.state != "failed": sleep(0.001)
    def drop():
        g = go.on(2)(fail)
        started.recv()
        ended(g)
    {line}
    """
    done = run(script, limit=20)
    assert (done.status, done.err) == (status, ""), done


def test_progress_of_a_map(run: Run) -> None:
    script = f"""{FILL}
    from goproc import pmap
    r = fill()
    print(sum(pmap(abs, range(1000), progress=True)))
    """
    assert ok(run(script, limit=20)) == "499500\n"


def test_a_slow_reader_gets_all(start: Start) -> None:
    """The report fills the pipe several times; it goes out as the reader takes it."""
    script = """
        import fcntl, os
        from goproc import go, sleep
        fcntl.fcntl(2, 1031, 4096)
        def fail(): raise ValueError("x" * 50000)
        go.on(1)(fail)
        sleep(60)
    """
    with start(script) as program:
        done = program.wait(20)
    assert done.status == 2, done
    assert done.err.startswith(f"panic: {'x' * 50000}\n\ngoroutine ") and done.err.count("x" * 50000) == 2


KILL = """
    import os
    from goproc import go, sleep
    pid = go.on(1)(os.getpid).result()
    {}
    os.kill(pid, 9)
    sleep(60)
"""


@pytest.mark.parametrize("flags", ["os.O_APPEND", "0"])
def test_a_file_that_standard_error_has_become(run: Run, tmp_path: Path, flags: str) -> None:
    """The coroner has descriptors of its own, and writes to the standard error that the process has by then."""
    replace = f"os.dup2(os.open('err', os.O_WRONLY | os.O_CREAT | {flags}), 2); os.write(2, b'before\\n')"
    done = run(KILL.format(replace), env={"GOPROC_ON_DEATH": "exit"})
    text = (tmp_path / "err").read_text()
    assert (done.status, done.err) == (2, ""), done
    assert re.match(r"before\nfatal error: proc 1 \(pid \d+\) was killed by signal 9 ", text), text
    assert text.count("fatal error") == 1


def test_a_socket(run: Run) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = run(KILL.format("pass"), env={"GOPROC_ON_DEATH": "exit"}, stderr=theirs.fileno())
        text = ours.recv(10000)
    assert done.status == 2, done
    assert text.startswith(b"fatal error: proc 1 "), text


def test_a_closed_one(run: Run) -> None:
    done = run(KILL.format("os.close(2)"), env={"GOPROC_ON_DEATH": "exit"})
    assert (done.status, done.err) == (2, ""), done
