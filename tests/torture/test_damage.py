"""A program whose shared memory is damaged ends with a report, whoever finds it."""

from __future__ import annotations

import re

import pytest
from programs import Run

SPOIL = """
    import ctypes
    from goproc import Mutex, chan, go, select

    def spoil(handle, at, value, kind=ctypes.c_uint64):
        with open("/proc/self/maps") as maps:
            base = min(int(line.split("-")[0], 16) for line in maps if "memfd:goproc" in line)
        kind.from_address(base + 64 * handle._ref + at).value = value

    LOCK, TAIL, RECEIVERS = 16, 32, 40
    WAITERS = 1 << 31
"""
REPORT = re.compile(
    r"fatal error: proc (\d) \(pid \d+\) found goproc's shared memory damaged: ([\w ]+) that cannot be \(\w+\)\n"
    r"C code that writes beyond its memory does that, in any process of the program: an extension module, say\.\n"
)


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("proc", [0, 1])
@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("c.send(1); spoil(c, TAIL, 10**6); c.recv()", "a number of messages"),
        ("spoil(c, RECEIVERS, 0xFF000001); c.send(1)", "a place in a queue"),
        ("spoil(c, RECEIVERS, 0xFF000001); c.close()", "a place in a queue"),
        ("spoil(c, LOCK, WAITERS, ctypes.c_uint32); c.send(1)", "the holder of a lock"),
        ("spoil(c, LOCK, 77 << 10 | 9, ctypes.c_uint32); c.close()", "the holder of a lock"),
    ],
)
def test_the_program_ends_with_a_report(run: Run, how: str, proc: int, damage: str, what: str) -> None:
    script = f"""{SPOIL}
    c = chan(4)

    def damages():
        {damage}

    go.on({proc})(damages).join()
    print("not reached")
    """
    done = run(script, how=how)
    assert (done.status, done.out) == (2, ""), done
    found = REPORT.fullmatch(done.err)
    assert found and found.groups() == (str(proc), what), done.err


@pytest.mark.parametrize(
    ("proc", "finder", "at", "what"),
    [
        (1, 0, 224, "a number of waiters"),
        (2, 2, 224, "a number of waiters"),
        (1, 0, 228, "a number of cases"),
    ],
)
@pytest.mark.parametrize("value", [0x00FFFFFF, 0xFFFFFFFF])
def test_numbers_of_records_are_spoiled(
    run: Run, proc: int, finder: int, at: int, what: str, value: int
) -> None:
    """Proc 1 dies: the coroner reads its numbers in the repair. Proc 2 looks at its own waiters after that."""
    script = f"""{SPOIL}
    import goproc
    def spoil_number(proc):
        with open("/proc/self/maps") as maps:
            base = min(int(line.split("-")[0], 16) for line in maps if "memfd:goproc" in line)
        procs = ctypes.c_uint64.from_address(base + 24).value
        ctypes.c_uint32.from_address(base + procs + 4096 * proc + {at}).value = {value}
    go.on(1)(int).result(), go.on(2)(int).result()
    spoil_number({proc})
    goproc.kill(1)
    goproc.sleep(20)
    """
    done = run(script, env={"GOPROC_QUIET_DEATHS": "1"})
    assert (done.status, done.out) == (2, ""), done
    found = REPORT.fullmatch(done.err)
    assert found and found.groups() == (str(finder), what), done.err
