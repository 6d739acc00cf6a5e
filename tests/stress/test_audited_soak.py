"""A mixed load with a worker killed every second, and a process that maps the segment read-only and checks the invariants.

--long takes two hours in place of 16 seconds.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from programs import Start, environment, start_command

pytestmark = pytest.mark.watchdog(
    3 * 3600
)  # of the long form; the program and the auditor have limits of their own

HERE = Path(__file__).parent
SHM = HERE.parent.parent / "goproc" / "shm"
PATIENCE = 5.0  # seconds in which what is no finding has gone
SLACK = {"rss": 4 << 20, "fds": 4, "threads": 2, "blocks": 40, "objects": 40, "committed": 16 << 20}


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("auditor")
    sources = [
        HERE / "auditor.c",
        *(f for floor in ("mem", "chan", "proc") for f in SHM.glob(f"{floor}/*.c")),
    ]
    flags = ["-std=c11", "-g", "-O1", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", f"-I{SHM}"]

    def compiled(source: Path) -> str:
        out = folder / f"{source.stem}.o"
        subprocess.run(["cc", *flags, "-c", source, "-o", out], check=True)
        return str(out)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, sources))
    wrapped = "-Wl,--wrap=gp_damaged"
    subprocess.run(["cc", *objects, wrapped, "-lpthread", "-o", folder / "auditor"], check=True)
    return folder / "auditor"


def test_soak(auditor: Path, tmp_path: Path, long: bool) -> None:
    seconds, seed = (7200 if long else 16), random.randrange(1 << 30)
    words = [str(HERE / "audited.py"), str(seconds), "1", str(seed)]
    line = [sys.executable, "-m", "goproc", "run", "--procs", "3", *words]
    env = environment(GOPROC_QUIET_DEATHS="1", GOPROC_UNREAD="ignore")
    with start_command(line, tmp_path, env) as program:
        program.wait_for("\n")
        segment = f"/proc/{program.pid}/fd/{program.texts()[0].split()[1]}"
        looked = subprocess.run(
            [auditor, segment, str(seconds), str(PATIENCE), "20"],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
        )
        done = program.wait(180)
    print(looked.stdout)
    assert looked.returncode == 0 and " 0 findings" in looked.stdout, (seed, looked)
    assert done.status == 0, (seed, done)
    seen = json.loads(done.out.splitlines()[1])
    print(seen)
    first, last = seen["first"], seen["last"]
    assert seen["other"] == [] and seen["rounds"] > 0 and seen["deaths"] > seconds / 3, (seed, seen)
    assert last["missed_wakeups"] == last["queued"] == 0, (seed, seen)
    grown = {
        name: (first[name], last[name]) for name in SLACK if last[name] > first[name] * 1.1 + SLACK[name]
    }
    assert not grown, (seed, grown, seen)


BROKEN = {
    "I3: the counts of a channel": "word64(ch, 32).value = 99",  # tail
    "I1: a lock has no owner": "word32(ch, 16).value = 200",  # lock
    "I2: a lock is not in its owner's journal": "word32(ch, 16).value = 1 << 10 | 2",
    "I1: the owner of a lock is gone": "word32(ch, 16).value = 77 << 10 | 2",
    "I4: a receiver waits, and there is a value": "go(ch.recv); until_waiting(ch); word64(ch, 32).value = 1",
    "I4: somebody waits on a closed channel": "go(ch.recv); until_waiting(ch); word32(ch, 12).value |= 1 << 16",
    "I8: a block of the dead": "word64(ring(ch), 0).value = 1 << 56 | 77 << 16 | 2",
    "I8: a block of an object that is gone": "word64(ring(ch), 0).value = 2 << 56 | g._ref + 2 * 100",
    "I8: no owner has this tag": "word64(ring(ch), 0).value = 9 << 56",
    "I10: a process sleeps": "until_asleep(1); word64(proc(1), 72).value = 1",
}


@pytest.mark.parametrize("finding", BROKEN)
def test_the_auditor_finds(auditor: Path, start: Start, finding: str) -> None:
    script = f"""
        import ctypes, os, time
        from goproc import chan, go, sleep
        from goproc.shm import _core
        from goproc.testing import until_waiting
        def until_asleep(proc):
            while _core.proc_facts(proc)[2] != 2: sleep(0.001)  # GP_PARKED
        ch = chan(1)
        g = go(int)
        g.join()
        with open("/proc/self/maps") as maps:
            found = [line.split() for line in maps if "memfd:goproc" in line]
        base = min(int(f[0].split("-")[0], 16) for f in found if int(f[2], 16) == 0)
        def place(of): return base + 64 * (of if isinstance(of, int) else of._ref)
        def word64(of, at): return ctypes.c_uint64.from_address(place(of) + at)
        def word32(of, at): return ctypes.c_uint32.from_address(place(of) + at)
        def ring(ch): return word32(ch, 64 - 8).value
        def proc(n): return 64 + 64 * n
        {BROKEN[finding]}
        for fd in os.listdir("/proc/self/fd"):
            try:
                if os.readlink("/proc/self/fd/" + fd).startswith("/memfd:goproc ("): print("segment", fd, flush=True)
            except OSError: pass
        time.sleep(60)
    """
    with start(script) as program:
        program.wait_for("\n")
        segment = f"/proc/{program.pid}/fd/{program.texts()[0].split()[1]}"
        words = [auditor, segment, "20", "0.2", "1"]  # the first finding ends it
        looked = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert looked.returncode == 1 and finding in looked.stdout, looked
