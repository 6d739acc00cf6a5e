"""A build with GOPROC_DEBUG=1 checks the invariants of shared memory as it runs."""

from __future__ import annotations

import signal

import programs
import pytest

from goproc.shm import _core

pytestmark = pytest.mark.skipif(
    not hasattr(_core, "DEBUG"),
    reason="only a build with GOPROC_DEBUG=1 has the checks: see scripts/sanitize",
)


def test_a_broken_ring_ends_the_process_with_the_place_and_the_invariant(run: programs.Run) -> None:
    done = run("""
        import ctypes
        from goproc import chan
        ch = chan(1)
        with open("/proc/self/maps") as maps:
            found = [line.split() for line in maps if "memfd:goproc" in line]
        base = min(int(f[0].split("-")[0], 16) for f in found if int(f[2], 16) == 0)
        ctypes.c_uint64.from_address(base + 64 * ch._ref + 32).value = 99  # tail: more than there is room for
        ch.send(1)
    """)
    assert done.status == -signal.SIGABRT, done
    assert "channel.c:" in done.err and "not true in proc 0" in done.err and "consistent(c)" in done.err
