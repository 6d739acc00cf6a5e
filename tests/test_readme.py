"""What the README says is what happens. Its two commands are run by .ci/run, from a fresh clone."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import goproc

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_two_bash_blocks_are_the_two_commands() -> None:
    first, second = blocks("bash")[:2]
    assert "pip install ." in first and "goproc run examples/wordcount.py --procs 8" in first
    assert "pip install -e '.[test]'" in second and "pytest" in second
    assert all(block.count("\n") == 1 and ".venv" in block for block in (first, second))


def test_the_first_listing_is_a_program_that_works(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(blocks("python")[0], encoding="utf-8")
    folder = ROOT / "examples"
    done = subprocess.run(
        [sys.executable, "-m", "goproc", "run", "--procs", "2", str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stderr == "" and done.returncode == 0
    files = [path for path in folder.rglob("*") if path.is_file()]
    *lines, last = done.stdout.splitlines()
    assert sorted(lines) == sorted(f"{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files)
    assert last == f"{len(files)} files"


def test_every_name_of_the_api_page_exists() -> None:
    page = README[README.index("## The API") : README.index("## How it compares")]
    for name in re.findall(r"\b(?:ch|g|wg|n)\.(\w+)", page):
        owners = (goproc.Chan, goproc.Goroutine, goproc.WaitGroup, goproc.Atomic)
        assert any(hasattr(owner, name) for owner in owners), name
    for name in goproc.__all__:
        assert getattr(goproc, name) is not None
