"""The end of the zygote and of its workers: in order, by a death, or because the host is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from zygotes import LIMIT, ROOT, WORKERS, Clock, Start, gone, killed_at_last, starting, wait_until

from goproc._proc import letters, zygote_end


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as begin:
        yield begin


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def test_deaths_are_reported_with_their_status(start: Start) -> None:
    z = start("leave", procs=4)
    z.read(lambda: len(z.of(letters.DIED)) == 3)
    codes = {proc: os.waitstatus_to_exitcode(value) for _, proc, _, value in z.of(letters.DIED)}
    assert codes == {1: 11, 2: 12, 3: 13}
    assert {r[2] for r in z.of(letters.DIED)} == {r[2] for r in z.of(letters.STARTED)}


def test_a_killed_worker_is_reported_at_once(start: Start, clock: Clock) -> None:
    """The death itself wakes the zygote: while time stands still, nothing else would."""
    z = start("sleep", preload=[clock.module])
    pids = z.wait_started(2)
    assert clock.reads() > 0
    os.kill(pids[1], signal.SIGKILL)
    z.read(lambda: bool(z.of(letters.DIED)))
    assert z.of(letters.DIED) == [(letters.DIED, 2, pids[1], signal.SIGKILL)]


def test_an_entry_that_raises_ends_with_70(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    z = start("fail", procs=2)
    z.read(lambda: bool(z.of(letters.DIED)))
    assert os.waitstatus_to_exitcode(z.of(letters.DIED)[0][3]) == 70
    assert "RuntimeError: no luck" in capfd.readouterr().err


def test_quit(start: Start, clock: Clock) -> None:
    """The zygote ends with its workers: while time stands still, it would wait for ever for a limit to pass."""
    z = start("sleep", preload=[clock.module])
    pids = z.wait_started(2)
    assert clock.reads() > 0
    os.write(z.control, letters.QUIT)
    assert z.wait_ended() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    z.read(lambda: len(z.of(letters.DIED)) == 2)
    assert {value for _, _, _, value in z.of(letters.DIED)} == {signal.SIGTERM}


def test_quit_kills_those_that_do_not_listen(start: Start, clock: Clock) -> None:
    """They have the grace to end, and no more."""
    z = start("stubborn", preload=[clock.module])
    z.wait_started(2)
    wait_until(lambda: z.marks() == 2, "both ignore SIGTERM")
    os.write(z.control, letters.QUIT)
    clock.wait_for_reads(3)
    clock.set(0.95 * zygote_end.GRACE)
    clock.wait_for_reads(3)
    z.read_what_is_there()
    assert z.of(letters.DIED) == []
    clock.set(zygote_end.GRACE)
    assert z.wait_ended() == 0
    z.read(lambda: len(z.of(letters.DIED)) == 2)
    assert {value for _, _, _, value in z.of(letters.DIED)} == {signal.SIGKILL}


def test_quit_and_hang_up_at_once_is_still_in_order(start: Start) -> None:
    z = start("sleep")
    z.wait_started(2)
    os.write(z.control, letters.QUIT)
    z.hang_up()
    assert z.wait_ended() == 0


def test_sigterm_to_the_zygote_is_quit(start: Start) -> None:
    z = start("sleep")
    pids = z.wait_started(2)
    os.kill(z.pid, signal.SIGTERM)
    assert z.wait_ended() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_sigint_has_no_effect(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    z = start("sleep")
    os.kill(z.pid, signal.SIGINT)  # while it imports
    z.wait_started(2)
    os.kill(z.pid, signal.SIGINT)
    os.write(z.control, letters.QUIT)
    assert z.wait_ended() == 0
    assert capfd.readouterr().err == ""


def test_hang_up_kills_all(start: Start, clock: Clock) -> None:
    """At once: while time stands still, the zygote cannot have waited for them."""
    z = start("stubborn", preload=[clock.module])
    pids = z.wait_started(2)
    wait_until(lambda: z.marks() == 2, "both ignore SIGTERM")
    assert clock.reads() > 0
    z.hang_up()
    assert z.wait_ended() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_newborn_worker_is_killed_and_not_stopped_before(start: Start, tmp_path: Path) -> None:
    """A worker that has no name yet has no lifeline. If it were stopped, the death of the zygote would leave it so."""
    (tmp_path / "looks.py").write_text(
        "import os\n"
        "from goproc._proc import descendants\n"
        "descendants.find_of_stopped = lambda *pids, **_: os.kill(os.getpid(), 9)\n"
    )
    z = start("sleep", preload=["looks"])
    pids = z.wait_started(2)
    z.hang_up()
    with killed_at_last(lambda: pids):
        assert z.wait_ended() == 0


STOPPED_AT_BIRTH = """
import os, signal
real = os.fork
def fork():
    pid = real()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    return pid
os.fork = fork
"""


def test_a_worker_that_is_stopped_at_its_birth_ends_with_host_and_zygote(
    start: Start, tmp_path: Path
) -> None:
    """It has run no code that would ask the kernel for that. Another worker does not keep it alive either."""
    (tmp_path / "stopped_at_birth.py").write_text(STOPPED_AT_BIRTH)
    pipes = [*os.pipe(), *os.pipe()]
    z = start("sleep", preload=["stopped_at_birth"], lifelines=(pipes[0], pipes[3]))
    pids = z.wait_started(2)
    for fd in pipes:
        os.close(fd)
    os.kill(z.pid, signal.SIGKILL)
    with killed_at_last(lambda: pids):
        wait_until(lambda: all(map(gone, pids)), "the workers have ended")
        z.wait_ended()


KILLED_MEANWHILE = """
import os, signal
from goproc._proc import descendants
find = descendants.find_of_stopped
def find_of_stopped(*pids, **options):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return find(*pids, **options)
descendants.find_of_stopped = find_of_stopped
"""


@pytest.mark.parametrize(
    ("entry", "end"),
    [
        ("with_program", "hang up, and the workers are killed before the zygote has found their programs"),
        ("with_program", "quit, and the workers die of SIGTERM"),
        ("killed_in_exit_handler", "quit"),
        ("late_in_exit_handler", "quit"),
        ("killed_while_it_ends_programs", "hang up"),
    ],
)
def test_programs_end_whose_worker_dies_at_the_end(
    start: Start, tmp_path: Path, entry: str, end: str
) -> None:
    (tmp_path / "killed_meanwhile.py").write_text(KILLED_MEANWHILE)
    z = start(entry, preload=["killed_meanwhile"] if "killed before" in end else [])
    z.wait_started(2)
    wait_until(lambda: len(z.programs()) == 2, "both have started a program")
    if entry == "killed_while_it_ends_programs":
        wait_until(
            lambda: all(psutil.Process(p).ppid() == z.pid for p in z.programs()), "their parents have ended"
        )
    if "hang up" in end:
        z.hang_up()
    else:
        os.write(z.control, letters.QUIT)
    with killed_at_last(z.programs):
        assert z.wait_ended() == 0
        wait_until(lambda: all(map(gone, z.programs())), "the programs have ended")


@pytest.mark.watchdog(120)
def test_a_host_that_does_not_read_blocks_nobody(start: Start) -> None:
    """The zygote has more records than the socket holds, and goes on. Then everything comes, in order."""
    z = start("first_stays", procs=256)
    first = z.wait_started(1)[0]
    parent = psutil.Process(z.pid)
    wait_until(lambda: z.marks() == 255, "all workers run")
    wait_until(lambda: [p.pid for p in parent.children()] == [first], "the zygote has collected all others")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not parent.children(), "the zygote has collected the last one")
    z.read(lambda: len(z.of(letters.DIED)) == 255)
    assert len(z.of(letters.STARTED)) == 255


HOST = """
    import os, sys, time
    sys.path.insert(0, {folder!r})
    from goproc._proc import launch, letters, zygote
    config = launch.host_config(3, [None] * 3)
    config.update(entry="workers_of_test:sleep", preload=[])
    def forked_child():
        for fd in range(3): os.close(fd)
        while not os.path.exists({folder!r} + "/leave"): time.sleep(0.01)
        os._exit(0)
    memfd = os.memfd_create("x")
    control, pid, keeper = launch.launch_and_order(config, memfd)
    os.set_blocking(control, True)
    workers = [letters.RECORD.unpack(os.read(control, 64))[2] for _ in range(2)]
    {more}
    print(pid, keeper, *workers, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("more", ["", "os.fork() or forked_child()"], ids=["alone", "forked"])
def test_kill_9_of_the_host_leaves_nothing(tmp_path: Path, more: str) -> None:
    """Also while a child that the host has forked keeps its end of the control socket open."""
    (tmp_path / "workers_of_test.py").write_text(WORKERS)
    code = textwrap.dedent(HOST).format(folder=str(tmp_path), more=more)
    host = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}
    )
    assert host.stdout is not None
    try:
        pids = [int(pid) for pid in host.stdout.readline().split()]
        assert len(pids) == 4
        host.kill()
        wait_until(lambda: all(map(gone, pids)), "all processes end")
    finally:
        (tmp_path / "leave").touch()
        host.kill()
        host.wait(LIMIT)
        host.stdout.close()
