"""Every instruction of an operation is one at which its process may die: crash_image.c steps through them.

--long takes each instruction of the long operations, too; else these are sampled.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.watchdog(200)

HERE = Path(__file__).parent
SHM = HERE.parent.parent / "goproc" / "shm"
LONG = {
    "select over 70": 11,
    "memory": 97,
    "collect": 97,
    "reclaim": 97,
}  # every nth instruction, in the short form


def names() -> list[str]:
    text = (HERE / "crash_scenarios.c").read_text()
    table = text[text.index("scenarios[] = {") : text.index("const int n_scenarios")]
    return [line.split('"')[1] for line in table.splitlines() if line.strip().startswith('{"')]


SHORT = [name for name in names() if name not in LONG]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("crash_image") / "crash_image"
    sources = [*SHM.glob("mem/*.c"), *SHM.glob("chan/*.c"), *SHM.glob("proc/*.c")]
    flags = ["-std=c11", "-g", "-O2", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", f"-I{SHM}"]
    line = [
        "cc",
        *flags,
        *HERE.glob("crash_*.c"),
        *sources,
        "-lpthread",
        "-Wl,-z,now,--wrap=gp_futex_wake,--wrap=clock_gettime",
        "-o",
        built,
    ]  # no look-up of symbols among the steps
    subprocess.run(line, check=True)
    return built


def step(program: Path, names: list[str], every: int = 1) -> int:
    """Run scenarios, all without names; return how many states were looked at."""
    done = subprocess.run(
        [program, *names], env={"EVERY": str(every)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0 and done.stdout.endswith(" images, 0 wrong\n"), done.stdout + done.stderr
    return int(done.stdout.splitlines()[-1].split()[0])


@pytest.mark.parametrize("first", range(0, len(SHORT), 6))
def test_operations(program: Path, first: int) -> None:
    names = SHORT[first : first + 6]
    assert step(program, names) > 170 * len(names)


@pytest.mark.parametrize("name", LONG)
def test_long_operations(program: Path, name: str, long: bool) -> None:
    assert step(program, [name], 1 if long else LONG[name]) > 100
