"""The types of the public interface, as mypy and pyright read them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKERS = {
    "mypy": ("mypy", "--strict", "--no-incremental", "--hide-error-context"),
    "pyright": ("basedpyright", "--level", "error"),
}


@pytest.mark.watchdog(240)  # a checker reads all of goproc
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("file", sorted(p.name for p in HERE.glob("*.py") if not p.name.startswith("test_")))
def test_the_checkers_find_the_wrong_lines_alone(checker: str, file: str) -> None:
    lines = (HERE / file).read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
    assert wrong
    done = subprocess.run(
        [sys.executable, "-m", *CHECKERS[checker], file],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(n) for n in re.findall(rf"{re.escape(file)}:(\d+):(?:\d+)?:? *-? *error", done.stdout)}
    assert found == wrong, done.stdout + done.stderr
