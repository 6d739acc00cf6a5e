"""Four hundred small programs: those that deadlock are all reported, those that only wait never are. See families.py."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from families import CASES
from programs import run

ASLEEP = "fatal error: all goroutines are asleep - deadlock!\n\n"
RUNS = {"running", "runnable", "sleep", "no answer", "unknown"}  # no goroutine of a deadlock does that
AT_A_TIME = 4
BATCH = 20


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
@pytest.mark.parametrize("batch", range(len(CASES["idle"]) // BATCH))
@pytest.mark.parametrize("kind", CASES)
def test_programs(kind, batch, long, tmp_path):
    """By default each batch runs one or two of its programs; the numbers are spread over all families."""
    cases = CASES[kind][batch * BATCH : (batch + 1) * BATCH]
    if not long:
        cases = [case for case in cases if case.number % 17 == 0]
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
