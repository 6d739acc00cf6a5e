"""Workers and event loops in a notebook: logs, warnings, awaiting in a cell, interrupts, a panic, a restart."""

from __future__ import annotations

from pathlib import Path

from tests.notebook.test_interactive import needs_kernel, notebook


@needs_kernel
def test_awaiting_in_cells(tmp_path: Path) -> None:
    cells = [
        ("from goproc import aselect, chan, go, sleep\nawait go(pow, 2, 5)", 0.0),
        (
            "ch = chan()\ng = go(lambda: [ch.send(i) for i in range(3)] and ch.close())\n[v async for v in ch]",
            0.0,
        ),
        (
            "import asyncio\nawait asyncio.gather(*[go(pow, i, 2) for i in range(100)]) == [i * i for i in range(100)]",
            0.0,
        ),
        ("await chan().arecv()", 0.7),
        ("await go(int, 'x')", 0.0),
        ("ch = chan()\ng = go.on(1)(ch.send, 'still works')\nawait ch.arecv()", 0.0),
        ("await go.local(pow, 2, 6)", 0.0),
    ]
    seen = notebook(tmp_path, cells)
    assert seen[:3] == [("32", []), ("[0, 1, 2]", []), ("True", [])]
    assert seen[3][1] in (["KeyboardInterrupt: "], ["CancelledError: "]), seen[3]
    assert seen[4][1][0].startswith("ValueError: invalid literal for int()")
    assert seen[5:] == [("'still works'", []), ("64", [])]


@needs_kernel
def test_logs_and_warnings_are_shown_in_the_cell(tmp_path: Path) -> None:
    cells = [
        (
            "import logging, sys, warnings\n"
            "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(proc)d %(message)s', force=True)\n"
            "from goproc import go\n"
            "go.on(1)(logging.info, 'from a worker').result()",
            0.0,
        ),
        ("logging.getLogger().setLevel(logging.DEBUG)\ngo.on(2)(logging.debug, 'debug').result()", 0.0),
        ("def job(): warnings.warn('careful')\nfor p in (1, 2): go.on(p)(job).result()", 0.0),
    ]
    seen = notebook(tmp_path, cells)
    assert seen[:2] == [("1 from a worker\n", []), ("2 debug\n", [])]
    assert seen[2][0].count("UserWarning: careful") == 1


@needs_kernel
def test_a_cell_that_is_interrupted_or_raises_can_be_run_again(tmp_path: Path) -> None:
    again = (
        "from goproc import blocking, chan, go, sleep\n"
        "import time\n"
        "done = chan(10)\n"
        "gs = [go(lambda i: (sleep(0.01), done.send(i)), i) for i in range(3)]\n"
        "sorted(done.recv() for _ in gs)"
    )
    cells = [
        (again, 0.0),
        ("sleep(100)", 0.7),
        (again, 0.0),
        ("blocking(time.sleep, 100)", 0.7),
        ("go(sleep, 100).result()", 0.7),
        (again, 0.0),
        ("gs = [go(sleep, 100) for _ in range(3)]\nraise ValueError('in the cell')", 0.0),
        (again, 0.0),
    ]
    seen = notebook(tmp_path, cells)
    assert [seen[i] for i in (0, 2, 5)] == [("[0, 1, 2]", [])] * 3
    assert [seen[i][1] for i in (1, 3, 4)] == [["KeyboardInterrupt: "]] * 3
    assert seen[6][1] == ["ValueError: in the cell"]


@needs_kernel
def test_a_panic_is_shown_and_the_kernel_lives(tmp_path: Path) -> None:
    cells = [
        ("from goproc import chan, go, proc\nimport os\npid = os.getpid()", 0.0),
        ("def fail(): raise ValueError('by nobody')\ngo(fail)\nchan().recv()", 0.0),
        ("import time; time.sleep(0.3)  # the kernel lives on", 0.0),
        ("go.on(1)(proc).result(), os.getpid() == pid", 0.0),
        ("go(fail)\nawait chan().arecv()", 0.0),
        ("go.on(1)(proc).result(), os.getpid() == pid", 0.0),
    ]
    seen = notebook(tmp_path, cells)
    assert "panic in goroutine" in seen[1][1][0] and "by nobody" in seen[1][1][0]
    assert "panic: by nobody" in seen[1][0] + seen[2][0], seen
    assert seen[3] == ("(1, True)", []), seen
    assert seen[4][1][0].startswith("RuntimeStopped"), seen
    assert seen[5] == ("(1, True)", []), seen


@needs_kernel
def test_a_deadlock_is_shown_in_the_cell(tmp_path: Path) -> None:
    """The threads of the kernel poll, but none of them wakes a goroutine. One of the program's own may."""
    cells = [
        ("from goproc import chan, go, num_goroutine\ngo(pow, 2, 5).result()", 0.0),
        ("chan().recv()", 0.0),
        ("g = go(lambda: chan().recv())\ng.result()", 0.0),
        ("go(pow, 2, 5).result()", 0.0),
        (
            "import threading, time\n"
            "ch = chan()\n"
            "# later than a deadlock would be seen\n"
            "threading.Thread(target=lambda: (time.sleep(1.5), ch.send('woken'))).start()\n"
            "ch.recv()",
            0.0,
        ),
    ]
    seen = notebook(tmp_path, cells)
    assert [seen[i] for i in (0, 3, 4)] == [("32", []), ("32", []), ("'woken'", [])], seen
    for i in (1, 2):
        (error,) = seen[i][1]
        assert error.startswith("RuntimeError: fatal error: all goroutines are asleep - deadlock!"), seen[i]
        assert "goroutine 1 [chan receive" in error or "goroutine 1 [goroutine join" in error, error
