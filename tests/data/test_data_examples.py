"""The examples of the data layer give the right results on every number of processes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

on_every_number_of_procs = pytest.mark.parametrize("procs", [0, 1, 2, 4])


def lines_of(example: str, procs: int, *arguments: str, cwd: Path) -> list[str]:
    """Return what ``goproc run example --procs N arguments`` prints. Its progress is on stderr."""
    command = ["-m", "goproc", "run", str(EXAMPLES / example), "--procs", str(procs), *arguments]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@on_every_number_of_procs
def test_thumbnails(procs: int, tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    head, *broken = lines_of("thumbnails.py", procs, "--to", "small", cwd=tmp_path)
    names = [f"{i:04}.jpg" for i in range(500) if i % 50 == 49 or i % 70 == 69]
    assert head == f"{500 - len(names)} thumbnails in small, {len(names)} images are broken"
    assert [line.partition(":")[0] for line in broken] == names
    assert len(list((tmp_path / "small").iterdir())) == 500 - len(names)


@on_every_number_of_procs
def test_montecarlo_is_reproducible(procs: int, tmp_path: Path) -> None:
    found = lines_of("montecarlo.py", procs, "150000", "--seed", "3", cwd=tmp_path)
    inside = 0
    for batch in range(3):
        numbers = random.Random(f"3/{batch}")
        inside += sum(numbers.random() ** 2 + numbers.random() ** 2 <= 1 for _ in range(50_000))
    assert found[-1].split() == ["150,000", "points:", f"{4 * inside / 150_000:.6f}"]


@on_every_number_of_procs
def test_sortbig(procs: int, tmp_path: Path) -> None:
    (line,) = lines_of("sortbig.py", procs, "--budget", "1M", "--lines", "30000", cwd=tmp_path)
    assert line.startswith("30000 lines")
    found = [tuple(row.split()[:2]) for row in (tmp_path / "sorted.txt").read_text().splitlines()]
    assert found == sorted(found, key=lambda row: (int(row[1]), row[0]))
    assert len(set(found)) == 30_000
