"""Four hundred small programs: those that deadlock are all reported, those that only wait never are. See families.py."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from families import CASES
from programs import run

ASLEEP = "fatal error: all goroutines are asleep - deadlock!\n\n"
RUNS = {"running", "runnable", "sleep", "no answer", "unknown"}  # no goroutine of a deadlock does that
AT_A_TIME = 4
LONG = bool(os.environ.get("GOPROC_TEST_LONG"))


def trouble(case, folder):
    """What is wrong with how a program ended, in words; "" if nothing is."""
    folder.mkdir()
    try:
        done = run(folder, case.text, procs=case.procs, how=case.how, limit=45.0, gone=5.0)
    except AssertionError as error:
        return str(error)
    if done.out != case.out:
        return f"output: {done}"
    if case.kind == "idle":
        return "" if (done.status, done.err) == (0, "") else f"it should have ended well: {done}"
    if done.status != 2 or not done.err.startswith(ASLEEP) or done.err.count("fatal error") != 1:
        return f"no report: {done}"
    reasons = re.findall(r"^goroutine \d+ \[([^\],]+)", done.err, re.M)
    if RUNS & set(reasons) or (case.reason and case.reason not in reasons) or "did not answer" in done.err:
        return f"the report is wrong, {reasons}: {done.err}"
    return ""


@pytest.mark.watchdog(400)
@pytest.mark.parametrize("batch", range(10 if LONG else 1))
@pytest.mark.parametrize("kind", CASES)
def test_programs(kind, batch, tmp_path):
    """All of them with --long, else twelve, spread over the families."""
    cases = CASES[kind][batch * 20 : (batch + 1) * 20] if LONG else CASES[kind][::17]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = pool.map(lambda case: trouble(case, tmp_path / str(case.number)), cases)
        wrong = [
            f"{case.kind} {case.number} ({case.family}, procs {case.procs}, {case.how}): {text}"
            for case, text in zip(cases, found, strict=True)
            if text
        ]
    assert not wrong, "\n\n".join(wrong)


def test_the_programs_are_different():
    for cases in CASES.values():
        assert len({case.text for case in cases}) == len(cases) == 200
        assert {case.procs for case in cases} == {1, 2, 3, 4}
