"""goproc.testing: what users' tests have, used as they would."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from peek import until

from goproc import WaitGroup, chan, go, select, sleep
from goproc.shm import _core
from goproc.testing import assert_no_leaks, until_waiting

# -- until_waiting -----------------------------------------------------------------------------------------------------


def test_until_a_receiver_of_another_process_is_blocked(runtime2: Any) -> None:
    ch = chan()
    g = go.on(1)(ch.recv)
    until_waiting(ch, receivers=1)
    assert _core.waiting(ch) == (1, 0)
    ch.send(5)
    assert g.result(20) == 5
    assert _core.waiting(ch) == (0, 0)


def test_until_anybody_waits_or_as_many_as_are_asked_for(runtime2: Any) -> None:
    ch = chan()
    senders = [go(ch.send, i) for i in range(3)]
    until_waiting(ch)
    until_waiting(ch, senders=3)
    until_waiting(ch, 0, 3)
    with pytest.raises(
        AssertionError, match=r"0 receive and 3 send on .*, not 1 and any number, after 0.01 s"
    ):
        until_waiting(ch, 1, timeout=0.01)
    assert sorted(ch.recv() for _ in senders) == [0, 1, 2]
    with pytest.raises(AssertionError, match="nobody waits on"):
        until_waiting(ch, timeout=0.01)
    for g in senders:
        g.join(20)


def test_wait_groups_goroutines_selects_and_threads(runtime1: Any) -> None:
    wg, a, b = WaitGroup(), chan(), chan()
    wg.add(1)
    waits = go.on(1)(wg.wait)
    until_waiting(wg, 1)
    joins = go.on(0)(waits.join)
    until_waiting(waits, 1)
    chooses = go.on(1)(lambda: select(a, (b.send, 7)).index)
    until_waiting(a, receivers=1, senders=0)
    until_waiting(b, receivers=0, senders=1)
    thread = threading.Thread(target=b.recv)
    thread.start()
    assert chooses.result(20) == 1
    thread.join()
    until_waiting(a, 0, 0)  # the select has gone elsewhere
    wg.done()
    joins.join(20)


def test_object_that_nobody_can_wait_for_is_refused(runtime0: Any) -> None:
    with pytest.raises(TypeError, match="a channel, a goroutine or a sync object, not int"):
        until_waiting(5)  # type: ignore[arg-type]


# -- assert_no_leaks ---------------------------------------------------------------------------------------------------


def test_nothing_is_left(runtime2: Any) -> None:
    with assert_no_leaks():
        ch = chan()
        g = go(ch.recv)
        ch.send(1)
        assert g.result(20) == 1
        go(sleep, 0.05)  # ends a little later


def test_a_goroutine_is_left(runtime2: Any) -> None:
    gate = chan()
    with pytest.raises(AssertionError) as caught, assert_no_leaks(timeout=0.05):
        g = go.on(1)(gate.recv)
    text = str(caught.value)
    assert text.startswith(f"left behind:\n  goroutine {g.id} ") and "[chan receive]" in text
    gate.close()
    g.join(20)


def test_a_process_and_a_descriptor_are_left(runtime1: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"process \d+: sleep 100"), assert_no_leaks(timeout=0.05):
        program = subprocess.Popen(["sleep", "100"])
        until(lambda: "sleep 100" in Path(f"/proc/{program.pid}/cmdline").read_text().replace("\0", " "))
    program.kill()
    program.wait()
    with pytest.raises(AssertionError, match=r"descriptor \d+: .*held"), assert_no_leaks(timeout=0.05):
        file = open(tmp_path / "held", "w")  # noqa: SIM115 (it is the leak)
    file.close()


def test_an_exception_of_the_block_is_the_one_that_is_raised(runtime0: Any) -> None:
    gate = chan()
    with pytest.raises(KeyError), assert_no_leaks(timeout=0.05):
        g = go(gate.recv)
        raise KeyError
    gate.close()
    g.join(20)


# -- the plugin --------------------------------------------------------------------------------------------------------


def session(folder: Path, text: str, *options: str, ini: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text('pytest_plugins = ["goproc.testing"]\n')
    (folder / "pytest.ini").write_text(f"[pytest]\n{textwrap.dedent(ini)}")
    (folder / "test_it.py").write_text(
        "import goproc, pytest\nfrom goproc import chan, go\n" + textwrap.dedent(text)
    )
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=50)


def test_tests_share_a_runtime_of_the_size_that_they_ask_for(tmp_path: Path) -> None:
    done = session(
        tmp_path,
        """
        pids = []
        def test_a(runtime):
            assert runtime.procs == goproc.procs() == 3
            pids.append(go.on(1)(__import__("os").getpid).result())
        def test_b(runtime):
            assert pids == [go.on(1)(__import__("os").getpid).result()]
        @pytest.mark.goproc(procs=1)
        def test_c(runtime):
            assert runtime.procs == 1
        """,
        "--strict-markers",
        ini="goproc_procs = 3\n",
    )
    assert done.returncode == 0 and "3 passed" in done.stdout, done


def test_a_test_that_leaves_a_goroutine_fails_and_the_next_does_not(tmp_path: Path) -> None:
    done = session(
        tmp_path,
        """
        kept = []
        def test_a(runtime):
            kept.append(go.on(1)(chan().recv))
        def test_b(runtime):
            assert goproc.num_goroutine() == 1
        """,
    )
    assert done.returncode == 1 and "2 passed, 1 error" in done.stdout, done
    assert "left behind:" in done.stdout and "[chan receive" in done.stdout


def test_a_failed_test_is_one_failure_whatever_it_leaves(tmp_path: Path) -> None:
    done = session(
        tmp_path,
        """
        kept = []
        def test_a(runtime):
            kept.append(go.on(1)(chan().recv))
            assert False, "on purpose"
        def test_b(runtime):
            assert goproc.num_goroutine() == 1
        """,
    )
    assert (
        done.returncode == 1 and "1 failed, 1 passed" in done.stdout and "left behind" not in done.stdout
    ), done


def test_the_watchdog_ends_a_test_that_hangs(tmp_path: Path) -> None:
    done = session(
        tmp_path,
        """
        @pytest.mark.goproc(seconds=5)
        def test_a(runtime):
            g = go.on(1)(lambda: chan().recv())
            g.result(1000)
        """,
    )
    assert done.returncode == 70, done
    assert "test_it.py::test_a: time is up" in done.stderr
    assert "in test_a" in done.stderr and "[chan receive" in done.stderr and "goroutine 1 [" in done.stderr


def test_without_pytest_there_is_no_plugin(tmp_path: Path) -> None:
    code = "import sys, goproc.testing as t; print('pytest' in sys.modules, hasattr(t, 'runtime'), t.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stdout == "False False ['assert_no_leaks', 'until_waiting']\n", done
