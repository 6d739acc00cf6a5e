"""Words of a segment are spoiled, and it is used then: no process reads or writes elsewhere, or goes round for ever.

fuzz_segment.c does it, under AddressSanitizer. --long does so for two hours of CPU time.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from harness import HERE, compiled, compiler, core, linked

pytestmark = pytest.mark.watchdog(200)

SANITIZER = "-fsanitize=address"
FLAGS = [SANITIZER, "-O1", "-fno-omit-frame-pointer", "-Wno-unused-function", "-Dmadvise=fuzz_madvise"]
OPTIONS = "exitcode=77 detect_leaks=0 allocator_may_return_null=1"
CASES = HERE / "fuzz_cases.txt"  # each led to a crash or a loop before the core checked what it reads
PIECE = 2000  # random cases of one program
CPU_SECONDS = 7200.0


def need_sanitizer(folder: Path) -> None:
    """Skip the test where a program under the sanitizer cannot be built, or does not run."""
    source, program = folder / "hello.c", folder / "hello"
    source.write_text("int main(void) { return 0; }\n")
    built = subprocess.run([compiler(), SANITIZER, source, "-o", program], capture_output=True, text=True)
    if built.returncode != 0:
        pytest.skip(f"the C compiler has no AddressSanitizer: {built.stderr.strip()[-300:]}")
    ran = subprocess.run([program], capture_output=True, text=True)
    if ran.returncode != 0:
        pytest.skip(f"AddressSanitizer does not run here: {ran.stderr.strip()[-300:]}")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    need_sanitizer(folder)
    images = HERE.parent / "recovery"  # fuzz_segment.c has crash_image.c in it
    sources = [HERE / "fuzz_segment.c", images / "crash_checks.c", images / "crash_scenarios.c"]
    objects = compiled(folder, [*core(), *sources], FLAGS)
    return linked(folder / "fuzz_segment", objects, [SANITIZER, "-Wl,--wrap=gp_futex_wake"])


def fuzz(program: Path, *arguments: object) -> tuple[int, int, float]:
    """Return how many cases there were, how many ended with a report, and their CPU seconds."""
    done = subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=1800,
        env={**os.environ, "ASAN_OPTIONS": OPTIONS},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-20000:]
    end = re.search(r"(\d+) cases, (\d+) ended with a report, ([\d.]+) s of CPU, 0 findings\n$", done.stdout)
    assert end, done.stdout
    return int(end[1]), int(end[2]), float(end[3])


def test_saved_cases(program: Path) -> None:
    cases, reports, _ = fuzz(program, CASES)
    assert cases == len(CASES.read_text().splitlines()) and reports > 0


def test_random_cases(program: Path) -> None:
    cases, reports, _ = fuzz(program, 100, 1)
    assert cases == 100 and reports > 0


@pytest.mark.watchdog(6 * 3600)
def test_for_two_hours(program: Path, long: bool) -> None:
    if not long:
        pytest.skip("--long only: it takes two hours")
    seconds, seed = 0.0, 1000
    while seconds < CPU_SECONDS:
        seconds += fuzz(program, PIECE, seed)[2]
        seed += PIECE
