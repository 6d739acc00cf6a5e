"""Ends at random moments: nothing outlives the program, and what starts and stops a thousand times leaves nothing.

--long does each a thousand times in place of 50.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from programs import Run, start

pytestmark = pytest.mark.watchdog(3 * 3600)  # of the long form; each program has a limit of its own

AT_ONCE = 4  # programs

BUSY = """
    import os, sys
    from goproc import Mutex, chan, go, select, sleep
    print("begun", flush=True)
    def talk(a, b):
        for n in range(10**9):
            select((a.send, b"x" * 100), b, timeout=5)
            if n % 20 == 0: sleep(0.0005)
    def large(ch):
        while True:
            ch.send(bytes(200_000))
            ch.recv()
    def many(): return [go(int) for _ in range(50)]
    a, b = chan(2), chan()
    for p in (1, 2):
        go.on(p)(talk, a, b)
        go.on(p)(talk, b, a)
        go.on(p)(large, chan(1))
    while True:
        for g in many(): g.result()
        sleep(0.001)
"""


def shared_files() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if "goproc" in name}


def a_moment(dice: random.Random) -> float:
    """Return seconds after the start of a program: while it starts, or at work."""
    return dice.random() * dice.choice((0.1, 0.4, 0.8))


def at_random_moments(folder: Path, long: bool, end: Callable[[Path, int], None]) -> None:
    """Call `end` with a folder and a seed for each of many programs, some of which run at once."""
    count = 500 if long else 25
    folders = [folder / str(number) for number in range(count)]
    for each in folders:
        each.mkdir()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(end, folders, [random.randrange(1 << 30) for _ in range(count)]))


@pytest.mark.parametrize("how", ["goproc", "python"])
def test_the_host_is_killed(tmp_path: Path, how: str, long: bool) -> None:
    def end(folder: Path, seed: int) -> None:
        with start(folder, BUSY, how=how) as program:
            time.sleep(a_moment(random.Random(seed)))  # nothing to wait on: the moment is to be any
            program.kill()
            done = program.wait(10, gone=3.0)
        assert done.status == -signal.SIGKILL, (seed, done)

    files = shared_files()
    at_random_moments(tmp_path, long, end)
    assert shared_files() <= files


@pytest.mark.parametrize("how", ["goproc", "python"])
def test_ctrl_c(tmp_path: Path, how: str, long: bool) -> None:
    """Ctrl-C goes to all processes of the group, the host ends with status 130 or of the signal."""

    def end(folder: Path, seed: int) -> None:
        with start(folder, BUSY, how=how) as program:
            program.wait_for("begun")
            time.sleep(a_moment(random.Random(seed)))  # nothing to wait on: the moment is to be any
            program.interrupt()
            done = program.wait(20, gone=3.0)
        assert done.status in (-signal.SIGINT, 130), (seed, done)
        assert done.err == "goproc: interrupted (Ctrl-C)\n" or "\nKeyboardInterrupt" in done.err, (seed, done)
        assert "Exception ignored" not in done.err, (seed, done)
        assert "panic" not in done.err and "was killed" not in done.err, (seed, done)

    at_random_moments(tmp_path, long, end)


def test_forks_inside_goroutines(run: Run, long: bool) -> None:
    """A child that a goroutine forks has no part in the program, which goes on as before."""
    text = """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        import goproc
        from goproc import chan, go, sleep
        from goproc.shm import _core
        def forks(ch, n):
            for _ in range(3): ch.send(n)
            child = os.fork()
            if child == 0:
                try: chan(1).send(1)
                except RuntimeError: os._exit(7)
                os._exit(8)
            sleep(0.001)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            return n
        def count(ch):
            total = 0
            for _ in ch: total += 1
            return total
        rounds = int(sys.argv[1])
        ch = chan(2)
        counter = go(count, ch)
        for n in range(rounds):
            assert go.on(n % (goproc.procs() + 1))(forks, ch, n).result(30) == n
        ch.close()
        assert counter.result(30) == 3 * rounds
        census = _core.census()
        assert census["missed_wakeups"] == 0, census
    """
    done = run(text, str(1000 if long else 50), limit=600)
    assert (done.status, done.out, done.err) == (0, "", ""), done


def test_start_and_stop(run: Run, long: bool) -> None:
    """Runtimes of a program, one after the other: no descriptor, thread, process or mapping is left of any."""
    text = """
        import os, sys, gc
        import goproc
        from goproc import chan, go
        def look():
            gc.collect()
            tasks = set(os.listdir("/proc/self/task"))
            fds = len(os.listdir("/proc/self/fd"))
            with open("/proc/self/maps") as maps: mapped = sum("memfd:goproc" in line for line in maps)
            with open("/proc/self/task/%d/children" % os.getpid()) as file: children = file.read().split()
            return len(tasks), fds, mapped, len(children)
        def echo(a, b):
            for value in a: b.send(value)
        def use(n):
            with goproc.runtime(procs=1 + n % 3):
                a, b = chan(n % 2), chan()
                g = go(echo, a, b)
                a.send(n)
                assert b.recv() == n
                if n % 3: a.close(); g.join()
                elif n % 5 == 0: go(chan().recv)  # it still waits when the runtime stops
        use(0)
        before = look()
        for n in range(int(sys.argv[1])): use(n)
        assert look() == before, (before, look())
    """
    done = run(text, str(1000 if long else 50), how="python", procs=None, limit=1200, options=["-Walways"])
    assert (done.status, done.out, done.err) == (0, "", ""), done
