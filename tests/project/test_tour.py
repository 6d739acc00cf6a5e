"""Every listing of docs/tour.md is a program that runs as it stands there, and prints what stands below it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import programs
import pytest

TOUR = Path(__file__).parents[2] / "docs" / "tour.md"


class Listing(NamedTuple):
    line: int
    text: str
    output: str | None


def listings() -> list[Listing]:
    tour = TOUR.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", tour, re.MULTILINE | re.DOTALL)
    return [Listing(tour.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in found]


def test_all_blocks_are_listings_or_their_output() -> None:
    tour = TOUR.read_text(encoding="utf-8")
    assert tour.count("```python\n") == len(listings()) > 20
    assert tour.count("```text\n") == sum(listing.output is not None for listing in listings())
    assert set(re.findall(r"^```(\w+)", tour, re.MULTILINE)) == {"python", "text"}


def test_the_whole_path() -> None:
    headings = re.findall(r"^## (.*)$", TOUR.read_text(encoding="utf-8"), re.MULTILINE)
    path = ["Goroutines", "The join point", "Closures", "Channels", "Select", "The sync package", "Context"]
    assert [h for h in headings if h in path] == path
    assert "Patterns" in headings


@pytest.mark.parametrize(
    ("listing", "how"),
    [(listing, ("python", "goproc")[n % 2]) for n, listing in enumerate(listings())],
    ids=[f"line{listing.line}" for listing in listings()],
)
def test_listing(tmp_path: Path, listing: Listing, how: str) -> None:
    done = programs.run(tmp_path, listing.text, procs=2, how=how)
    assert done.err == ""
    assert done.status == 0
    if listing.output is not None:
        assert done.out == listing.output
