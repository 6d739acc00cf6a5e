"""Requests and latency by status and path: generates a web server's log, then parses it on all cores.

Run it with: goproc run examples/logstats.py --procs 8 [--lines 200000] [--check]
"""

import argparse
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from goproc import chan, go, procs

LINE = re.compile(r'"\w+ (\S+) [^"]*" (\d+) \d+ (\d+)ms$', re.MULTILINE)


def log_lines(count: int) -> Iterator[str]:
    rng, paths = random.Random(1), ["/", "/login", "/search", *(f"/item/{n}" for n in range(16))]
    for n in range(count):
        path, status = rng.choice(paths), rng.choices([200, 304, 404, 500], [90, 5, 4, 1])[0]
        request = f'"GET {path} HTTP/1.1" {status} {n % 9999} {rng.lognormvariate(3, 1):.0f}ms'
        yield f"10.0.{n % 256}.{n % 251} - - [12/Mar/2025:12:{n // 60 % 60:02}:{n % 60:02} +0000] {request}\n"


def parse(texts: Iterable[str]) -> Counter[tuple[str, str, int]]:
    """How often each status, path and latency occurs together."""
    lines = (line for text in texts for line in LINE.findall(text))
    return Counter((status, path, int(latency)) for path, status, latency in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Statistics of a web server's log.")
    parser.add_argument("--lines", type=int, default=200_000, help="length of the log")
    parser.add_argument("--check", action="store_true", help="compare with a sequential computation")
    args = parser.parse_args()
    texts = chan[str](16)
    workers = [go(parse, texts) for _ in range(2 * max(1, procs()))]
    with tempfile.TemporaryFile("w+") as log, texts:  # leaving the block closes the channel
        log.writelines(log_lines(args.lines))
        log.seek(0)
        while text := log.read(1 << 18):
            texts.send(text + log.readline())
    total = sum((worker.result() for worker in workers), Counter())
    print(f"{'status':8}{'path':10}{'requests':>8}{'p50':>6}{'p95':>6}{'p99':>6} ms")
    for (status, path), group in groupby(sorted(total.elements()), key=lambda row: row[:2]):
        sample = [latency for _, _, latency in group]
        p50, p95, p99 = (sample[int(share * len(sample))] for share in (0.50, 0.95, 0.99))
        print(f"{status:8}{path:10}{len(sample):8}{p50:6}{p95:6}{p99:6}")
    if args.check:
        if total != parse(log_lines(args.lines)):
            sys.exit("check: FAILED")
        print("check: ok")


if __name__ == "__main__":
    main()
