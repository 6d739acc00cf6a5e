"""The README is true. Its two commands are run by .ci/run, from a fresh clone."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import programs
import pytest

import goproc

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_two_bash_blocks_are_the_two_commands() -> None:
    first, second = blocks("bash")[:2]
    assert "pip install ." in first and "goproc run examples/wordcount.py --procs 8" in first
    assert "pip install -e '.[test]'" in second and "pytest" in second
    assert all(block.count("\n") == 1 and ".venv" in block for block in (first, second))


def run_on_examples(script: Path, listing: str) -> tuple[list[str], str, list[str]]:
    """Run a listing as a program on the folder of the examples. Return its lines, its stderr, and the lines of digests."""
    script.write_text(listing, encoding="utf-8")
    folder = ROOT / "examples"
    done = subprocess.run(
        [sys.executable, "-m", "goproc", "run", "--procs", "2", str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = [path for path in folder.rglob("*") if path.is_file()]
    digests = [f"{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]
    return done.stdout.splitlines(), done.stderr, sorted(digests)


def test_the_first_listing_is_a_map_that_works(tmp_path: Path) -> None:
    lines, err, digests = run_on_examples(tmp_path / "script.py", blocks("python")[0])
    assert sorted(lines) == digests
    assert err == f"hashing, {len(digests)}/{len(digests)}\n"


def test_the_pipeline_is_a_program_that_works(tmp_path: Path) -> None:
    (pipeline,) = [block for block in blocks("python") if "feeder = go(" in block]
    (*lines, last), err, digests = run_on_examples(tmp_path / "script.py", pipeline)
    assert sorted(lines) == digests and err == ""
    assert last == f"{len(digests)} files"


def test_every_name_of_the_api_page_exists() -> None:
    page = README[README.index("## The API") : README.index("## How it compares")]
    for name in re.findall(r"\b(?:ch|g|wg|n)\.(\w+)", page):
        owners = (goproc.Chan, goproc.Goroutine, goproc.WaitGroup, goproc.Atomic)
        assert any(hasattr(owner, name) for owner in owners), name
    for name in goproc.__all__:
        assert getattr(goproc, name) is not None


CHANGES = """
import json, os, sys, warnings

from goproc import go


def state():
    try:
        warnings.warn("careful")
    except UserWarning:
        strict = True
    else:
        strict = False
    return os.path.basename(os.getcwd()), os.environ["COLOUR"], sys.path[-1], hasattr(json, "SIZE"), strict


def change(name, action):
    os.makedirs(name)
    os.chdir(name)
    os.environ["COLOUR"] = name
    sys.path.append(name)
    json.SIZE = 5
    warnings.simplefilter(action)


change("first", "ignore")
print(go(state).result())
change("second", "error")
print(go(state).result(), state())
"""


@pytest.mark.parametrize("how", ["python", "goproc"])
def test_the_limits_on_changes_of_the_script(tmp_path: Path, how: str) -> None:
    done = programs.run(tmp_path, CHANGES, procs=1, how=how)
    assert (done.status, done.err) == (0, "")
    before, after, *host = done.out.replace(") (", ")\n(").splitlines()
    assert before == "('first', 'first', 'first', False, False)"
    assert after == "('first', 'first', 'first', False, True)"
    assert host == ["('second', 'second', 'second', True, True)"]
