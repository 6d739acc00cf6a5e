"""How the tests are run: distribution.py and slow_files.py.

A run whose processes die or hang ends, and names the tests by which they did.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import slow_files
from distribution import WholeFiles
from programs import eventually

FOLDER = Path(__file__).parents[1]
SUPPORT = FOLDER / "support"
CONFTEST = f"""
import os, sys, time
import pytest
sys.path.insert(0, {str(SUPPORT)!r})
from watch import MARK, watchdog
from distribution import Silence, WholeFiles
silence = None

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        os.environ[MARK] = str(os.getpid())
        watchdog.stderr = os.dup(2)
        global silence
        silence = Silence(watchdog, 40)
        config.pluginmanager.register(silence)

@pytest.hookimpl(trylast=True)
def pytest_runtest_logstart(nodeid):
    if nodeid == "test_hang.py::test_it[1]" and silence is not None:
        while not os.path.exists("pid"):  # until the test has written it, and hangs
            time.sleep(0.01)
        silence.seconds = 2
        silence.pytest_runtest_logstart(nodeid)

def pytest_unconfigure():
    watchdog.disarm()

def pytest_xdist_make_scheduler(config, log):
    return WholeFiles(config, log)
"""
TESTS = """
import os, pytest, subprocess, sys, time
@pytest.mark.parametrize("n", range({}))
def test_it(n):
    {}
"""


def session(folder: Path, **files: tuple[int, str]) -> subprocess.CompletedProcess[str]:
    """Run files of so many tests, each with a line of code, on two processes."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, (n, line) in files.items():
        (folder / f"test_{name}.py").write_text(TESTS.format(n, line))
    line = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=50)


def failed(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")]


def test_a_death_is_one_failed_test_and_all_others_run(tmp_path: Path) -> None:
    """The process that dies has run a file to its end, and has files of one test left."""
    crash = "n != 1 or os._exit(70)"
    done = session(tmp_path, a=(4, "pass"), b=(4, "pass"), c=(3, crash), d=(1, "pass"), e=(1, "pass"))
    assert done.returncode == 1 and "1 failed, 12 passed" in done.stdout, done
    assert failed(done) == ["test_c.py::test_it[1]"], done


def test_a_file_may_be_given_to_a_process_that_has_just_died() -> None:
    """Nobody has noticed that so far: the file is among those that are taken back from it."""

    class Dead:
        shutting_down = False

        def send_runtest_some(self, indexes: list[int]) -> None:
            raise OSError("cannot send (already closed?)")

    dead: Any = Dead()
    files = WholeFiles.__new__(WholeFiles)
    files.workqueue = OrderedDict({"b": {"b1": False, "b2": False, "b3": False}, "c": {"c1": False}})
    files.assigned_work = {dead: {"a": {"a1": True, "a2": False}}}
    files.registered_collections = {dead: ["a1", "a2", "b1", "b2", "b3", "c1"]}
    files._reschedule(dead)
    assert list(files.workqueue) == ["c"]
    assert files.remove_node(dead) == "a2"
    assert sorted(files.workqueue) == ["b", "c"] and not files.assigned_work


def test_tests_that_end_their_processes_run_once_each(tmp_path: Path) -> None:
    done = session(tmp_path, a=(4, "n % 2 or os._exit(70)"), b=(3, "pass"), c=(2, "n == 0 or os._exit(70)"))
    assert done.returncode == 1 and "3 failed, 6 passed" in done.stdout, done
    assert sorted(failed(done)) == ["test_a.py::test_it[0]", "test_a.py::test_it[2]", "test_c.py::test_it[1]"]


def test_a_run_in_which_nothing_happens_any_more_is_ended(tmp_path: Path) -> None:
    """A process that hangs without a watchdog of its own; with it end those that it has started."""
    hang = """if n == 1:
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        with open("pid.new", "w") as file: file.write(str(child.pid))
        os.rename("pid.new", "pid")
        time.sleep(1000)"""
    done = session(tmp_path, a=(3, "pass"), hang=(3, hang))
    assert done.returncode == 70, done
    found = re.search(
        r"no test has begun or ended for 2 s; tests that have begun and not ended: (.*): time is up",
        done.stderr,
    )
    assert found and "test_hang.py::test_it[1]" in found[1], done
    pid = int((tmp_path / "pid").read_text())
    # It was killed, but on a busy machine a process needs a CPU to end, too.
    assert eventually(lambda: has_ended(pid))


def has_ended(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] in "ZX"


def test_the_files_in_the_list_of_slow_ones_are_there() -> None:
    """A file that is moved would drop out of the list in silence."""
    assert [name for name in slow_files.FILES if not (FOLDER / name).is_file()] == []
    assert [name for name in slow_files.FOLDERS if not (FOLDER / name).is_dir()] == []


def test_each_file_is_in_a_folder_of_its_subject() -> None:
    assert [file.name for file in FOLDER.glob("test_*.py")] == []
