"""Panics: a goroutine that fails ends the program with one report, unless somebody reads the failure."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from programs import Run, ok

HOW = pytest.mark.parametrize("how", ["goproc", "python"])
ON_BOTH = pytest.mark.parametrize("proc", [0, 1])


# Its creator's number is not known when the goroutine failed before its handle was dropped.
PARENT = r"( in goroutine \d+)?"


@HOW
@ON_BOTH
def test_a_panic(run: Run, tmp_path: Path, how: str, proc: int) -> None:
    script = f"""
        from goproc import go, chan

        def fails(x):
            raise ValueError(f"bad value {{x}}")

        def middle():
            fails(42)

        def main():
            print("before")
            go.on({proc})(middle)
            chan().recv()

        main()
    """
    done = run(script, how=how)
    assert (done.status, done.out) == (2, "before\n")
    path = str(tmp_path / "script.py")
    first, _, rest = done.err.partition("\n\n")
    assert first == "panic: bad value 42"
    assert re.match(r"goroutine \d+ \[running\]:\nTraceback \(most recent call last\):\n", rest)
    frames = [line for line in rest.splitlines() if line.startswith('  File "')]
    assert frames == [f'  File "{path}", line 8, in middle', f'  File "{path}", line 5, in fails']
    assert "    fails(42)\n" in rest and '    raise ValueError(f"bad value {x}")\n' in rest
    assert re.search(
        rf"\nValueError: bad value 42\ncreated by main{PARENT}\n\t{re.escape(path)}:12\n$", rest
    ), rest
    assert "goproc/" not in done.err


@pytest.mark.parametrize(
    "main", ["while True: pass", "import time; time.sleep(60)", "chan().recv()", "sleep(60)", "h.join()"]
)
def test_a_panic_ends_main_whatever_it_does(run: Run, main: str) -> None:
    script = f"""
        from goproc import go, chan, sleep
        def fails(): raise KeyError("k")
        def lives(): chan().recv()
        h = go.on(1)(lives)
        go.on(1)(fails)
        {main}
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: 'k'\n"), done
    assert done.err.count("panic:") == 1


def test_created_by_a_goroutine(run: Run, tmp_path: Path) -> None:
    script = """
        from goproc import go, chan
        def child(): raise RuntimeError
        def parent():
            go(child)
            chan().recv()
        g = go.on(1)(parent)
        chan().recv()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: RuntimeError\n")
    assert re.search(
        rf"\ncreated by parent{PARENT}\n\t{re.escape(str(tmp_path))}/script.py:5\n$", done.err
    ), done.err


def test_a_panic_in_go_local(run: Run, tmp_path: Path) -> None:
    done = run("from goproc import *\ngo.local(lambda: 1 / 0)\nchan().recv()\n")
    assert done.status == 2 and done.err.startswith("panic: division by zero\n")
    assert re.search(rf"\ncreated by main{PARENT}\n\t{re.escape(str(tmp_path))}/script.py:2\n$", done.err), (
        done.err
    )


@pytest.mark.parametrize("attempt", range(4))
def test_many_panics_at_once_give_one_report(run: Run, attempt: int) -> None:
    script = """
        from goproc import go, chan, Atomic, procs
        def fails(i, at):
            at.add(1)
            while at.load() < procs(): pass
            raise ValueError("x" * 3000 + f" of {i}")
        at = Atomic(0)
        for i in range(1, procs()): go.on(i)(fails, i, at)
        at.add(1)
        chan().recv()
    """
    done = run(script, procs=4)
    assert done.status == 2
    assert done.err.count("panic:") == done.err.count("Traceback") == done.err.count("created by") == 1, (
        done.err
    )
    assert re.fullmatch(
        r"panic: x{3000} of (\d)\n\ngoroutine \d+ \[running\]:\nTraceback.*\nValueError: x{3000} of \1\ncreated by .*\n",
        done.err,
        re.DOTALL,
    )


@ON_BOTH
@pytest.mark.parametrize(
    ("raising", "text"),
    [
        ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()", "Odd"),
        ("raise type('Odd', (BaseException,), {})('base')", "base"),
        ("raise ExceptionGroup('several', [ValueError('a'), OSError('b')])", "several"),
        ("(lambda f: f(f))(lambda f: f(f))", "RecursionError"),
        ("raise ValueError('\\udcff \\U0001f600')", "panic: \\udcff"),
        ("raise ValueError('y' * 2_000_000)", "yyyyy"),
        ("raise ValueError(__import__('threading').Lock())", "lock"),
        ("raise StopIteration", "StopIteration"),
        ("raise GeneratorExit('g')", "panic: g"),
        ("exec('1 +')", "SyntaxError"),
        ("__import__('no_such_module')", "No module named"),
    ],
)
def test_odd_panics(run: Run, proc: int, raising: str, text: str) -> None:
    done = run(f"from goproc import go, chan\ndef f():\n    {raising}\ngo.on({proc})(f)\nchan().recv()\n")
    assert done.status == 2 and done.err.startswith("panic: "), done
    assert text in done.err and "created by main" in done.err


def test_an_exception_kept_for_a_handle(run: Run) -> None:
    script = """
        import traceback
        from goproc import go, procs
        def inner(): raise KeyError("k", 3)
        def f(): inner()
        for i in range(procs()):
            g = go.on(i)(f)
            g.join()
            try: g.result()
            except KeyError as e:
                assert e.args == ("k", 3) and g.exception() is e
                text = traceback.format_exc()
                assert "in inner" in text and "in f" in text and "g.result()" in text, text
                print(g.state, type(e).__name__)
            else: print("nothing raised")
        g = go.on(1)(f)
        print(repr(g.exception()))
    """
    assert ok(run(script)) == "failed KeyError\n" * 2 + "KeyError('k', 3)\n"


@pytest.mark.parametrize(
    "ending",
    [
        "g.join(); del g; chan().recv()",
        "g = None; chan().recv()",
        "g.join(); g = 5; chan().recv()",
        "g.join(); [].append(g); g = go.on(1)(int); chan().recv()",
    ],
)
@ON_BOTH
def test_a_handle_dropped_unread_panics(run: Run, proc: int, ending: str) -> None:
    script = f"""
        from goproc import go, chan
        def f(): raise ValueError("unread")
        def main():
            g = go.on({proc})(f)
            {ending}
        main()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: unread\n"), done
    assert "Traceback" in done.err and "in f" in done.err and "ValueError: unread" in done.err


# What may become of a handle that was given away, so that not only its own process knows whether it is still to be read.
GIVEN_AWAY = {
    "thrown away with its channel": "c = chan(1); c.send(g); del g, c; wait()",
    "still in a channel at the end": "c = chan(1); c.send(g); del g",
    "of a sender when the channel was closed": """
        c = chan(); s = go.local(lambda g: c.send([g]), g); sleep(0.01); del g
        c.close(); s.exception(); del s; wait()""",
    "in a result that nobody asks for": "h = go(lambda: g); h.join(); del g, h; wait()",
    "an argument that nobody uses": "h = go(lambda x: None, g); h.join(); del g, h; wait()",
    "dropped there before it fails": "go.on(1)(lambda x: None, late).join(); del g, late; more.send(1); wait()",
}


@ON_BOTH
@pytest.mark.parametrize("fate", list(GIVEN_AWAY))
def test_a_handle_given_away_and_never_read_panics(run: Run, proc: int, fate: str) -> None:
    script = f"""
        from goproc import go, chan, sleep
        def f(): raise ValueError("unread")
        def later(more): more.recv(); f()
        def wait(): sleep(20)
        def main():
            more = chan()
            g = go.on({proc})(f) if {"late" not in GIVEN_AWAY[fate]} else None
            late = go.on({proc})(later, more) if g is None else None
            if g is not None: g.join()
{textwrap.indent(textwrap.dedent(GIVEN_AWAY[fate]).strip(), " " * 12)}
        main()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: unread\n"), done
    assert done.seconds < 15, done


def test_what_is_given_away_and_read_is_no_panic(run: Run) -> None:
    script = """
        from goproc import go, chan, procs
        def f(i): raise ValueError(i)
        def reads(handles, out):
            for g in handles: out.send(str(g.exception()))
        handles, out = chan(100), chan(1)
        reader = go.on(1)(reads, handles, out)
        got = []
        for i in range(300):
            handles.send(go.on(i % 2)(f, i))  # often it has failed already, and this was the only handle here
            got.append(int(out.recv()))
        handles.close()
        print(sorted(got) == list(range(300)))
    """
    assert ok(run(script)) == "True\n"


@pytest.mark.parametrize("how", ["with goproc.runtime(procs=2): main()", "goproc.run(main, procs=2)"])
def test_unread_at_the_end_of_a_runtime(run: Run, how: str) -> None:
    script = f"""
        import goproc
        from goproc import go
        def f(): raise ValueError("unread")
        def main():
            global g
            g = go(f)
            g.join()
        {how}
        print("not reached")
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: unread\n") and done.out == "", done


def test_the_result_is_read_elsewhere(run: Run) -> None:
    script = """
        from goproc import go, chan
        def fails(): raise ValueError("from afar")
        def reads(g):
            try: g.result()
            except ValueError as e: return str(e)
        g = go.on(1)(fails)
        r = go.on(2)(reads, g)
        del g
        print(r.result())
    """
    assert ok(run(script, procs=3)) == "from afar\n"


def test_goexit_and_cancel_are_no_panics(run: Run) -> None:
    script = """
        from goproc import go, chan, goexit, Cancelled, sleep
        def leaves():
            try: goexit()
            finally: print("finally", flush=True)
        print(go.on(1)(leaves).result())
        g = go.on(1)(chan().recv)
        sleep(0.05)
        g.cancel()
        try: g.result()
        except Cancelled: print("cancelled")
        g = go.on(1)(chan().recv)
        g.cancel()
        del g
        sleep(0.1)
    """
    assert ok(run(script)) == "finally\nNone\ncancelled\n"
