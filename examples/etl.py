"""JSON lines into a database: parses, cleans and totals orders on several processes, and writes them with one.

Run it with: goproc run examples/etl.py --procs 8 [orders.jsonl] [--database orders.db] [--lines 50000] [--check]

Without a file it makes one. Each stage has as many workers as its work needs, and the channels between them are bounded: a
file of any length goes through in the same memory. Lines that are no orders are counted, and left out.
"""

import argparse
import json
import random
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from goproc import flow, procs

SCHEMA = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, country TEXT, items INTEGER, cents INTEGER)"
)
COUNTRIES = ["de", "fr", "it", "jp", "us"]


def order_lines(count: int) -> Iterator[str]:
    """Lines of a file of orders. Some are cut off, and some orders were cancelled."""
    rng = random.Random(1)
    for n in range(count):
        items = [
            {"price": f"{rng.randint(1, 99999) / 100:.2f}", "n": rng.randint(1, 9)}
            for _ in range(rng.randint(1, 9))
        ]
        order = {
            "id": n,
            "customer": f" Customer {n % 997} ",
            "country": rng.choice(COUNTRIES).upper(),
            "items": items,
        }
        order["state"] = "cancelled" if n % 10 == 3 else "paid"
        line = json.dumps(order)
        yield line[: len(line) // 2] if n % 100 == 57 else line


def parse(line: str) -> dict | None:
    """The order in a line, None if the line is broken."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def is_paid(order: dict | None) -> bool:
    return order is not None and order["state"] == "paid"


def row(order: dict) -> tuple[int, str, str, int, int]:
    """The row of the table for an order."""
    cents = sum(round(float(item["price"]) * 100) * item["n"] for item in order["items"])
    pieces = sum(item["n"] for item in order["items"])
    return order["id"], order["customer"].strip(), order["country"].lower(), pieces, cents


class Writer:
    """Writes rows to the database. It is opened where the rows are written: in the process of that stage."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connection: sqlite3.Connection | None = None

    def __call__(self, rows: list[tuple]) -> None:
        if self.connection is None:
            self.connection = sqlite3.connect(self.path)
        with self.connection:
            self.connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", rows)


def load(lines: Iterator[str], database: str, progress: bool) -> list:
    """Send lines through the stages into a new database. Return the records of the stages."""
    workers = max(1, procs())
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE IF EXISTS orders")
        connection.execute(SCHEMA)
    connection.close()
    stages = flow(lines, buffer=256).map(parse, workers).filter(is_paid).map(row, workers)
    return stages.batch(500, within=1.0).each(Writer(database)).run(progress=progress)


def main() -> None:
    parser = argparse.ArgumentParser(description="Orders from JSON lines into SQLite.")
    parser.add_argument("file", nargs="?", type=Path, help="a file of orders; default: one is made")
    parser.add_argument("--database", default="orders.db", help="is made anew")
    parser.add_argument("--lines", type=int, default=50_000, help="length of the file that is made")
    parser.add_argument("--progress", action="store_true", help="show one bar a stage")
    parser.add_argument("--check", action="store_true", help="compare with a sequential computation")
    args = parser.parse_args()
    with tempfile.TemporaryFile("w+") if args.file is None else args.file.open() as file:
        if args.file is None:
            file.writelines(line + "\n" for line in order_lines(args.lines))
            file.seek(0)
        records = load(file, args.database, args.progress)
        for record in records:
            print(f"{record.name:8} {record.in_:8} in {record.out:8} out")
        with sqlite3.connect(args.database) as connection:
            totals = connection.execute(
                "SELECT country, COUNT(*), SUM(cents) FROM orders GROUP BY country"
            ).fetchall()
        connection.close()
        for country, count, cents in totals:
            print(f"{country} {count:8} orders {cents / 100:16,.2f}")
        if args.check:
            file.seek(0)
            rows = [row(order) for order in map(parse, file) if is_paid(order)]
            if sum(r[4] for r in rows) != sum(cents for _, _, cents in totals):
                sys.exit("check: FAILED")
            print("check: ok")


if __name__ == "__main__":
    main()
