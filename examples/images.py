"""Finds the edges in many images: NumPy arrays go through channels, a Sobel filter runs on all cores.

Run it with: goproc run examples/images.py --procs 8 [--count 64] [--size 512] [--check]
"""

import argparse
import sys
import zlib

try:
    import numpy as np
except ImportError:
    sys.exit("images.py needs NumPy: pip install numpy")

from goproc import Chan, chan, go, procs


def image(number: int, size: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (size, size), dtype=np.int16)


def sobel(a: np.ndarray) -> np.ndarray:
    """How steep the brightness is at every pixel but those of the border."""
    rows, columns = a[:-2] + 2 * a[1:-1] + a[2:], a[:, :-2] + 2 * a[:, 1:-1] + a[:, 2:]
    return abs(rows[:, 2:] - rows[:, :-2]) + abs(columns[2:] - columns[:-2])


def produce(images: Chan[tuple[int, np.ndarray]], count: int, size: int) -> None:
    with images:  # leaving the block closes the channel, which ends the filters
        images.send_many((number, image(number, size)) for number in range(count))


def work(images: Chan[tuple[int, np.ndarray]], edges: Chan[tuple[int, np.ndarray]]) -> None:
    for number, pixels in images:
        edges.send((number, sobel(pixels)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Finds the edges in many images.")
    parser.add_argument("--count", type=int, default=64, help="how many images")
    parser.add_argument("--size", type=int, default=512, help="their width and height")
    parser.add_argument("--check", action="store_true", help="compare with a sequential computation")
    args = parser.parse_args()

    images, edges = chan(8), chan(8)
    go(produce, images, args.count, args.size)
    for _ in range(2 * max(1, procs())):
        go(work, images, edges)
    sums = {n: zlib.crc32(found) for n, found in (edges.recv() for _ in range(args.count))}

    print(f"{args.count} images of {args.size} x {args.size}, checksum {sum(sums.values()):012x}")
    if args.check:
        if sums != {n: zlib.crc32(sobel(image(n, args.size))) for n in range(args.count)}:
            sys.exit("check: FAILED")
        print("check: ok")


if __name__ == "__main__":
    main()
