"""The examples give the right results on every number of processes, and from any directory.

Each runs as a user would run it; what it prints is compared with a plain computation in this file, which shares no code
with the example but the generator of the log.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
import sysconfig
import zlib
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.watchdog(
    100
)  # beside many others they take half a minute, and each has a limit of its own
EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT = 60

on_every_number_of_procs = pytest.mark.parametrize("procs", [0, 1, 2, 4, 8])


def run(command: list[str], cwd: Path) -> list[str]:
    """The lines which a Python command prints; it has to end with status 0 and leave stderr empty."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout.splitlines()


def goproc_run(example: str, procs: int, *arguments: str, cwd: Path) -> list[str]:
    """Return the output of ``goproc run example --procs N arguments``."""
    return run(["-m", "goproc", "run", str(EXAMPLES / example), "--procs", str(procs), *arguments], cwd)


def count_words(folder: Path) -> tuple[int, Counter[str]]:
    """The number of files, and the words: runs of letters, found by blanking everything else."""
    words: Counter[str] = Counter()
    files = [path for path in folder.rglob("*.py") if "site-packages" not in path.parts]
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace").lower()
        other = {ord(c): " " for c in set(text) if not c.isalnum() or c.isdecimal()}
        words.update(text.translate(other).split())
    return len(files), words


@pytest.fixture(scope="module")
def wordcount_of_the_library() -> list[str]:
    files, words = count_words(Path(sysconfig.get_path("stdlib")))
    top = sorted(words, key=lambda word: (-words[word], word))[:10]
    head = f"{files} files, {words.total()} words, {len(words)} different"
    return [head, *(f"{words[word]:9} {word}" for word in top)]


@on_every_number_of_procs
def test_wordcount(procs: int, wordcount_of_the_library: list[str], tmp_path: Path) -> None:
    assert goproc_run("wordcount.py", procs, cwd=tmp_path) == wordcount_of_the_library


def test_wordcount_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "a.txt").write_text("the cat and\nThe dog_and 2cats")
    (tmp_path / "deeper" / "b.txt").write_text("cat\xe9 and")
    (tmp_path / "c.py").write_text("not this")
    lines = goproc_run("wordcount.py", 2, ".", "--pattern", "*.txt", "--check", cwd=tmp_path)
    assert lines[0] == "2 files, 9 words, 6 different"
    assert [line.split() for line in lines[1:3]] == [["3", "and"], ["2", "the"]]
    assert lines[-1] == "check: ok"


@pytest.fixture(scope="module")
def statistics_of_the_log() -> list[str]:
    groups: dict[str, list[int]] = {}
    for line in runpy.run_path(str(EXAMPLES / "logstats.py"))["log_lines"](100_000):
        fields = line.split()
        path, status, latency = fields[6], fields[8], int(fields[10].removesuffix("ms"))
        groups.setdefault(f"{status} {path}", []).append(latency)
    result = ["status path requests p50 p95 p99 ms"]
    for group in sorted(groups):
        latencies = sorted(groups[group])
        points = [latencies[len(latencies) * share // 100] for share in (50, 95, 99)]
        result.append(" ".join(map(str, [group, len(latencies), *points])))
    return result


@on_every_number_of_procs
def test_logstats(procs: int, statistics_of_the_log: list[str], tmp_path: Path) -> None:
    lines = goproc_run("logstats.py", procs, "--lines", "100000", cwd=tmp_path)
    assert [" ".join(line.split()) for line in lines] == statistics_of_the_log


@pytest.fixture(scope="module")
def checksum_of_the_edges() -> str:
    np = pytest.importorskip("numpy", reason="NumPy is not installed")
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    total = 0
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (300, 300), dtype=np.int16)
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3))
        across, down = (np.einsum("ijkl,kl->ij", windows, k) for k in (kernel, kernel.T))
        total += zlib.crc32((abs(across) + abs(down)).astype(np.int16))
    return f"24 images of 300 x 300, checksum {total:012x}"


@on_every_number_of_procs
def test_images(procs: int, checksum_of_the_edges: str, tmp_path: Path) -> None:
    lines = goproc_run("images.py", procs, "--count", "24", "--size", "300", cwd=tmp_path)
    assert lines == [checksum_of_the_edges]


@pytest.fixture(scope="module")
def primes_by_sieve() -> str:
    limit = 200_000
    prime = bytearray([0, 0]) + bytearray([1]) * (limit - 2)
    for n in range(2, int(limit**0.5) + 1):
        if prime[n]:
            prime[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return f"{sum(prime)} primes below {limit}"


@on_every_number_of_procs
def test_primes(procs: int, primes_by_sieve: str, tmp_path: Path) -> None:
    assert goproc_run("primes.py", procs, "--limit", "200000", cwd=tmp_path) == [primes_by_sieve]


def test_hardjob(tmp_path: Path) -> None:
    """Four of the tasks fail, each in a way of its own; two of them take their workers along."""
    command = ["-m", "goproc", "run", "--procs", "4", "--on-death", "restart", "--quiet-deaths"]
    lines = run([*command, str(EXAMPLES / "hardjob.py"), "--timeout", "5"], tmp_path)
    total = sum(n * 100 * (n * 100 - 1) // 2 for n in range(200) if n not in (20, 60, 110, 170))
    assert lines[0] == f"196 results, their sum is {total}"
    assert [line.split(":")[:2] for line in lines[1:]] == [
        ["task 20", " TaskTimeout"],
        ["task 60", " WorkerDied"],
        ["task 110", " JSONDecodeError"],
        ["task 170", " MemoryError"],
    ]


def test_hardjob_needs_workers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "goproc", "run", "--procs", "0", str(EXAMPLES / "hardjob.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith("hardjob.py needs workers")


@pytest.mark.parametrize(
    ("example", "arguments"),
    [
        ("wordcount.py", [str(Path(sysconfig.get_path("stdlib")) / "asyncio")]),
        ("logstats.py", ["--lines", "20000"]),
        ("images.py", ["--count", "8", "--size", "200"]),
        ("primes.py", ["--limit", "30000"]),
    ],
)
def test_plain_python_and_check(example: str, arguments: list[str], tmp_path: Path) -> None:
    """Without the command line: ``python example``; its own check agrees."""
    if example == "images.py":
        pytest.importorskip("numpy", reason="NumPy is not installed")
    lines = run([str(EXAMPLES / example), *arguments, "--check"], tmp_path)
    assert lines[-1] == "check: ok"


@pytest.mark.parametrize(
    ("example", "module"), [("features.py", "pandas"), ("images.py", "numpy"), ("thumbnails.py", "PIL")]
)
def test_a_missing_module_is_named(example: str, module: str, tmp_path: Path) -> None:
    text = f"import runpy, sys; sys.modules[{module!r}] = None; runpy.run_path({str(EXAMPLES / example)!r})"
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{example} needs ") and "pip install" in done.stderr


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_is_short(example: str) -> None:
    assert len((EXAMPLES / example).read_text().splitlines()) < 130


@pytest.mark.parametrize("procs", [0, 2])
def test_features(procs: int, tmp_path: Path) -> None:
    for name in ("pandas", "sklearn"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    lines = goproc_run(
        "features.py", procs, "--customers", "60", "--purchases", "40", "--check", cwd=tmp_path
    )
    assert lines[0] == "2400 purchases of 60 customers, accuracy 1.00"
    assert lines[1].endswith(" evening")
    assert sorted(line.split()[1] for line in lines[1:5]) == ["count", "evening", "mean", "spread"]
    assert lines[5:] == ["check: ok"]
