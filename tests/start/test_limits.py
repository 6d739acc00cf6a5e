"""Limits of the system that are too low to start: the error names the limit and says what to do."""

from __future__ import annotations

import os

import pytest
from programs import Run

START = """
    import os, resource
    from goproc import chan
    {}
    try: chan()
    except OSError as error: print(error)
"""


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_no_descriptor_is_left(run: Run, left: int, how: str) -> None:
    use_up = f"""resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        while True: held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError: pass
    for _ in range({left}): os.close(held.pop())"""
    done = run(START.format(use_up), how=how)
    assert done.status == 0, done
    assert (
        left and not done.out
    ) or "Too many open files: RLIMIT_NOFILE (ulimit -n) is 64; raise it, or " in done.out, done


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("limit", range(4, 16))
def test_a_low_limit_on_descriptors(run: Run, limit: int, how: str) -> None:
    """Which one is too low depends on what the program has open."""
    done = run(START.format(f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))"), how=how)
    assert done.status == 0, done
    may_do = limit > 8
    assert (
        may_do and not done.out
    ) or f"Too many open files: RLIMIT_NOFILE (ulimit -n) is {limit}; raise it, or " in done.out, done


@pytest.mark.skipif(os.geteuid() != 0, reason="root has no limit, and only root can become another user")
def test_no_process_is_left(run: Run) -> None:
    become = """import goproc
    with goproc.runtime(procs=1): pass  # imports all: the other user may not read the files
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    os.setuid(65534)"""
    done = run(START.format(become), how="python")
    assert done.status == 0, done
    assert (
        "RLIMIT_NPROC (ulimit -u) is 1, for all processes and threads of this user; raise it or " in done.out
    ), done
    assert "--procs" in done.out


def test_the_workers_have_no_room_in_memory_or_in_a_file(run: Run) -> None:
    for name, option in (("AS", "-v"), ("FSIZE", "-f")):
        done = run(START.format(f"resource.setrlimit(resource.RLIMIT_{name}, (1 << 28, 1 << 28))"))
        assert done.status == 0 and f"RLIMIT_{name} (ulimit {option}) is 268435456" in done.out, done


@pytest.mark.parametrize("megabytes", [8, 12, 16, 20])
def test_threads_have_no_room_for_their_stacks(run: Run, megabytes: int) -> None:
    """The system gives the same error as for too many threads. How much is too little depends on what is loaded."""
    lower = f"""
    with open("/proc/self/statm") as file: data = int(file.read().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (data + ({megabytes} << 20), resource.RLIM_INFINITY))"""
    done = run(START.format(lower), how="python")
    assert done.status == 0, done
    assert "RLIMIT_NPROC" not in done.out or "; RLIMIT_DATA (ulimit -d) is " in done.out, done
