"""Every listing of docs/workers.md is a program that runs as it stands there, and prints what stands below it."""

from __future__ import annotations

import re
from pathlib import Path

import programs
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "workers.md"


def listings() -> list[tuple[int, str, str]]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```\n", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in found]


def test_all_blocks_are_listings_with_their_output() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("```python\n") == text.count("```text\n") == len(listings()) == 7


@pytest.mark.parametrize(
    ("line", "text", "output"), listings(), ids=[f"line{line}" for line, _, _ in listings()]
)
def test_listing(tmp_path: Path, line: int, text: str, output: str) -> None:
    done = programs.run(tmp_path, text, procs=2, how=("python", "goproc")[line % 2])
    assert (done.status, done.err, done.out) == (0, "", output)
