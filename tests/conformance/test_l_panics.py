"""L, panics and the end of goroutines.

Go's `panic` is an exception, `defer` is `finally`, `recover` is `except`. What Go writes into one line of its report,
`first [recovered]`, `second`, Python has in its traceback, with "During handling of the above exception": so these
cases ask for the last exception in the first line, and for the others in the traceback, in the order of their raising.
"""

from __future__ import annotations

import re

import pytest
from peek import until_waiting

from goproc import chan, goexit

HANDLING = "During handling of the above exception, another exception occurred:"


def panics(done, text):
    """Check that a program ended with one panic of this text; return the rest of its report."""
    assert done.status == 2, done
    assert done.err.count("panic:") == 1, done.err
    match = re.match(r"panic: (.*)\n\ngoroutine \d+ \[running\]:\n", done.err)
    assert match and match[1] == text, done.err
    return done.err[match.end() :]


def errors(traceback):
    """The last lines of the tracebacks that are chained, in their order."""
    return [line for line in traceback.splitlines() if re.match(r"\w*(Error|Exit): ", line)]


@pytest.mark.parametrize("procs", [1, 2, 4])
def test_L01_panic_of_a_goroutine(run, procs):
    done = run(
        """
        from goproc import chan, go, nil, procs

        def fails(begin):
            begin.recv()
            raise RuntimeError("boom")

        def main():
            begin = chan()
            for p in range(procs()):
                go.on(p)(nil.recv)
            go.on(procs() - 1)(fails, begin)  # its handle is gone when it fails
            begin.send(None)
            nil.recv()

        main()
        """,
        procs=procs,
    )
    report = panics(done, "boom")
    assert re.search(r'script.py", line 6, in fails\n', report) and "RuntimeError: boom\n" in report, report
    assert re.search(r"\ncreated by main in goroutine 1\n\t.*script.py:12\n$", report), report


RECURSIVE = {
    # text of the panic, what was printed before, the chain of its traceback
    "1": (
        "again",
        "wrap: bad\n",
        ["ValueError: bad", "RuntimeError: again"],
        """
        try:
            raise ValueError("bad")
        except ValueError as error:
            print("wrap:", error)
            raise RuntimeError("again")
        """,
    ),
    "2": (
        "third panic",
        "first panic\nsecond panic\n",
        ["ValueError: first panic", "ValueError: second panic", "RuntimeError: third panic"],
        """
        try:
            try:
                raise ValueError("first panic")
            except ValueError as error:
                print(error)
                raise ValueError("second panic")
        except ValueError as error:
            print(error)
            raise RuntimeError("third panic")
        """,
    ),
    "3": (
        "first panic",
        "",
        ["RuntimeError: first panic"],
        """
        try:
            raise RuntimeError("first panic")
        finally:
            try:
                raise ValueError("second panic")
            except ValueError:
                pass
        """,
    ),
    "4": (
        "second panic",
        "",
        ["ValueError: first panic", "RuntimeError: second panic"],
        """
        try:
            raise ValueError("first panic")
        except ValueError:
            raise RuntimeError("second panic")
        """,
    ),
    "5": (
        "third panic",
        "first panic\nsecond panic\n",
        ["ValueError: first panic", "ValueError: second panic", "RuntimeError: third panic"],
        """
        def inner():
            raise ValueError("first panic")

        def middle():
            try:
                inner()
            except ValueError as error:
                print(error)
                raise ValueError("second panic")

        try:
            middle()
        except ValueError as error:
            print(error)
            raise RuntimeError("third panic")
        """,
    ),
    "nested": (
        "outer",
        "",
        ["ValueError: inner", "ValueError: middle", "RuntimeError: outer"],
        """
        try:
            try:
                try:
                    raise ValueError("inner")
                except ValueError:
                    raise ValueError("middle")
            except ValueError:
                raise
        except ValueError:
            raise RuntimeError("outer")
        """,
    ),
    "repanicked": (
        "message",
        "",
        ["RuntimeError: message"],
        """
        try:
            raise RuntimeError("message")
        except RuntimeError as error:
            raise error
        """,
    ),
    "deferred": (
        "panic pt1",
        "",
        ["ValueError: hello", "ValueError: panic pt2", "RuntimeError: panic pt1"],
        """
        try:
            try:
                raise ValueError("hello")
            finally:
                raise ValueError("panic pt2")
        finally:
            raise RuntimeError("panic pt1")
        """,
    ),
}


def recursive(run, which, where):
    text, out, chain, body = RECURSIVE[which]
    lines = [line[4:] for line in body.splitlines()]  # from 8 columns to those of a function's body
    script = "from goproc import go, nil\ngo(int)\ndef f():\n" + "\n".join(lines)
    script += "\nf()\n" if where == "main" else "\ngo.on(1)(f)\nnil.recv()\n"
    done = run(script)
    report = panics(done, text)
    assert (done.out, errors(report)) == (out, chain), report
    assert report.count(HANDLING) == len(chain) - 1


@pytest.mark.parametrize("where", ["main", "goroutine"])
@pytest.mark.parametrize("which", ["1", "2", "3", "4", "5"])
def test_L02_recursive_panics(run, which, where):
    recursive(run, which, where)


@pytest.mark.parametrize("where", ["main", "goroutine"])
@pytest.mark.parametrize("which", ["repanicked", "nested"])
def test_L03_raised_again(run, which, where):
    """Go marks what was recovered and raised again. In Python it is one exception, and is shown once."""
    recursive(run, which, where)


@pytest.mark.parametrize("where", ["main", "goroutine"])
def test_L04_order_of_tracebacks(run, where):
    recursive(run, "deferred", where)


def test_L05_goexit_runs_the_finally_blocks(place):
    log = chan(4)

    def f(log):
        try:
            try:
                goexit()
            except Exception as error:  # there is nothing to recover
                log.send(f"recovered {error!r}")
            finally:
                log.send("inner")
        finally:
            log.send("outer")
        log.send("never")

    g = place.anyone(f, log)
    assert g.result(10) is None
    assert (g.state, log.recv_many(4)) == ("done", ["inner", "outer"])


def test_L05_exception_caught_during_goexit_does_not_stop_it(place):
    log = chan(4)

    def f(log):
        try:
            goexit()
        finally:
            try:
                raise ValueError("while it ends")
            except ValueError as error:
                log.send(str(error))
        log.send("never")

    g = place.anyone(f, log)
    assert g.result(10) is None
    assert log.recv_many(4) == ["while it ends"]


def test_L05_goexit_is_no_failure(place):
    def f(c):
        try:
            c.recv()
        finally:
            goexit()

    c = chan()
    g = place.receiver(f, c)
    until_waiting(c, receivers=1)
    c.close()
    assert g.exception(10) is None and g.state == "done"


@pytest.mark.parametrize("procs", [1, 2, 4])
def test_L06_goexit_of_main_while_others_live(run, procs):
    done = run(
        """
        from goproc import current, go, goexit, procs, sleep

        def other(main):
            main.join()
            sleep(0.05)  # nothing but this timer keeps the program alive
            print("other done")

        go.on(procs() - 1)(other, current())
        try:
            goexit()
        finally:
            print("deferred")
        print("never")
        """,
        procs=procs,
    )
    assert (done.status, done.out) == (2, "deferred\nother done\n")
    assert done.err.startswith("fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n"), (
        done.err
    )


@pytest.mark.parametrize("procs", [1, 2])
@pytest.mark.parametrize("who", ["main", "goroutine"])
def test_L07_panic_while_it_ends(run, procs, who):
    line = "f()" if who == "main" else "go.on(procs() - 1)(f)\nnil.recv()"
    script = """
from goproc import go, goexit, nil, procs

def f():
    try:
        goexit()
    finally:
        raise RuntimeError("hello")

go(int)
"""
    report = panics(run(script + line + "\n", procs=procs), "hello")
    assert "RuntimeError: hello\n" in report


@pytest.mark.parametrize("procs", [1, 2, 4])
def test_L10_two_panics_at_once(run, procs):
    done = run(
        """
        from goproc import Atomic, go, nil, procs, yield_now

        def fails(i, at):
            at.add(1)
            while at.load() < 2:
                yield_now()
            raise RuntimeError(f"{i} " + "x" * 3000)

        at = Atomic(0)
        for i in (1, 2):
            go.on(i % procs())(fails, i, at)
        nil.recv()
        """,
        procs=procs,
    )
    assert done.status == 2 and done.out == ""
    assert re.fullmatch(
        r"panic: ([12]) x{3000}\n\ngoroutine \d+ \[running\]:\nTraceback (?:.*\n)*?RuntimeError: \1 x{3000}\ncreated by .*\n\t.*\n",
        done.err,
    ), done.err
