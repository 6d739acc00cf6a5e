"""Progress: the counts are exact, and what is shown suits a terminal, a file and a class of tqdm."""

import asyncio
import functools
import io
import os
import pty
import sys
import termios
import textwrap

import pytest
from peek import until
from tqdm import tqdm

from goproc import chan, flow, go, pfilter, pfor, pmap
from goproc._data import progress as module
from goproc._data.progress import Progress, open_progress


def inc(x):
    return x + 1


def fail_at_3(x):
    if x == 3:
        raise ValueError
    return x


class Bar(tqdm):
    """Keeps its last state, and draws nowhere."""

    made: list = []  # noqa: RUF012

    def __init__(self, *args, **options):
        super().__init__(*args, file=io.StringIO(), **options)
        self.made.append(self)


@pytest.fixture
def bars():
    Bar.made = []
    yield Bar.made
    Bar.made = []


@pytest.fixture
def lines(capsys):
    """Return the lines on standard error since the last call."""
    return lambda: capsys.readouterr().err.splitlines()


@pytest.fixture
def run_on_terminal(tmp_path):
    """Return a function that runs a script on a terminal, and returns what the script has written there."""

    def run(text):
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(text))
        pid, fd = pty.fork()
        if pid == 0:
            termios.tcsetwinsize(0, (24, 60))  # tqdm draws no bar on a terminal without lines
            os.environ.update(TERM="xterm", PYTHONWARNINGS="error")
            os.execv(sys.executable, [sys.executable, str(script)])
        written = b""
        try:
            while piece := os.read(fd, 65536):
                written += piece
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(fd)
            _, status = os.waitpid(pid, 0)
        assert status == 0, written
        return written.decode()

    return run


@pytest.mark.parametrize("nothing", [None, False])
def test_nothing_is_asked_for(nothing):
    assert open_progress(nothing, 5) is None


def test_lines_are_written_every_ten_seconds_and_at_the_end(lines, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    shown = open_progress("words", 100)
    shown.update(1)
    assert lines() == []
    now[0] = 10.0
    shown.update(40)
    now[0] = 19.9
    shown.update(50)
    assert lines() == ["words, 40/100"]
    now[0] = 25.0
    shown.update(60, 2, 1)
    assert lines() == ["words, 60/100, failed=2, retried=1"]
    shown.update(100, 2, 1)
    shown.close()
    shown.close()
    assert lines() == ["words, 100/100, failed=2, retried=1"]


def test_total_may_be_unknown_and_may_become_known(lines):
    shown = open_progress(True, None, "f")
    shown.update(3)
    shown.close()
    shown = open_progress(True, None)
    shown.update(3)
    shown.total = 3
    shown.close()
    assert lines() == ["f, 3/?", "3/3"]


def test_class_is_used_without_a_terminal(bars):
    shown = open_progress(Bar, 5, "f")
    shown.update(2)
    shown.update(5, 1, 2)
    shown.close()
    (bar,) = bars
    assert (bar.n, bar.total, bar.desc) == (5, 5, "f")
    assert bar.postfix == "failed=1, retried=2"
    assert bar.disable  # it is closed


def test_partial_of_a_class_is_used(bars):
    shown = open_progress(functools.partial(Bar, unit="file"), None)
    shown.update(7)
    shown.close()
    assert (bars[0].n, bars[0].unit) == (7, "file")


def test_arguments_of_a_partial_of_a_class_are_kept(runtime2, bars):
    list(pmap(inc, range(3), progress=functools.partial(Bar, desc="files")))
    flow(range(3)).map(inc).batch(2).run(progress=functools.partial(Bar, desc="load"))
    assert [bar.desc for bar in bars] == ["files", "load: inc", "load: batch"]


@pytest.mark.parametrize("wrong", [3, 1.5, int, [], tqdm.write, functools.partial(int)])
def test_something_else_is_refused(wrong):
    with pytest.raises(TypeError, match="tqdm class"):
        open_progress(wrong, 5)


@pytest.mark.parametrize("asked", [True, "words"])
def test_missing_tqdm_is_reported(monkeypatch, asked):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.std", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        open_progress(asked, 5)


def test_stream_that_nobody_reads_does_not_end_a_map(monkeypatch):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    shown = open_progress("words", 3)
    shown.close()
    monkeypatch.setattr(sys, "stderr", None)
    shown = open_progress("words", 3)
    shown.update(1)
    shown.close()


def test_closed_stderr_does_not_end_a_map(runtime2, monkeypatch):
    stderr = io.StringIO()
    stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert list(pmap(inc, [1, 2], progress=True)) == [2, 3]
    assert [stage.out for stage in flow([1, 2]).map(inc, 1).run(progress=True)] == [2]


def test_update_draws_at_most_ten_times_a_second():
    class View:
        seconds = 0.1
        shown = 0

        def show(self, counts):
            self.shown += 1

        def end(self, counts):
            pass

    view = View()
    shown = Progress(view, 100_000)
    for n in range(100_000):
        shown.update(n)
    assert view.shown < 1000


# -- maps and flows --------------------------------------------------------------------------------------------------


def test_map_counts_items_and_failures(runtime2, bars):
    assert len(list(pmap(fail_at_3, range(10), on_error="skip", progress=Bar))) == 9
    assert (bars[0].n, bars[0].total, bars[0].postfix) == (10, 10, "failed=1")


@pytest.mark.parametrize("n", [0, 4])
@pytest.mark.parametrize("each", [pmap, pfilter, pfor])
def test_an_unknown_total_is_known_at_the_end(runtime2, lines, bars, n, each):
    for progress in ("numbers", Bar):
        results = each(inc, (i for i in range(n)), progress=progress)
        assert results is None or len(list(results)) == n
    assert lines()[-1] == f"numbers, {n}/{n}"
    assert (bars[0].n, bars[0].total) == (n, n)


def test_an_unknown_total_is_known_at_the_end_of_an_async_map(runtime2, lines):
    async def results():
        return [result async for result in pmap(inc, (i for i in range(4)), progress="numbers")]

    assert asyncio.run(results()) == [1, 2, 3, 4]
    assert lines()[-1] == "numbers, 4/4"


def test_a_total_that_is_given_stays(runtime2, lines):
    assert len(list(pmap(inc, (i for i in range(4)), total=9, progress="numbers"))) == 4
    assert lines()[-1] == "numbers, 4/9"


def test_a_total_stays_unknown_where_a_map_does_not_come_to_its_end(runtime2, lines):
    def numbers():
        yield 1
        raise ValueError

    with pytest.raises(ValueError):
        list(pmap(inc, numbers(), progress="numbers"))
    assert lines()[-1] == "numbers, 1/?"
    with pmap(inc, (i for i in range(4)), progress="numbers") as results:
        next(results)
    assert lines()[-1].endswith("/?")


def test_flow_has_one_bar_a_stage(runtime2, bars):
    flow(range(20)).map(inc, 2).filter(lambda x: x % 2).batch(4).each(len).run(progress=Bar)
    assert [bar.desc for bar in bars] == ["inc", "<lambda>", "batch", "len"]
    assert [bar.n for bar in bars] == [20, 20, 10, 3]
    assert [bar.total for bar in bars] == [20, 20, 10, 3]
    assert all(bar.disable for bar in bars)


def test_flow_counts_failures_in_the_bar_of_their_stage(runtime2, bars):
    flow(range(10)).map(fail_at_3, on_error="skip").map(inc).run(progress=Bar)
    assert [(bar.n, bar.postfix) for bar in bars] == [(10, "failed=1"), (9, None)]


def test_bars_of_a_flow_that_fails_are_closed(runtime2, bars):
    with pytest.raises(ValueError):
        flow(range(10)).map(fail_at_3).run(progress=Bar)
    assert bars[0].disable


def test_flow_prints_a_line_a_stage(runtime2, lines):
    flow(range(6)).map(inc).batch(4).run(progress="load")
    assert lines() == ["load: inc, 6/6", "load: batch, 6/6"]


@pytest.mark.parametrize("leave", ["del", "break", "close"])
def test_the_bar_of_a_map_that_is_left_early_is_closed(runtime2, bars, leave):
    never = chan()

    def first_ten(x):
        if x >= 10:
            never.recv()
        return x + 1

    results = pmap(first_ten, range(50), progress=Bar)
    if leave == "break":
        for _ in results:
            break
    else:
        next(results)
    if leave == "close":
        results.close()
    del results
    (bar,) = bars
    assert bar.disable  # as a bar of tqdm is that was closed
    assert 1 <= bar.n <= 10
    assert not Bar._instances


def test_the_bar_of_a_map_that_a_worker_drops_is_closed(runtime2, lines):
    def first():
        for value in pmap(inc, range(50), progress="left"):
            return value

    assert go(first).result() == 1
    shown = []
    until(lambda: shown.extend(lines()) or shown)  # the host draws it while the worker goes on
    assert len(shown) == 1 and shown[0].startswith("left, ")


@pytest.mark.parametrize("last", ["pass", "results.close()", "del results", "raise SystemExit"])
def test_the_bar_of_a_map_that_is_never_finished_leaves_a_line(run_on_terminal, last):
    """Also where the script ends while it has the map."""
    written = run_on_terminal(f"""
        from goproc import pmap
        results = pmap(abs, range(50), progress="numbers")
        next(results)
        {last}
    """)
    assert written.count("\n") == 1 and written.endswith("\r\n")
    assert "/50 [" in written


def test_map_on_a_worker_is_shown_by_the_host(runtime2, lines):
    def count(name):
        return sum(pmap(inc, range(50), progress=name))

    goroutines = [go(count, "one"), go(count, "other")]
    assert [g.result() for g in goroutines] == [1275, 1275]
    assert sorted(lines()) == ["one, 50/50", "other, 50/50"]


SCRIPT = """
from goproc._data.progress import open_progress

bars = [open_progress(name, 4, "") for name in ("first", "second", "third")]
for n in range(1, 5):
    for bar in bars:
        bar.update(n)
        bar._due = 0.0  # draw each time
bars[1].close()
bars[0].update(4, failed=1)
bars[2].close()
bars[0].close()
print("end")
"""


def test_bars_on_a_terminal_stay_in_lines_of_their_own(run_on_terminal):
    """In the end a terminal shows each bar once, none with the rest of another behind it."""
    screen = shown(run_on_terminal(SCRIPT))
    assert [line.split(":")[0] for line in screen] == ["second", "third", "first", "end"]
    assert all(line.count("4/4") == 1 for line in screen[:3])
    assert "failed=1" in screen[2]


@pytest.mark.parametrize("file", ["sys.stdout", "sys.stderr"])
def test_lines_of_tqdm_write_stand_above_the_bars(run_on_terminal, file):
    screen = shown(
        run_on_terminal(f"""
        import sys
        from tqdm import tqdm
        from goproc._data.progress import open_progress

        bars = [open_progress(name, 4, "") for name in ("first", "second")]
        for n in range(1, 5):
            for bar in bars:
                bar.update(n)
                bar._due = 0.0  # draw each time
            tqdm.write(f"result {{n}}", file={file})
        for bar in bars:
            bar.close()
        """)
    )
    assert screen[:4] == ["result 1", "result 2", "result 3", "result 4"]
    assert [line.split(":")[0] for line in screen[4:]] == ["first", "second"]


def shown(written):
    """The lines that a terminal shows: carriage return, line feed, cursor up, and erasing to the end of a line."""
    screen, row, column = [""], 0, 0
    i = 0
    while i < len(written):
        c = written[i]
        i += 1
        if c == "\r":
            column = 0
        elif c == "\n":
            row, column = row + 1, 0
            screen += [""] * (row + 1 - len(screen))
        elif c == "\x1b":
            assert written[i] == "["
            code, i = written[i + 1], i + 2
            if code == "A":
                row -= 1
            elif code == "K":
                screen[row] = screen[row][:column]
            else:
                raise AssertionError(code)
        else:
            line = screen[row].ljust(column)
            screen[row] = line[:column] + c + line[column + 1 :]
            column += 1
    return [line.rstrip() for line in screen if line.strip()]


def test_the_last_line_is_not_written_twice(lines):
    bar = open_progress("load", 2)
    assert bar is not None
    bar._due = 0.0  # draw now
    bar.update(2)
    bar.close()
    assert lines() == ["load, 2/2"]
