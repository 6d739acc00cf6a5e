"""The limits of programs.Program: time in which a program waits for a CPU does not count."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from programs import Done, Program, environment
from starved import Patience

BURN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"  # not longer than the tests run
COMPUTE = "import time\nwhile time.process_time() < 0.5: pass"
LIMIT = 2.0  # the seconds of COMPUTE and of two starts of Python on a slow CPU, and less than all takes on a crowded one


@contextmanager
def begun(folder: Path, code: str, cpu: int | None = None) -> Iterator[Program]:
    def pin() -> None:
        if cpu is not None:
            os.sched_setaffinity(0, [cpu])

    program = Program([sys.executable, "-c", code], folder, environment(), preexec_fn=pin)
    try:
        yield program
    finally:
        program.close()


def wait(folder: Path, code: str, seconds: float, cpu: int | None = None) -> Done:
    with begun(folder, code, cpu) as program:
        return program.wait(seconds)


@pytest.fixture
def crowded() -> Iterator[int]:
    """A CPU on which six others compute."""
    cpu = min(os.sched_getaffinity(0))
    line = [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{cpu}])\n{BURN}"]
    others = [subprocess.Popen(line, start_new_session=True) for _ in range(6)]
    yield cpu
    for other in others:
        other.kill()
        other.wait()


def test_a_program_that_gets_no_cpu_is_not_late(tmp_path: Path, crowded: int) -> None:
    assert wait(tmp_path, COMPUTE, LIMIT, crowded).status == 0


def test_a_program_that_waits_for_a_child_that_gets_no_cpu_is_not_late(tmp_path: Path, crowded: int) -> None:
    """The child has no environment to be known by, as a process that is about to end."""
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {COMPUTE!r}], env={{}})"
    assert wait(tmp_path, code, LIMIT, crowded).status == 0


def test_a_line_of_a_program_that_gets_no_cpu_is_not_late(tmp_path: Path, crowded: int) -> None:
    with begun(tmp_path, f"{COMPUTE}\nprint('computed')", crowded) as program:
        program.wait_for("computed", seconds=LIMIT)


@pytest.mark.parametrize("code", ["", "import time\ntime.sleep(60)"])
def test_a_line_that_does_not_come_is_missed(tmp_path: Path, code: str) -> None:
    with (
        begun(tmp_path, code) as program,
        pytest.raises(AssertionError, match="'computed' did not come"),
    ):
        program.wait_for("computed", seconds=0.5)


@pytest.mark.parametrize("code", ["import time\ntime.sleep(60)", BURN])
def test_a_program_that_hangs_is_late(tmp_path: Path, code: str) -> None:
    with pytest.raises(AssertionError, match=r"did not end within 0\.5 s"):
        wait(tmp_path, code, 0.5)


def test_a_program_that_hangs_is_late_on_a_busy_cpu(tmp_path: Path, crowded: int) -> None:
    with pytest.raises(AssertionError, match=r"did not end within 0\.5 s"):
        wait(tmp_path, "import time\ntime.sleep(60)", 0.5, crowded)


def test_the_longest_time_counts_all(crowded: int) -> None:
    line = [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{crowded}])\n{BURN}"]
    with subprocess.Popen(line) as late:
        patience = Patience(lambda: [late.pid], 0.2, 0.4)
        while not patience.is_over():
            pass
        late.kill()
