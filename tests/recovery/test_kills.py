"""Workers are killed at random moments, while goroutines do everything at once: see kills.py.

--long kills 5 000 times.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from programs import environment, start_command

pytestmark = pytest.mark.watchdog(300)

PROGRAM = Path(__file__).parent / "kills.py"


def test_random_kills(tmp_path: Path, long: bool) -> None:
    import sys

    for _ in range(50 if long else 3):
        seed = random.randrange(1 << 30)
        line = [sys.executable, "-m", "goproc", "run", "--procs", "3", str(PROGRAM), "100", str(seed)]
        with start_command(line, tmp_path, environment(GOPROC_UNREAD="ignore")) as program:
            done = program.wait(120)
        assert done.status == 0, (seed, done)
        seen = json.loads(done.out)
        assert seen["other"] == [] and seen["wrong"] == 0, (seed, seen, done.err)
        assert seen["sent"] == seen["received"] > 0, (seed, seen)  # nothing is lost between the living
        assert seen["deaths"] > 60 and seen["ok"] > 50, (seed, seen)
        census = seen["census"]
        # Nothing leaks: a block or an object for each death would be some sixty.
        assert census["blocks"] <= 8 and census["objects"] <= 8, (seed, seen)
        assert census["missed_wakeups"] == census["queued"] == 0, (seed, seen)
