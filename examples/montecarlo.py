"""Estimates pi with random numbers, on all cores. The result is the same on any number of processes.

Run it with: goproc run examples/montecarlo.py --procs 8 [points] [--seed 1]
Each batch has a generator of its own, seeded by the seed and the number of the batch, wherever it runs.
"""

import argparse
import random

from tqdm import tqdm

from goproc import pmap

BATCH = 50_000


def hits(seed: int, batch: int) -> int:
    """Return how many of BATCH random points in the unit square are in the circle."""
    random_number = random.Random(f"{seed}/{batch}").random
    return sum(random_number() ** 2 + random_number() ** 2 <= 1.0 for _ in range(BATCH))


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimates pi.")
    parser.add_argument("points", type=int, nargs="?", default=5_000_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    batches = max(1, args.points // BATCH)

    inside = 0
    results = pmap(lambda batch: hits(args.seed, batch), range(batches), progress="batches")
    for n, count in enumerate(results, 1):
        inside += count
        if n in (1, 10, 100, 1000) or n == batches:
            tqdm.write(f"{n * BATCH:12,} points: {4 * inside / (n * BATCH):.6f}")  # above the bar


if __name__ == "__main__":
    main()
