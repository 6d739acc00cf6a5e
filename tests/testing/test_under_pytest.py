"""Fixtures of pytest beside goroutines: the table of docs/workers.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import programs
import pytest

TESTS = """
import logging
import warnings

import pytest

from goproc import go

SIZE = 3


def work(x):
    print("printed", x)
    logging.getLogger("work").warning("logged %d", x)
    warnings.warn("warned")
    return x * SIZE


@pytest.fixture(params=["go", "local"], autouse=True)
def start(request):
    return go if request.param == "go" else go.local


def test_caplog(start, caplog):
    assert start(work, 1).result() == 3
    assert caplog.messages == ["logged 1"]


def test_recwarn(start, recwarn):
    start(work, 1).join()
    assert [str(warning.message) for warning in recwarn] == ["warned"]


def test_warns(start):
    with pytest.warns(UserWarning, match="warned"):
        start(work, 1).join()


def test_raises(start):
    with pytest.raises(ZeroDivisionError):
        start(lambda: 1 / 0).result()


def test_capsys(start, capsys):
    start(work, 1).join()
    assert capsys.readouterr().out == "printed 1\\n"


def test_capfd(start, capfd):
    start(work, 1).join()
    assert capfd.readouterr().out == "printed 1\\n"


def test_monkeypatch(start, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SIZE", 10)
    assert start(work, 1).result() == 10


def test_skip(start):
    start(lambda: pytest.skip("not today")).result()
"""
LESS = ["test_capsys", "test_capfd", "test_monkeypatch", "test_skip"]


@pytest.mark.parametrize("procs", [1, 0])
def test_fixtures(tmp_path: Path, procs: int) -> None:
    (tmp_path / "test_of_a_user.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "always", "test_of_a_user.py"],
        cwd=tmp_path,
        env=programs.environment(GOPROC_PROCS=str(procs)),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    failed = re.findall(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)
    assert failed == ([f"{name}[go]" for name in LESS] if procs else []), done.stdout
    assert f"{1 if procs else 2} skipped" in done.stdout
    if procs:
        report = done.stdout.partition("test_capfd[go] _")[2]
        assert "- Captured stdout call -" in report and "printed 1" in report
