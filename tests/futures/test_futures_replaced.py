"""goproc.futures: max_tasks_per_child replaces the process of an Executor."""

from __future__ import annotations

from programs import Run, ok

HEAD = """
import os
from goproc.futures import Executor
"""


def output(run: Run, text: str) -> str:
    return ok(run(HEAD + text))


def test_a_process_is_replaced_after_so_many_calls(run: Run) -> None:
    text = """
with Executor(1, max_tasks_per_child=2) as executor:
    one_by_one = [executor.submit(os.getpid).result() for _ in range(6)]
    at_once = [future.result() for future in [executor.submit(os.getpid) for _ in range(6)]]
for pids in (one_by_one, at_once):
    print(len(set(pids)), pids[::2] == pids[1::2])
"""
    assert output(run, text) == "3 True\n3 True\n"


def test_a_process_that_another_executor_uses_stays(run: Run) -> None:
    text = """
with Executor(2) as other, Executor(2, max_tasks_per_child=1) as executor:
    for _ in range(4):
        print(list(other.map(abs, range(-4, 0))), list(executor.map(abs, range(-4, 0))))
"""
    assert output(run, text) == 4 * "[4, 3, 2, 1] [4, 3, 2, 1]\n"


def test_the_initializer_runs_in_the_new_process(run: Run) -> None:
    text = """
def begin():
    os.environ["BEGUN_IN"] = str(os.getpid())

def same():
    return os.environ["BEGUN_IN"] == str(os.getpid())

with Executor(2, initializer=begin, max_tasks_per_child=1) as executor:
    print([future.result() for future in [executor.submit(same) for _ in range(6)]])
"""
    assert output(run, text) == f"{6 * [True]}\n"
