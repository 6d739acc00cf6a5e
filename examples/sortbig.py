"""Sorts the lines of a file that is larger than the memory it may use, on all cores.

Run it with: goproc run examples/sortbig.py --procs 8 [file] [--budget 64M] [--to sorted.txt]
Without a file it makes one of 200 000 lines. Lines are sorted by their second column, a number; equal ones stay in order.
"""

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from goproc import psort


def make_file(path: Path, n: int) -> None:
    numbers = random.Random(7)
    with path.open("w") as file:
        for i in range(n):
            file.write(f"row-{i:07} {numbers.randrange(n // 4)} {'x' * 40}\n")


def lines(path: Path) -> Iterator[str]:
    with path.open() as file:
        yield from file


def number(line: str) -> int:
    return int(line.split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Sorts the lines of a file by their second column.")
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--budget", default="8M", help="for the lines, of all processes together")
    parser.add_argument("--to", type=Path, default=Path("sorted.txt"))
    parser.add_argument("--lines", type=int, default=200_000, help="of a file that is made")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        source = args.file
        if source is None:
            source = Path(folder, "big.txt")
            make_file(source, args.lines)
        n = 0
        with args.to.open("w") as out:
            for line in psort(lines(source), key=number, memory=args.budget):
                out.write(line)
                n += 1
        print(f"{n} lines, {source.stat().st_size} bytes, sorted within {args.budget} into {args.to}")


if __name__ == "__main__":
    main()
