"""Bad input, and machines with little to give: a clear error at the user's own line, and nothing else is lost."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import programs
import pytest
from programs import Done, Run, ok

# -- what cannot be copied -----------------------------------------------------------------------------------

BEGIN = textwrap.dedent("""
    import sqlite3, sys, threading, traceback
    import goproc
    from goproc import go, chan, sleep, procs
    def report(use):
        try:
            print("gave", use())
        except Exception as e:
            frames = traceback.extract_tb(e.__traceback__)
            mine = [f for f in frames if f.filename == __file__][-1]
            print(type(e).__name__, isinstance(e, goproc.GoprocError), "|", str(e).splitlines()[0], "|", mine.line)
""")


def test_an_argument_that_cannot_be_pickled(run: Run) -> None:
    script = """
        db = sqlite3.connect(":memory:")
        def f(x, y=None): return 1
        def make():
            def closure(): return db.execute("select 1")
            return closure
        report(lambda: go(f, 1, db))  # LINE
        report(lambda: go(f, 1, y={"a": [1, db]}))
        report(lambda: go(f, 1, lambda: db))
        report(lambda: go.on(1)(make()))
        report(lambda: go.opts(name="x")(f, [threading.Lock()]))
        report(lambda: go.local(f, db).result())
        print(go.on(1)(f, 5).result())
    """
    lines = ok(run(BEGIN + textwrap.dedent(script))).splitlines()
    assert lines[0].startswith(
        "PickleError True | cannot pickle argument 2 of f -> sqlite3.Connection: TypeError"
    )
    assert lines[0].endswith("| report(lambda: go(f, 1, db))  # LINE")
    assert "argument 'y' of f -> ['a'] -> [1] -> sqlite3.Connection" in lines[1]
    assert re.search(r"argument 2 of f -> (closure|global) 'db' -> sqlite3.Connection", lines[2])
    assert re.search(r"closure.* -> (closure|global) 'db' -> sqlite3.Connection", lines[3])
    assert "argument 1 of f -> [0] -> _thread.lock" in lines[4]
    assert lines[5:] == ["gave 1", "1"]


def test_an_argument_of_waitgroup_go_that_cannot_be_pickled(run: Run) -> None:
    script = """
        wg = goproc.WaitGroup()
        report(lambda: wg.go(print, threading.Lock()))
        wg.wait()
    """
    assert "argument 1 of print -> _thread.lock" in ok(run(BEGIN + textwrap.dedent(script)))


def test_the_traceback_of_a_bad_argument_ends_at_the_users_line(run: Run, tmp_path: Path) -> None:
    script = """
        import threading
        from goproc import go
        def start():
            go(print, threading.Lock())
        start()
    """
    done = run(script)
    assert done.status == 2
    path = re.escape(str(tmp_path / "script.py"))
    assert re.search(rf'File "{path}", line 5, in start\n    go\(print, threading.Lock\(\)\)\n', done.err)
    assert re.search(
        r"\ngoproc\.errors\.PickleError: cannot pickle argument 1 of print -> _thread\.lock: ", done.err
    )


def test_a_message_that_cannot_be_pickled(run: Run) -> None:
    script = """
        ch = chan(8)
        bad = {"rows": [1, (2, threading.Lock())]}
        report(lambda: ch.send(bad))
        report(lambda: ch.try_send(bad))
        report(lambda: ch.send_many([1, bad, 2]))
        report(lambda: ch.send(x for x in "abc"))
        class Odd:
            def __reduce__(self): raise ValueError("odd")
        report(lambda: ch.send([Odd()]))
        class Loop:
            def __getstate__(self): return ch.recv()
        empty = chan()
        class Waits:
            def __reduce__(self): return int, (empty.recv(),)
        report(lambda: ch.send(Waits()))
        deep = []
        for _ in range(100_000): deep = [deep]
        report(lambda: ch.send(deep))
        print(list(ch.recv_many(8)) if len(ch) else [], len(ch))
        # later messages still work, here and elsewhere
        def pump(ch):
            for i in range(3):
                try: ch.send(lambda: threading.Lock() and bad)
                except goproc.PickleError: pass
                ch.send(i)
            ch.close()
        ch = chan(2)
        go.on(1)(lambda ch: [ch.send(i) for i in range(3)] and ch.close(), ch)
        print(list(ch))
    """
    lines = ok(run(BEGIN + textwrap.dedent(script))).splitlines()
    path = "cannot pickle message -> ['rows'] -> [1] -> [1] -> _thread.lock"
    assert all(line.startswith(f"PickleError True | {path}") for line in lines[:3]), lines
    assert lines[0].endswith("| report(lambda: ch.send(bad))")
    assert "generator" in lines[3] and "ValueError: odd" in lines[4]
    assert lines[5].startswith(("PickleError", "RuntimeError")), lines[5]
    assert "too deeply nested" in lines[6]
    assert lines[7:] in (["[1] 0", "[0, 1, 2]"], ["[] 0", "[0, 1, 2]"]), lines


def test_a_result_that_cannot_be_pickled(run: Run) -> None:
    script = """
        def bad(): return {"lock": threading.Lock()}
        for i in (0, 1): report(lambda: go.on(i)(bad).result())
        print(go.on(1)(int).result())
    """
    lines = ok(run(BEGIN + textwrap.dedent(script))).splitlines()
    for line in lines[:2]:
        assert line.startswith("PickleError True | cannot pickle the result of bad -> "), line
        assert "['lock'] -> _thread.lock" in line and line.endswith(".result())")
    assert lines[2:] == ["0"]


@pytest.mark.parametrize("proc", [0, 1])
def test_a_result_that_nobody_reads_need_not_be_pickled(run: Run, proc: int) -> None:
    """The goroutine may have ended when its handle goes, or not: that makes no difference."""
    script = f"""
        def bad(): return threading.Lock()
        for i in range(3): go.on({proc})(bad)
        g = go.on({proc})(bad)
        g.join()
        del g
        sleep(0.05)  # nothing is to happen
    """
    assert ok(run(BEGIN + textwrap.dedent(script))) == ""


def test_an_exception_that_cannot_be_pickled(run: Run) -> None:
    script = """
        class Bad(Exception):
            def __init__(self, lock, text): super().__init__(lock, text); self.lock, self.code = lock, 5
            def __str__(self): return "very bad"
        def raises_bad(): raise Bad(threading.Lock(), "x")
        def chained():
            try: raises_bad()
            except Bad as e: raise KeyError("k") from e
        for i in (0, 1):
            try: go.on(i)(raises_bad).result()
            except goproc.RemoteError as e:
                text = "".join(traceback.format_exception(e))
                print(e, "|", e.type_name, e.text, e.attributes, "in raises_bad" in e.traceback, "in raises_bad" in text)
            try: go.on(i)(chained).result()
            except KeyError as e: print(repr(e), repr(e.__cause__), "in raises_bad" in "".join(traceback.format_exception(e)))
        print(go.on(1)(int).result())
    """
    out = ok(run(BEGIN + textwrap.dedent(script))).splitlines()
    assert len(out) == 5 and out[:2] == out[2:4] and out[4] == "0"
    parts = "args[0] (a _thread.lock) and attribute 'lock' (a _thread.lock) cannot be pickled"
    assert out[0] == f"Bad: very bad ({parts}) | Bad very bad {{'code': 5}} True True"
    assert out[1].startswith("KeyError('k') RemoteError(") and out[1].endswith("True")


def test_a_panic_with_an_exception_that_cannot_be_pickled(run: Run) -> None:
    script = """
        class Bad(Exception): pass
        def f(): raise Bad(threading.Lock())
        go.on(1)(f)
        chan().recv()
    """
    done = run(BEGIN + textwrap.dedent(script))
    assert (
        done.status == 2
        and done.err.startswith("panic: <unlocked _thread.lock")
        and "Bad: <unlocked" in done.err
    )


def test_a_value_that_only_one_side_can_load(run: Run, tmp_path: Path) -> None:
    (tmp_path / "picky.py").write_text(
        "import os\nclass Picky:\n    home = os.getpid()\n    def __init__(self): self.pid = os.getpid()\n"
        "    def __setstate__(self, state):\n        if state['pid'] != os.getpid(): raise OSError('not here')\n"
    )
    script = """
        import picky
        def take(x): return x
        report(lambda: go.on(1)(take, picky.Picky()).result())
        ch = chan(2)
        go.on(1)(lambda: (ch.send(picky.Picky()), ch.send("next"))).result()
        report(lambda: ch.recv())
        report(lambda: ch.recv())
        print(go.on(1)(int).result())
    """
    lines = ok(run(BEGIN + textwrap.dedent(script))).splitlines()
    assert lines[0].startswith("OSError False | not here") or "not here" in lines[0], lines
    assert "not here" in lines[1] and lines[1].endswith("ch.recv())"), lines
    assert lines[2:] == ["gave next", "0"], lines


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        ("chan(-1)", "ValueError", "makechan: size out of range"),
        ("chan(-(1 << 70))", "(ValueError|OverflowError)", ""),
        ("chan(1 << 62)", "(ValueError|OutOfSharedMemory)", ""),
        ("chan(1 << 70)", "(ValueError|OutOfSharedMemory|OverflowError)", ""),
        ("chan('2')", "TypeError", ""),
        ("chan(1.5)", "TypeError", ""),
        ("go(None)", "TypeError", "nil func value"),
        ("go(5)", "TypeError", "callable"),
        ("go()", "TypeError", ""),
        ("go.local(None)", "TypeError", "nil func value"),
        ("go.on(3)", "ValueError", "there are proc 0, the host, and the workers 1 to 2"),
        ("go.on(-1)", "ValueError", "there are proc 0, the host, and the workers 1 to 2"),
        ("go.on('a')", "TypeError", "number of a proc"),
        ("go.opts(nick='x')", "TypeError", "nick"),
        ("go(int).result(timeout='x')", "TypeError", "timeout"),
        ("chan().recv(timeout='x')", "TypeError", "timeout"),
        ("chan().recv(1, 2)", "TypeError", ""),
        ("sleep('x')", "TypeError", "seconds"),
        ("sleep(float('nan'))", "ValueError", "NaN"),
        ("chan(1).send()", "TypeError", ""),
        ("chan(1).send_many(5)", "TypeError", ""),
        ("chan(1).recv_many(-1)", "ValueError", ""),
        ("goproc.nil.close()", "ChanClosed", "close of nil channel"),
        ("goproc.WaitGroup().done()", "ValueError", "sync: negative WaitGroup counter"),
        ("goproc.Atomic('x')", "TypeError", ""),
        ("goproc.Atomic(1 << 64)", "OverflowError", ""),
        ("goproc.runtime(procs=-1)", "ValueError", "-1 is negative"),
        ("goproc.runtime(procs=256)", "ValueError", "256 is more than goproc can start"),
        ("goproc.runtime(procs=100_000)", "ValueError", "more"),
        ("goproc.runtime(procs='x')", "ValueError", "not a whole number"),
        ("goproc.runtime(memory='much')", "ValueError", "not a size"),
        (
            "goproc.runtime(on_death='never')",
            "ValueError",
            "not a policy: give one of restart, continue, exit",
        ),
        ("goproc.no_such_name", "AttributeError", "no_such_name"),
    ],
)
def test_misuse(misuse: Callable[[str], str], call: str, error: str, text: str) -> None:
    assert re.fullmatch(
        rf"{error} \w+ \| .*{re.escape(text)}.* \| report\(lambda: {re.escape(call)}\)", misuse(call)
    )


@pytest.fixture(scope="module")
def misuse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return the answer of one program to each call of test_misuse: it goes on after all of them."""
    marks = [mark for mark in test_misuse.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    calls = [call for call, _, _ in marks[0].args[1]]
    body = "".join(f"report(lambda: {call})\n" for call in calls) + "print(go.on(1)(int).result())\n"
    lines = ok(programs.run(tmp_path_factory.mktemp("misuse"), BEGIN + body)).splitlines()
    assert len(lines) == len(calls) + 1 and lines[-1] == "0", lines
    return dict(zip(calls, lines, strict=False)).__getitem__


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"GOPROC_PROCS": "-1"}, "GOPROC_PROCS: '-1' is negative"),
        ({"GOPROC_UNREAD": "loud"}, "GOPROC_UNREAD='loud': give one of report, panic, ignore"),
        ({"GOPROC_PROCS": "many"}, "GOPROC_PROCS: 'many' is not a whole number"),
        ({"GOPROC_MEMORY": "lots"}, "GOPROC_MEMORY: 'lots' is not a size"),
        ({"GOPROC_ON_DEATH": "never"}, "GOPROC_ON_DEATH: 'never' is not a policy"),
        ({"GOPROC_PIN": "false"}, "GOPROC_PIN: 'false' is neither 0 nor 1"),
        ({"GOPROC_QUIET_DEATHS": "yes"}, "GOPROC_QUIET_DEATHS: 'yes' is neither 0 nor 1"),
        ({"GOPROC_PREEMPT": "off"}, "GOPROC_PREEMPT: 'off' is neither 0 nor 1"),
        ({"GOPROC_DEADLOCK": "no"}, "GOPROC_DEADLOCK: 'no' is neither 0 nor 1"),
    ],
)
def test_a_bad_variable_with_plain_python(run: Run, environ: dict[str, str], text: str) -> None:
    done = run("from goproc import chan\nch = chan()\n", how="python", env=environ)
    assert done.status == 1 and "line 2, in <module>\n    ch = chan()\n" in done.err
    assert text in done.err.splitlines()[-1] and done.err.splitlines()[-1].startswith("ValueError: ")


# -- memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proc", [0, 1])
def test_values_larger_than_memory_allows(run: Run, proc: int) -> None:
    script = f"""
        def work():
            ch = chan(2)
            big = "x" * (80 << 20)
            report(lambda: ch.send(big))
            report(lambda: ch.try_send(big.encode()))
            report(lambda: chan(1 << 28))
            report(lambda: go(len, big))
            report(lambda: ch.send([bytearray(40 << 20), bytearray(40 << 20)]))
            ch.send("small")
            return ch.recv(), go(len, "abc").result()
        print(go.on({proc})(work).result())
        def large(): return b"x" * (80 << 20)
        report(lambda: go.on({proc})(large).result())
        report(lambda: go.on({proc})(lambda: exec("raise ValueError('x' * (80 << 20))")).result())
        print(go.on(1)(int).result())
    """
    lines = ok(run(BEGIN + textwrap.dedent(script), options=["--memory", "64M"])).splitlines()
    asked = [83886080, 83886080, 1 << 34, 83886080, 41943040]
    for line, size in zip(lines, asked, strict=False):
        found = re.match(
            r"OutOfSharedMemory True \| .*needs (\d+) bytes of shared memory; (\d+) of 67108864 are free \(",
            line,
        )
        assert found and size <= int(found[1]) < size * 3 and int(found[2]) < 67108864, line
        assert "raise the limit with --memory, GOPROC_MEMORY or runtime(memory=...)" in line
    assert lines[5] == "('small', 3)"
    assert lines[6].startswith("OutOfSharedMemory True | "), lines[6]
    assert "xxxxx" in lines[7] and len(lines[7]) < 5000, lines[7][:200]
    assert lines[8:] == ["0"]


def test_memory_comes_back(run: Run) -> None:
    script = """
        go.on(1)(int).result()
        ch = chan(100)
        for round in range(5):
            sent = 0
            try:
                while True:
                    ch.send(bytes(1 << 20))
                    sent += 1
            except goproc.OutOfSharedMemory as e: pass
            print(sent > 30, end=" ")
            for _ in range(sent): ch.recv()
        print()
    """
    assert ok(run(BEGIN + textwrap.dedent(script), options=["--memory", "64M"])) == "True " * 5 + "\n"


def test_workers_that_start_when_memory_is_full(run: Run) -> None:
    script = """
        ch = chan(100)
        try:
            while True: ch.send(bytes(1 << 20))
        except goproc.OutOfSharedMemory: print("full")
        for _ in range(len(ch)): ch.recv()
        print(go.on(1)(int).result())
    """
    assert ok(run(BEGIN + textwrap.dedent(script), options=["--memory", "64M"])) == "full\n0\n"


def test_too_little_memory_for_a_runtime(run: Run) -> None:
    done = run("from goproc import chan\nchan(1).send(1)\nprint('fine')", options=["--memory", "4K"])
    if done.status == 0:
        assert done.out == "fine\n"
    else:
        assert ("memory" in done.err and "Traceback" in done.err) or done.status == 2, done


# -- limits of the system ------------------------------------------------------------------------------------

LIMITED = """
import ctypes, os, resource, sys
kind, value, user, *command = sys.argv[1:]
if user != "-":
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
    read = 1 << 2  # CAP_DAC_READ_SEARCH: our Python may be where nobody else can read it
    libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(read, read, read, 0, 0, 0))
    libc.prctl(47, 2, 2, 0, 0)  # PR_CAP_AMBIENT_RAISE
if kind != "-":
    limit = getattr(resource, kind)
    resource.setrlimit(limit, (int(value), int(value)))
os.execv(command[0], command)
"""


def limited(
    folder: Path,
    text: str,
    kind: str = "-",
    value: int = 0,
    user: int | None = None,
    seconds: float = 20.0,
    **options: Any,
) -> Done:
    """Run a script under a resource limit, perhaps as another user."""
    procs = options.pop("procs", 2)
    line, variables = programs.command(folder, text, procs=procs, how="python")
    prefix: Sequence[str] = [
        sys.executable,
        "-S",
        "-c",
        LIMITED,
        kind,
        str(value),
        "-" if user is None else str(user),
    ]
    with programs.start_command(
        [*prefix, *line], options.pop("cwd", folder), variables, **options
    ) as program:
        return program.wait(seconds)


NOBODY = 65534


@pytest.fixture
def nobody(tmp_path: Path) -> int:
    """A user with few rights who can run our Python all the same."""
    if os.getuid() != 0:
        pytest.skip("only root can run a program as another user")
    line = [
        sys.executable,
        "-S",
        "-c",
        LIMITED,
        "-",
        "0",
        str(NOBODY),
        sys.executable,
        "-c",
        "import goproc._proc.host",
    ]
    with programs.start_command(line, tmp_path, programs.environment()) as program:
        if program.wait().status != 0:
            pytest.skip("another user cannot read this Python")
    return NOBODY


def test_more_procs_than_the_system_can_start(tmp_path: Path, nobody: int) -> None:
    script = """
        import sys
        from goproc import go, chan
        def main():
            print("before", flush=True)
            for i in range(8): go.on(i)(chan().recv)
            chan().recv()
        main()
    """
    done = limited(tmp_path, script, "RLIMIT_NPROC", 6, nobody, 5.0, procs=8)
    assert done.status == 2 and done.out == "before\n", done
    assert re.search(
        r"\ngoproc\.errors\.GoprocError: proc \d of 8 could not be started: .*ulimit -u", done.err
    ), done
    assert "line 8, in <module>" in done.err and done.err.count("Traceback") == 1


def test_no_room_for_the_zygote_or_the_coroner(tmp_path: Path, nobody: int) -> None:
    script = """
        from goproc import chan
        try: chan()
        except (OSError, RuntimeError) as e: print("error:", e)
        try: chan()
        except (OSError, RuntimeError) as e: print("error:", e)
    """
    for limit in (1, 2):
        done = limited(tmp_path, script, "RLIMIT_NPROC", limit, nobody, procs=2)
        assert done.status in (0, 1, 2) and done.err.count("Traceback") <= 1, done
        if "error: " not in done.out:
            assert "could not be started" in done.err, done


def test_an_ordinary_user_without_a_home(tmp_path: Path, nobody: int) -> None:
    script = "from goproc import go, chan\nch = chan(1)\ngo.on(1)(ch.send, 5).join()\nprint(ch.recv())"
    assert ok(limited(tmp_path, script, user=nobody, env={"HOME": None, "USER": None})) == "5\n"
    assert ok(limited(tmp_path, script, user=nobody, env={"HOME": "/nonexistent"}, cwd=Path("/"))) == "5\n"


@pytest.mark.parametrize("mebibytes", [100, 300, 1000, 4000])
def test_little_address_space(tmp_path: Path, mebibytes: int) -> None:
    script = """
        from goproc import go, chan
        ch = chan(1)
        go.on(1)(ch.send, 5).join()
        print(ch.recv())
    """
    done = limited(tmp_path, script, "RLIMIT_AS", mebibytes << 20)
    if done.status == 0:
        assert done.out == "5\n" and done.err == ""
    else:
        assert done.status in (1, 2) and mebibytes < 1000, done
        assert re.search(r"memory|MemoryError", done.err), done


def test_many_procs_in_little_address_space(tmp_path: Path) -> None:
    script = "from goproc import go, procs\nprint([go.on(i)(int).result() for i in range(procs() + 1)])"
    assert ok(limited(tmp_path, script, "RLIMIT_AS", 8 << 30, procs=8)) == f"{[0] * 9}\n"


@pytest.mark.parametrize("files", [5, 6, 7, 8, 9, 10, 16, 32])
def test_few_open_files(tmp_path: Path, files: int) -> None:
    script = """
        import os
        from goproc import go, chan, procs
        def main():
            ch = chan(1)
            for i in range(procs() + 1): go.on(i)(ch.send, i).join() or ch.recv()
            print("fine")
        main()
    """
    done = limited(tmp_path, script, "RLIMIT_NOFILE", files, procs=4)
    if done.status == 0:
        assert (done.out, done.err) == ("fine\n", "")
    else:
        assert files < 16 and done.status in (1, 2), done
        assert "Too many open files" in done.err or "zygote" in done.err or "Errno 24" in done.err, done


def test_a_program_that_uses_up_its_files(tmp_path: Path) -> None:
    script = """
        import os
        held = []
        try:
            while True: held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError: pass
        import goproc
        from goproc import go, chan
        try: chan()
        except OSError as e: print(e)
        for fd in held: os.close(fd)
        ch = chan(1)
        go.on(1)(ch.send, 5).join()
        print(ch.recv(), len(os.listdir("/proc/self/fd")) < 12)
    """
    # every module must be there before the files are used up
    script = script.replace(
        "        import os\n",
        "        import os, goproc._wiring, goproc._go, goproc._runtime, _socket, marshal, signal\n",
        1,
    )
    done = limited(tmp_path, script, "RLIMIT_NOFILE", 64)
    lines = ok(done).splitlines()
    assert "Too many open files" in lines[0] and lines[1:] == ["5 True"]


# -- odd surroundings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "02", "12", "012"])
def test_closed_standard_streams(tmp_path: Path, closed: str) -> None:
    script = """
        import os, sys
        from goproc import go, chan, procs
        def f(i):
            print("line", i)
            if sys.stderr: print("error", i, file=sys.stderr)
            return i
        values = [go.on(i)(f, i).result() for i in (0, 1)]
        ch = chan(1)
        go.on(1)(ch.send, values).join()
        with open("result", "w") as file: file.write(repr(ch.recv()))
    """
    line, variables = programs.command(tmp_path, script)
    shell = " ".join(line) + "".join(f" {fd}>&-" for fd in closed)
    with programs.start_command(["/bin/sh", "-c", f"exec {shell}"], tmp_path, variables) as program:
        done = program.wait()
    assert done.status == 0, done
    assert (tmp_path / "result").read_text() == "[0, 1]"
    assert sorted(done.out.splitlines()) == ([] if "1" in closed else ["line 0", "line 1"])
    assert sorted(done.err.splitlines()) == ([] if "2" in closed else ["error 0", "error 1"])


def test_a_panic_with_standard_error_closed(tmp_path: Path) -> None:
    line, variables = programs.command(
        tmp_path, "from goproc import *\ngo.on(1)(lambda: 1 / 0)\nchan().recv()\n"
    )
    shell = f"exec {' '.join(line)} 2>&-"
    with programs.start_command(["/bin/sh", "-c", shell], tmp_path, variables) as program:
        assert program.wait().status == 2


def test_a_full_disk_under_the_output(tmp_path: Path) -> None:
    script = """
        from goproc import go
        def f():
            try: print("x" * 100)
            except OSError as e: return e.errno
        print(go.on(1)(f).result() == 28, file=open("result", "w"))
    """
    with open("/dev/full", "wb") as full:
        done = programs.run(tmp_path, script, stdout=full)
    assert (tmp_path / "result").read_text() == "True\n" and done.err == ""


def test_a_folder_that_cannot_be_written(tmp_path: Path, nobody: int) -> None:
    script = """
        import os
        from goproc import go
        print(go.on(1)(lambda: 5).result(), os.access(".", os.W_OK))
    """
    assert ok(limited(tmp_path, script, user=nobody)) == "5 False\n"


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    script = """
        import os
        from goproc import go
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        print(go.on(1)(lambda: 5).result())
    """
    assert ok(programs.run(tmp_path, script)) == "5\n"


def test_an_empty_environment(tmp_path: Path) -> None:
    script = "import os\nfrom goproc import go\nprint(go.on(1)(lambda: 5).result())"
    (tmp_path / "script.py").write_text(script)
    with programs.start_command([sys.executable, "script.py"], tmp_path, {"GOPROC_PROCS": "2"}) as program:
        assert ok(program.wait()) == "5\n"


def test_a_path_with_spaces_and_letters(tmp_path: Path) -> None:
    folder = tmp_path / "a b 'c' \u00e9\u4e2d"
    folder.mkdir()
    (folder / "beside.py").write_text("def f(): return 5\n")
    script = "from goproc import go\nimport beside\nprint(go.on(1)(beside.f).result(), go.on(1)(lambda: beside.f()).result())"
    assert ok(programs.run(folder, script)) == "5 5\n"


def test_python_options_reach_the_workers(tmp_path: Path) -> None:
    script = """
        import sys
        from goproc import go
        def f(): return sys.flags.optimize, sys.flags.utf8_mode, sys.flags.dev_mode, list(sys.warnoptions)
        print(go.on(1)(f).result() == f(), f())
    """
    done = programs.run(
        tmp_path, script, how="python", options=["-O", "-X", "utf8", "-W", "error::UserWarning"]
    )
    assert ok(done) == "True (1, 1, False, ['error::UserWarning'])\n"
