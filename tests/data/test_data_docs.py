"""Every listing of docs/data.md is a program that runs as it stands there, and prints what stands below it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import programs
import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "data.md"


class Listing(NamedTuple):
    line: int
    text: str
    output: str | None


def listings() -> list[Listing]:
    page = PAGE.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", page, re.MULTILINE | re.DOTALL)
    return [Listing(page.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in found]


def test_each_listing_has_its_output() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("```python\n") == page.count("```text\n") == len(listings()) > 10
    assert all(listing.output for listing in listings())


@pytest.mark.parametrize("listing", listings(), ids=[f"line{listing.line}" for listing in listings()])
def test_listing(tmp_path: Path, listing: Listing) -> None:
    done = programs.run(tmp_path, listing.text, procs=2)
    assert done.status == 0, done
    if listing.output is not None:
        assert done.out == listing.output
