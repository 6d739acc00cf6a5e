"""Histories of channels that goroutines of three workers use at once are linearizable: undisturbed, stopped, and killed.

--long takes 50 000 histories in place of 2 000.
"""

from __future__ import annotations

import ast
import random
import sys
from pathlib import Path

import pytest
from channel_histories import read
from linearizability import Result, TooManySteps, is_linearizable
from programs import Program, environment, start_command

pytestmark = pytest.mark.watchdog(3 * 3600)  # of the long form; each batch has a limit of its own

HERE = Path(__file__).parent
BATCH = 10  # histories
SECONDS = 60.0  # for a batch


def batches_of(program: Program, count: int) -> list[tuple[str, list[list[int]]]]:
    """Wait for the files of a program, and return their names and the capacities of their channels."""
    for number in range(count):
        program.wait_for(f"batch-{number} ", seconds=SECONDS)
    lines = program.texts()[0].splitlines()
    return [(line.split(" ", 1)[0], ast.literal_eval(line.split(" ", 1)[1])) for line in lines]


@pytest.mark.parametrize("disturbance", ["none", "stop", "kill"])
def test_histories_are_linearizable(tmp_path: Path, disturbance: str, long: bool) -> None:
    rounds, batches = (25, 67) if long else (1, 67)
    seen = dict.fromkeys(Result, 0)
    undecided = 0
    for _ in range(rounds):
        seed = random.randrange(1 << 30)
        code = "from channel_histories import record\n"
        code += f"record({str(tmp_path)!r}, {batches}, {BATCH}, {seed}, {disturbance!r})\n"
        script = tmp_path / "script.py"
        script.write_text(code)
        line = [sys.executable, "-m", "goproc", "run", "--procs", "3", str(script)]
        env = environment(GOPROC_QUIET_DEATHS="1", PYTHONPATH=str(HERE), GOPROC_UNREAD="ignore")
        with start_command(line, tmp_path, env) as program:
            files = batches_of(program, batches)
            assert program.wait(SECONDS).status == 0, (seed, program.texts())
        for path, capacities in files:
            for number, clients in enumerate(read(path, BATCH)):
                for client in clients:
                    for op in client:
                        seen[op.result] += 1
                try:
                    right = is_linearizable(capacities[number], clients)
                except TooManySteps:
                    undecided += 1
                    continue
                assert right, (seed, path, number, capacities[number], clients)
    total = rounds * batches * BATCH
    print(f"{disturbance}: {total} histories, {undecided} undecided, {seen}")
    assert undecided <= total // 100
    assert all(seen[result] for result in Result if result != Result.OPEN)
    assert bool(seen[Result.OPEN]) == (disturbance == "kill")
