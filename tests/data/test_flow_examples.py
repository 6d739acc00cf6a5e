"""The examples of flows give the right results on every number of processes."""

from __future__ import annotations

import re
import runpy
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

on_every_number_of_procs = pytest.mark.parametrize("procs", [0, 1, 2, 4])


def done(example: str, procs: int, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``goproc run example --procs N arguments``; it has to end with status 0."""
    command = ["-m", "goproc", "run", str(EXAMPLES / example), "--procs", str(procs), *arguments]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def orders(lines: list[str]) -> Counter[str]:
    """The sum of the paid orders of each country in cents, found with regular expressions."""
    totals: Counter[str] = Counter()
    for line in lines:
        if line.endswith("}") and '"state": "paid"' in line:
            country = re.search(r'"country": "(..)"', line)
            assert country is not None
            for euros, cents, n in re.findall(r'"price": "(\d+)\.(\d\d)", "n": (\d)', line):
                totals[country[1].lower()] += (100 * int(euros) + int(cents)) * int(n)
    return totals


@on_every_number_of_procs
def test_etl(procs: int, tmp_path: Path) -> None:
    lines = list(runpy.run_path(str(EXAMPLES / "etl.py"))["order_lines"](3000))
    (tmp_path / "orders.jsonl").write_text("\n".join(lines) + "\n")
    ended = done("etl.py", procs, "orders.jsonl", "--progress", cwd=tmp_path)
    with sqlite3.connect(tmp_path / "orders.db") as connection:
        rows = connection.execute("SELECT country, cents FROM orders").fetchall()
    connection.close()
    totals: Counter[str] = Counter()
    for country, cents in rows:
        totals[country] += cents
    assert totals == orders(lines)
    counts = [line.split() for line in ended.stdout.splitlines()[:5]]
    assert [count[0] for count in counts] == ["parse", "is_paid", "row", "batch", "Writer"]
    assert counts[0][1] == "3000"
    assert counts[1][3] == counts[2][1] == counts[2][3] == str(len(rows))
    assert sorted(ended.stderr.splitlines())[-1] == f"row, {len(rows)}/{len(rows)}"


def test_etl_makes_its_own_file_and_checks(tmp_path: Path) -> None:
    ended = done("etl.py", 2, "--lines", "2000", "--check", cwd=tmp_path)
    assert (ended.stdout.splitlines()[-1], ended.stderr) == ("check: ok", "")


@on_every_number_of_procs
def test_crawl(procs: int, tmp_path: Path) -> None:
    lines = done("crawl.py", procs, cwd=tmp_path).stdout.splitlines()
    there = [n for n in range(300) if n % 20 != 13]
    assert lines[0].startswith(f"{len(there)} pages, ")
    assert lines[0].endswith(f" {sum(n % 10 for n in there)} links")
    missing = 300 - len(there)
    assert lines[1] == f"{missing} failed: LookupError: 404 Not Found"
    assert len(lines) == 3
