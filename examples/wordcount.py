"""Counts the words in a folder of text, on all cores.

Run it with: goproc run examples/wordcount.py --procs 8 [folder] [--pattern '*.txt'] [--check]
Without a folder it reads the source of Python's own standard library.
"""

import argparse
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from goproc import Chan, chan, go, procs

WORD = re.compile(r"[^\W\d_]+")


def count(paths: Iterable[Path]) -> Counter[str]:
    words: Counter[str] = Counter()
    for path in paths:
        words.update(WORD.findall(path.read_text(encoding="utf-8", errors="replace").lower()))
    return words


def worker(paths: Chan[Path], counts: Chan[Counter[str]]) -> None:
    counts.send(count(paths))


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts the words in a folder of text.")
    parser.add_argument("folder", type=Path, nargs="?", default=sysconfig.get_path("stdlib"))
    parser.add_argument("--pattern", default="*.py", help="which files")
    parser.add_argument("--check", action="store_true", help="compare with a sequential computation")
    args = parser.parse_args()
    files = [path for path in args.folder.rglob(args.pattern) if "site-packages" not in path.parts]

    workers = 2 * max(1, procs())
    paths, counts = chan[Path](64), chan[Counter[str]](workers)
    for _ in range(workers):
        go(worker, paths, counts)
    with paths:  # leaving the block closes the channel, which ends the workers
        paths.send_many(files)
    total = sum((counts.recv() for _ in range(workers)), Counter())

    print(f"{len(files)} files, {total.total()} words, {len(total)} different")
    for word, n in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:10]:
        print(f"{n:9} {word}")
    if args.check:
        if total != count(files):
            sys.exit("check: FAILED")
        print("check: ok")


if __name__ == "__main__":
    main()
