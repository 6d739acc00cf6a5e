"""Real processes are killed while they use a segment: kills.c. --long kills a million."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from harness import HERE, compiled, core, linked

pytestmark = pytest.mark.watchdog(200)

SHORT, LONG = 20_000, 1_000_000
PIECE = 5_000  # deaths of one program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    objects = compiled(folder, core(), ["-fsanitize=thread"])  # the marks: see points.c
    objects += compiled(folder, [HERE / name for name in ("world.c", "points.c", "kills.c")])
    return linked(folder / "kills", objects, ["-Wl,--wrap=gp_repair_heap"])


def kill(program: Path, deaths: int) -> None:
    done = subprocess.run([program, str(deaths)], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0 and done.stdout.endswith("0 wrong\n"), done.stdout + done.stderr


@pytest.mark.parametrize("piece", range(SHORT // PIECE))
def test_kills(program: Path, piece: int) -> None:
    kill(program, PIECE)


@pytest.mark.watchdog(6 * 3600)
def test_a_million_kills(program: Path, long: bool) -> None:
    if not long:
        pytest.skip("--long only: it takes half an hour")
    for _ in range((LONG - SHORT) // PIECE):
        kill(program, PIECE)
