"""python -m model [part of a name] [rule ...]: explore, and show the first violation step by step."""

from __future__ import annotations

import sys
from time import monotonic

from model.cases import CONFIGURATIONS
from model.explorer import told


def main() -> int:
    part, faults = (sys.argv[1:2] or [""])[0], frozenset(sys.argv[2:])
    for name, configuration in CONFIGURATIONS.items():
        if part not in name or (configuration.long and part != name):
            continue
        start = monotonic()
        result = configuration.explorer(faults).explore()
        seconds = monotonic() - start
        print(
            f"{name}: {result.states} states, {result.moves} moves, {result.ends} ends, {seconds:.1f} s",
            flush=True,
        )
        if result.violation:
            print(told(result, name))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
