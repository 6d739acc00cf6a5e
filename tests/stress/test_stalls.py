"""Nothing that disturbs or delays processes loses a wake-up: stopped workers, storms of signals, many more procs than cores.

--long runs each for some ten minutes.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from programs import environment, start_command

pytestmark = pytest.mark.watchdog(
    3 * 3600
)  # of the long form; each run of the program has a limit of its own

PROGRAM = Path(__file__).parent / "stalls.py"
CASES = [
    ("none", 16, 40),
    ("none", 64, 20),
    ("stop", 3, 40),
    ("stop", 16, 15),
    ("signals", 3, 100),
    ("signals", 16, 20),
]


@pytest.mark.parametrize(("disturbance", "procs", "rounds"), CASES)
def test_no_wake_up_is_lost(tmp_path: Path, disturbance: str, procs: int, rounds: int, long: bool) -> None:
    for _ in range(200 if long else 1):
        seed = random.randrange(1 << 30)
        words = [str(PROGRAM), str(rounds), disturbance, str(seed)]
        line = [sys.executable, "-m", "goproc", "run", "--procs", str(procs), *words]
        with start_command(line, tmp_path, environment()) as program:
            done = program.wait(180, gone=5.0)
        assert (done.status, done.err) == (0, ""), (seed, done)
        seen = json.loads(done.out)
        assert seen["done"] == 4 * rounds and bool(seen["sent"]) == (disturbance != "none"), (seed, seen)
        assert seen["missed_wakeups"] == 0, (seed, seen)
