"""Panics: a goroutine that fails ends the program with one report, unless somebody reads the failure."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import pytest
from programs import Run, Start, ok

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
                assert e.args == ("k", 3)
                text = traceback.format_exc()
                assert "in inner" in text and "in f" in text and "g.result()" in text, text
                print(g.state, type(e).__name__)
            else: print("nothing raised")
        g = go.on(1)(f)
        print(repr(g.exception()))
    """
    assert ok(run(script)) == "failed KeyError\n" * 2 + "KeyError('k', 3)\n"


# -- failures that nobody reads --------------------------------------------------------------------------------------

#: The report on a goroutine of test scripts here, as a regular expression.
UNREAD = r"goroutine \d+ \(f\) failed and nobody read its result:\nTraceback .*\nValueError: unread\ncreated by main in goroutine 1\n"


@pytest.mark.parametrize(
    "dropped",
    [
        "g.join(); del g",
        "g.join(); g = 5",
        "g.join(); [].append(g); g = go.on(1)(int)",
        "g.exception; g.join(); g = None",
    ],
)
@ON_BOTH
def test_a_failure_whose_handle_goes_unread_is_reported(run: Run, proc: int, dropped: str) -> None:
    script = f"""
        from goproc import go
        def f(): raise ValueError("unread")
        def main():
            g = go.on({proc})(f)
            {dropped}
            print("goes on")
        main()
    """
    done = run(script)
    assert (done.status, done.out) == (0, "goes on\n"), done
    assert re.match(UNREAD, done.err, re.DOTALL) and done.err.count("Traceback") == 1, done


@pytest.mark.parametrize(
    "how", ["go(f)", "go.on(1)(f)", "go.opts(name='f')(f)", "go.on(0)(f)", "go.local(f)"]
)
def test_a_statement_has_no_handle(run: Run, how: str) -> None:
    """Also where the worker is so fast that the handle is still on its way to be dropped."""
    script = f"""
        import time
        from goproc import chan, go
        def f(): raise ValueError("unread")
        for _ in range(20): go(int).join()
        {how}
        chan().recv()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: unread\n"), done


def test_the_caller_handles_the_first_failure(run: Run) -> None:
    script = """
        from goproc import go, sleep
        def f(n):
            if n % 3 == 0: raise ValueError("unread")
            return n
        def total():
            handles = [go(f, n) for n in range(1, 20)]
            return sum(handle.result() for handle in handles)
        try: total()
        except ValueError as error: print("handled", error)
        sleep(0.05)  # nothing is to happen: the failures of the others come meanwhile
        print("goes on")
    """
    done = run(script)
    assert (done.status, done.out) == (0, "handled unread\ngoes on\n"), done
    assert done.err.count("failed and nobody read its result") <= 5, done


@pytest.mark.parametrize(
    ("policy", "status", "title"),
    [
        ("report", 0, r"goroutine \d+ \(f\) failed"),
        ("panic", 2, "panic: unread\n"),
        ("ignore", 0, "$"),
        ("", 0, r"goroutine \d+ \(f\) failed"),
    ],
)
def test_policies(run: Run, policy: str, status: int, title: str) -> None:
    script = """
        from goproc import go
        def f(): raise ValueError("unread")
        g = go(f)
        g.join()
        g = None
    """
    done = run(script, env={"GOPROC_UNREAD": policy})
    assert done.status == status and re.match(title, done.err), done


@pytest.mark.parametrize(
    ("policy", "ending", "status"),
    [
        ("report", "", 2),
        ("report", "sys.exit(0)", 2),
        ("report", "sys.exit(3)", 3),
        ("ignore", "", 0),
        ("panic", "", 2),
    ],
)
@pytest.mark.parametrize("how", ["goproc", "python"])
def test_unread_at_the_end_of_the_program(run: Run, how: str, policy: str, ending: str, status: int) -> None:
    script = f"""
        import atexit, sys
        from goproc import go
        def f(): raise ValueError("unread")
        atexit.register(print, "the exit handlers of main run")
        kept = [go(f), go(f)]
        for g in kept: g.join()
        {ending}
    """
    done = run(script, how=how, env={"GOPROC_UNREAD": policy})
    assert done.status == status, done
    if policy == "report":
        assert (
            len(re.findall(r"goroutine \d+ \(f\) failed and nobody read its result:\nTraceback", done.err))
            == 2
        ), done
    if policy != "panic":
        assert done.out == "the exit handlers of main run\n", done


def test_failures_beside_that_of_main_are_a_line_each(run: Run) -> None:
    script = """
        from goproc import go
        def f(n): raise ValueError(f"of {n}")
        kept = [go(f, n) for n in range(30)]
        for g in kept: g.join()
        kept[0].result()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: of 0\n"), done
    lines = re.findall(
        r"^goroutine \d+ \(f\) failed and nobody read its result: ValueError: of \d+$", done.err, re.M
    )
    assert (
        len(lines) == 10 and "\nand 19 more goroutines failed and nobody read their results\n" in done.err
    ), done


def test_a_cycle_does_not_keep_a_failure_to_the_end(run: Run) -> None:
    script = """
        import gc
        gc.disable()
        from goproc import go
        def f(): raise ValueError("unread")
        g = go(f)
        g.join()
        cycle = [g]
        cycle.append(cycle)
        del g, cycle
        print("goes on")
    """
    done = run(script)
    assert (done.status, done.out) == (0, "goes on\n") and re.match(UNREAD, done.err, re.DOTALL), done


# What may become of a handle that was given away, so that not only its own process knows whether it is still to be read.
GIVEN_AWAY = {
    "thrown away with its channel": "c = chan(1); c.send(g); del g, c",
    "of a sender when the channel was closed": """
        c = chan(); s = go.local(lambda g: c.send([g]), g); until_waiting(c, senders=1); del g
        c.close(); s.exception(); del s""",
    "in a result that nobody asks for": "h = go(lambda: g); h.join(); del g, h",
    "an argument that nobody uses": "h = go(lambda x: None, g); h.join(); del g, h",
}


@ON_BOTH
@pytest.mark.parametrize("fate", list(GIVEN_AWAY))
def test_a_handle_given_away_and_never_read(start: Start, proc: int, fate: str) -> None:
    script = f"""
        from goproc import go, chan
        from goproc.testing import until_waiting
        def f(): raise ValueError("unread")
        def main():
            g = go.on({proc})(f)
            g.join()
{textwrap.indent(textwrap.dedent(GIVEN_AWAY[fate]).strip(), " " * 12)}
            input()
        main()
    """
    with start(script, stdin=subprocess.PIPE) as program:
        program.wait_for("nobody read its result", "err")  # at once, not at the end
        program.type("\n")
        done = program.wait()
    assert done.status == 0 and re.match(UNREAD, done.err, re.DOTALL), done


@ON_BOTH
def test_a_handle_in_a_channel_at_the_end(run: Run, proc: int) -> None:
    script = f"""
        from goproc import go, chan
        def f(): raise ValueError("unread")
        g = go.on({proc})(f)
        g.join()
        c = chan(1)
        c.send(g)
        del g
    """
    done = run(script)
    assert done.status == 2 and re.match(UNREAD, done.err, re.DOTALL), done


@pytest.mark.parametrize("drop", ["del g", "go.on(1)(lambda x: None, g).join(); del g"])
def test_the_last_handle_goes_before_the_failure(run: Run, drop: str) -> None:
    """Somebody had a handle and has lost interest: no panic."""
    script = f"""
        from goproc import go, chan
        def f(more):
            more.recv()
            raise ValueError("unread")
        more = chan()
        g = go(f, more)
        {drop}
        more.send(1)
        more.close()
        while goproc.num_goroutine() > 1: goproc.sleep(0.001)
        print("goes on")
    """
    done = run("import goproc\n" + textwrap.dedent(script))
    assert (done.status, done.out) == (0, "goes on\n") and re.match(UNREAD, done.err, re.DOTALL), done


def test_failure_of_a_handle_that_another_reads_is_no_panic(run: Run) -> None:
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
        print("goes on")
    """
    done = run(script)
    assert (done.status, done.out) == (2, "goes on\n") and "failed and nobody read its result" in done.err, (
        done
    )


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
        from goproc.testing import until_waiting
        def leaves():
            try: goexit()
            finally: print("finally", flush=True)
        print(go.on(1)(leaves).result())
        ch = chan()
        g = go.on(1)(ch.recv)
        until_waiting(ch)
        g.cancel()
        try: g.result()
        except Cancelled: print("cancelled")
        g = go.on(1)(chan().recv)
        g.cancel()
        del g
        sleep(0.1)  # nothing is to happen
    """
    assert ok(run(script)) == "finally\nNone\ncancelled\n"
