"""Every listing of docs/executor-and-joblib.md runs as it stands there, and prints what stands below it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import programs
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "executor-and-joblib.md").read_text(encoding="utf-8")
LISTINGS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```\n", PAGE, re.MULTILINE | re.DOTALL)


def missing(text: str) -> str:
    """Return a module that a listing imports and that is not installed."""
    names = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    return next((name for name in names if importlib.util.find_spec(name) is None), "")


def test_each_listing_has_its_output() -> None:
    assert PAGE.count("```python\n") == PAGE.count("```text\n") == len(LISTINGS) > 5


@pytest.mark.parametrize(("text", "output"), LISTINGS, ids=range(len(LISTINGS)))
def test_listing(tmp_path: Path, text: str, output: str) -> None:
    if missing(text):
        pytest.skip(f"{missing(text)} is not installed")
    done = programs.run(tmp_path, text, procs=2, how="python")
    assert (done.status, done.out) == (0, output), done
    assert done.err == "" or "SIGKILL" in text
