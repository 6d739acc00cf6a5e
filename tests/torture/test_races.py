"""ThreadSanitizer watches the core: the procs are threads of one process (races.c). --long does so for ten minutes."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import HERE, compiled, compiler, core, linked

pytestmark = pytest.mark.watchdog(200)

SANITIZER = "-fsanitize=thread"
PROCS = 5  # as world.h has it
WRAPPED = ["__tsan_atomic_signal_fence", "gp_repair_heap"]
NO_RANDOM_ADDRESSES = ["setarch", platform.machine(), "-R"]
HELLO = "int main(void) { return 0; }\n"


def prefix(folder: Path) -> list[str]:
    """Return the words before a command under the sanitizer, or skip the test.

    Where the kernel places memory at more random addresses than the sanitizer knows of, a program runs only without that.
    """
    source, program = folder / "hello.c", folder / "hello"
    source.write_text(HELLO)
    built = subprocess.run([compiler(), SANITIZER, source, "-o", program], capture_output=True, text=True)
    if built.returncode != 0:
        pytest.skip(f"the C compiler has no ThreadSanitizer: {built.stderr.strip()[-300:]}")
    if shutil.which("objcopy") is None:
        pytest.skip("there is no objcopy (binutils)")
    said = ""
    for words in ([], NO_RANDOM_ADDRESSES):
        if words and shutil.which(words[0]) is None:
            continue
        ran = [subprocess.run([*words, program], capture_output=True, text=True) for _ in range(5)]
        if all(done.returncode == 0 for done in ran):
            return words
        said = ran[0].stderr
    pytest.skip(f"ThreadSanitizer does not run here: {said.strip()[-300:]}")


def copies(folder: Path, objects: list[Path]) -> list[Path]:
    """Link the objects once for each proc; only the function `race` is visible, as race_0, race_1, ..."""
    one = folder / "one.o"
    wrap = [f"-Wl,--wrap={name}" for name in WRAPPED]
    subprocess.run([compiler(), "-r", "-nostdlib", *wrap, *objects, "-o", one], check=True)
    subprocess.run(["objcopy", "--keep-global-symbol=race", one], check=True)
    made = [folder / f"race_{proc}.o" for proc in range(PROCS)]
    for copy in made:
        subprocess.run(["objcopy", f"--redefine-sym=race={copy.stem}", one, copy], check=True)
    return made


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    folder = tmp_path_factory.mktemp("races")
    words = prefix(folder)
    sources = [*core(), HERE / "world.c", HERE / "extras.c", HERE / "racer.c"]
    one_mapping = ["-Dmmap=race_mmap", "-Dmunmap=race_munmap"]
    objects = copies(folder, compiled(folder, sources, [SANITIZER, *one_mapping]))
    objects += compiled(folder, [HERE / "races.c"], [SANITIZER])
    return [*words, linked(folder / "races", objects, [SANITIZER])]


def race(command: list[str | Path], rounds: int, seconds: float) -> None:
    """Run rounds; fail if the sanitizer reports a race that races.supp does not name.

    The sanitizer forgets what a thread did long ago. Of an access whose function it has forgotten it reports that it failed to
    restore the stack: then nobody can say which race that is, and the report does not count.
    """
    options = f"exitcode=0 history_size=7 suppressions={HERE / 'races.supp'}"
    done = subprocess.run(
        [*command, str(rounds), str(seconds)],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "TSAN_OPTIONS": options},
    )
    reports = done.stderr.split("WARNING: ThreadSanitizer: ")[1:]
    known = [report for report in reports if "failed to restore the stack" not in report]
    assert not known, known[0]
    assert done.returncode == 0 and done.stdout.endswith("0 wrong\n"), done.stdout + done.stderr


def test_no_races(command: list[str | Path]) -> None:
    race(command, rounds=4, seconds=2)


@pytest.mark.watchdog(3600)
def test_no_races_for_long(command: list[str | Path], long: bool) -> None:
    if not long:
        pytest.skip("--long only: it takes ten minutes")
    for _ in range(10):
        race(command, rounds=20, seconds=3)
