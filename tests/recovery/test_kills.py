"""Workers are killed at random moments, while goroutines do everything at once: see kills.py.

--long kills 5 000 times.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path

import peek
import pytest
from programs import environment, start_command

pytestmark = pytest.mark.watchdog(3600)  # of the long form; each program has a limit of its own

PROGRAM = Path(__file__).parent / "kills.py"
ENVIRONMENT = {
    "GOPROC_UNREAD": "ignore",
    "GOPROC_QUIET_DEATHS": "1",
    "PYTHONPATH": str(Path(peek.__file__).parent),
}


def killed(folder: Path, policy: str, deaths: int) -> Counter[str]:
    """Run the program until so many workers have died, and return how often they were killed in which way."""
    seed = random.randrange(1 << 30)
    line = [sys.executable, str(PROGRAM), policy, str(deaths), str(seed)]
    with start_command(line, folder, environment(**ENVIRONMENT)) as program:
        done = program.wait(200)
    assert (done.status, done.err) == (0, ""), (seed, done)
    seen = json.loads(done.out)
    assert seen["other"] == [] and seen["wrong"] == 0, (seed, seen)
    assert seen["sent"] == seen["received"] > 0, (seed, seen)  # nothing is lost between the living
    assert seen["deaths"] >= deaths and seen["ok"] > deaths // 2, (seed, seen)
    for census in seen["census"]:
        assert census["blocks"] <= 4 and census["objects"] <= 4, (
            seed,
            seen,
        )  # one for each death would be more
        assert census["missed_wakeups"] == census["queued"] == 0, (seed, seen)
    return Counter({name: seen[name] for name in ("deaths", "alone", "together", "in_repair")})


def test_random_kills(tmp_path: Path, long: bool) -> None:
    """One at a time, two at once and during a repair, while the dead are replaced and while they are not."""
    total: Counter[str] = Counter()
    for _ in range(17 if long else 1):
        total += killed(tmp_path, "restart", 100) + killed(tmp_path, "restart", 100)
        total += killed(tmp_path, "continue", 100)
    print(dict(total))
    assert total["deaths"] >= 300 and all(total.values()), total
