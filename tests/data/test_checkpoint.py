"""checkpoint= of a map: what is recorded, found again, and refused."""

from __future__ import annotations

import pathlib
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from peek import until
from programs import Run, Start, eventually, ok

from goproc import Failure, chan, checkpoint_reset, pmap
from goproc._data.fingerprint import fingerprint

pytestmark = pytest.mark.usefixtures("runtime2")


@pytest.fixture
def db(tmp_path):
    return str(tmp_path / "job.db")


def counting(calls):
    def f(x):
        calls.send(x)
        return x * 10

    return f


def test_recorded_items_are_not_computed_again(db):
    calls = chan(1000)
    assert list(pmap(counting(calls), range(20), checkpoint=db)) == [10 * x for x in range(20)]
    assert len(calls) == 20
    m = pmap(counting(calls), range(25), checkpoint=db)
    assert list(m) == [10 * x for x in range(25)]
    assert len(calls) == 25
    assert m.stats().done == 25


def test_none_is_a_result_and_equal_items_are_items_of_their_own(db):
    calls = chan(1000)

    def f(x):
        calls.send(x)

    assert list(pmap(f, [1, 1, 2], checkpoint=db)) == [None] * 3
    assert list(pmap(f, [1, 1, 2, 1], checkpoint=db)) == [None] * 4
    assert len(calls) == 4


def test_results_are_recorded_before_they_are_yielded_and_ahead_of_their_turn(db):
    gate = chan()

    def f(x):
        if x == 0:
            gate.recv()
        return x

    def recorded():
        with closing(sqlite3.connect(db)) as look:
            return look.execute("SELECT count(*) FROM item WHERE state = 'done'").fetchone()[0]

    m = pmap(f, range(6), ahead=6, chunk=1, checkpoint=db)
    import threading

    found = []
    reader = threading.Thread(target=lambda: found.append(next(m)))
    reader.start()
    until(lambda: m._engine is not None and m.stats().done == 5)
    until(lambda: recorded() >= 5)  # stats() counts what has come and is about to be recorded
    assert recorded() == 5 and not found
    gate.send(None)
    until(lambda: not reader.is_alive())
    assert found == [0] and recorded() == 6
    assert list(m) == [1, 2, 3, 4, 5]


def test_results_are_recorded_while_nobody_is_in_next(db):
    m = pmap(lambda x: x, range(8), ahead=8, chunk=1, checkpoint=db)
    assert next(m) == 0
    with closing(sqlite3.connect(db)) as look:
        assert eventually(lambda: look.execute("SELECT count(*) FROM item").fetchone()[0] == 8)
    m.close()


def test_failures_are_recorded_and_tried_again(db):
    ok_now = chan(1)

    def f(x):
        if x == 2 and not len(ok_now):
            raise ValueError("not yet")
        return x

    found = list(pmap(f, range(4), checkpoint=db, on_error="return"))
    assert isinstance(found[2], Failure)
    with closing(sqlite3.connect(db)) as look:
        rows = look.execute(
            "SELECT state, result, error, attempts FROM item WHERE state != 'done'"
        ).fetchall()
    assert rows == [("failed", None, "ValueError: not yet", 1)]
    ok_now.send(None)
    assert list(pmap(f, range(4), checkpoint=db)) == [0, 1, 2, 3]


def test_id_names_the_items_and_must_be_unique(db):
    calls = chan(1000)
    f = counting(calls)
    assert list(pmap(f, [{1}, {2}], checkpoint=db, id=lambda s: max(s), on_error="skip")) == []
    with pytest.raises(ValueError, match="for two items"):
        list(pmap(f, [1, 2, 1], checkpoint=db, id=lambda x: x))


class Named:
    """Has a repr() of its own, as dataclasses and enumerations do."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"Named({self.name!r})"


@pytest.mark.parametrize(
    "name, why",
    [
        (lambda x: object(), r"<object object at 0x\w+>, which .* its repr\(\) is an address in memory"),
        (lambda x: (x, [object()]), "its repr.. is an address in memory"),
        (lambda x: Named(x).__repr__, "it is a function, which was not called"),
        (lambda x: {x, "a"}, "a set has no order"),
    ],
)
def test_id_that_names_the_item_in_this_run_only(db, name, why):
    with pytest.raises(TypeError, match=rf"pmap\(\): id= returned .*{why}.*\. Return a str, a number"):
        list(pmap(abs, [1, 2, 3], checkpoint=db, id=name))


def test_id_may_be_any_value_with_a_stable_text(db):
    names = [None, 1, 1.5, b"x", (1, "x"), Named("a"), frozenset({1}), pathlib.Path("a"), "at 0x7f", int]
    assert list(pmap(abs, range(10), checkpoint=db, id=lambda x: names[x])) == list(range(10))
    again = pmap(abs, range(10), checkpoint=db, id=lambda x: names[x])
    assert list(again) == list(range(10)) and again.stats().procs == {}


def test_with_several_iterables(db):
    calls = chan(1000)

    def f(a, b):
        calls.send(None)
        return a + b

    for _ in range(2):
        assert list(pmap(f, [1, 2], [10, 20], checkpoint=db, id=lambda a, b: f"{a}-{b}")) == [11, 22]
    assert len(calls) == 2


def test_another_function_is_refused_and_the_error_names_the_difference(db):
    def make(k, default=1):
        def f(x, d=default):
            return x * k

        return f

    def other(x, d=1):
        return x

    list(pmap(make(2), range(3), checkpoint=db))
    list(pmap(make(2), range(3), checkpoint=db))
    for g, said in ((make(3), "captured"), (make(2, 5), "default"), (other, "name")):
        with pytest.raises(ValueError, match="made by another function") as refused:
            list(pmap(g, range(3), checkpoint=db))
        assert said in str(refused.value) and "checkpoint_reset" in str(refused.value)
    checkpoint_reset(db)
    assert list(pmap(make(3), range(3), checkpoint=db)) == [0, 3, 6]


def test_another_python_is_refused(db):
    list(pmap(abs, range(3), checkpoint=db))
    with closing(sqlite3.connect(db)) as change, change:
        change.execute("UPDATE map SET value = '3.0' WHERE key = 'python'")
    with pytest.raises(
        ValueError, match=r"was made by another Python, or another goproc: its python was 3\.0, and is"
    ):
        list(pmap(abs, range(3), checkpoint=db))


def test_code_is_compared_without_places_comments_and_docstrings():
    def compiled(text, lines=0):
        space = {}
        exec(compile("\n" * lines + text, f"file{lines}", "exec"), space)
        return fingerprint(space["f"])

    text = "def f(x):\n    'about'\n    return x + 1\n"
    assert compiled(text) == compiled(text, 7)
    assert compiled(text) == compiled("def f(x):\n    'other'\n    # a comment\n    return x + 1\n")
    assert compiled(text) != compiled("def f(x):\n    return x + 2\n")
    globals_count = "K = {}\ndef g(x):\n    return x + K\ndef f(x):\n    return g(x)\n"
    assert compiled(globals_count.format(1)) != compiled(globals_count.format(2))


def test_a_file_in_use_is_refused_at_once(db):
    m = pmap(abs, range(100), checkpoint=db)
    next(m)
    with pytest.raises(RuntimeError, match="in use"):
        next(pmap(abs, range(3), checkpoint=db))
    with pytest.raises(RuntimeError, match="in use"):
        checkpoint_reset(db)
    script = f"from goproc import pmap\nnext(pmap(abs, range(3), checkpoint={db!r}))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "in use by another program" in other.stderr
    m.close()
    assert list(pmap(abs, range(3), checkpoint=db)) == [0, 1, 2]


def test_a_map_that_is_dropped_lets_go_of_its_file(db):
    m = pmap(abs, range(10**6), checkpoint=db)
    next(m)
    del m
    assert list(pmap(abs, range(3), checkpoint=db)) == [0, 1, 2]


@pytest.mark.parametrize("content", [b"a,b,c\n" * 50, b"SQLite format 3\x00" + b"\xff" * 300])
def test_another_file_is_refused_as_a_checkpoint_and_left_alone(tmp_path, content):
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="SQLite database"):
        next(pmap(abs, [1], checkpoint=file))
    assert file.read_bytes() == content


def test_a_database_of_something_else_is_refused(db):
    with closing(sqlite3.connect(db)) as other, other:
        other.execute("CREATE TABLE users (name)")
    with pytest.raises(ValueError, match="users"):
        next(pmap(abs, [1], checkpoint=db))


def test_paths_that_cannot_be_used(tmp_path):
    with pytest.raises(OSError):
        next(pmap(abs, [1], checkpoint=tmp_path / "missing" / "job.db"))
    with pytest.raises(ValueError, match="folder"):
        next(pmap(abs, [1], checkpoint=tmp_path))
    with pytest.raises(TypeError, match="checkpoint="):
        pmap(abs, [1], checkpoint=3)
    checkpoint_reset(tmp_path / "nothing.db")


def test_kill_9_loses_no_recorded_result(start: Start, run: Run, tmp_path) -> None:
    script = """
        import os, sys, time
        from goproc import pmap
        def f(x):
            with open("calls", "a") as file: file.write(f"{x}\\n")
            time.sleep(0.002)  # the length of the call
            return x * x
        found = []
        for value in pmap(f, range(600), checkpoint="job.db"):
            found.append(value)
            if len(found) in (50, 250): print(len(found), "found", flush=True)
        print(found == [x * x for x in range(600)])
    """
    calls = tmp_path / "calls"
    for found in (50, 250):
        with start(script) as program:
            program.wait_for(f"{found} found")
            program.kill()
            program.wait()
    with closing(sqlite3.connect(tmp_path / "job.db")) as look:
        assert look.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        recorded = look.execute("SELECT count(*) FROM item WHERE state = 'done'").fetchone()[0]
    before = len(calls.read_text().splitlines())
    assert 250 <= recorded <= before
    assert ok(run(script)) == "50 found\n250 found\nTrue\n"
    assert len(calls.read_text().splitlines()) - before == 600 - recorded
