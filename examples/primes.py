"""Counts the primes below a limit: CPU-bound work, fanned out over all cores.

Run it with: goproc run examples/primes.py --procs 8 [--limit 300000] [--check]
"""

import argparse
import sys
from math import isqrt

from goproc import go


def is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, isqrt(n) + 1))


def count_primes(start: int, stop: int) -> int:
    return sum(is_prime(n) for n in range(start, stop))


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts the primes below a limit.")
    parser.add_argument("--limit", type=int, default=300_000)
    parser.add_argument("--step", type=int, default=5_000, help="how many numbers one goroutine tries")
    parser.add_argument("--check", action="store_true", help="compare with a sequential computation")
    args = parser.parse_args()

    starts = range(0, args.limit, args.step)
    parts = [go(count_primes, start, min(start + args.step, args.limit)) for start in starts]
    total = sum(part.result() for part in parts)

    print(f"{total} primes below {args.limit}")
    if args.check:
        if total != count_primes(0, args.limit):
            sys.exit("check: FAILED")
        print("check: ok")


if __name__ == "__main__":
    main()
