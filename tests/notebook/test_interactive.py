"""The runtime where there is no script: the REPL, on a terminal and on a pipe, an embedded console, a notebook."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import programs
import pytest
from programs import Done, Program

Type = Callable[..., Done]


@pytest.fixture
def repl(tmp_path: Path) -> Type:
    """Type lines into ``python -i`` on a pipe."""

    def type_lines(text: str, *, procs: int = 2) -> Done:
        variables = programs.environment(GOPROC_PROCS=str(procs), PYTHONSTARTUP=None)
        line = [sys.executable, "-q", "-i"]
        with programs.start_command(line, tmp_path, variables, stdin=subprocess.PIPE) as program:
            program.type(textwrap.dedent(text))
            assert program.process.stdin is not None
            program.process.stdin.close()
            return program.wait()

    return type_lines


def answers(done: Done) -> list[str]:
    return done.out.splitlines()


def complaints(done: Done) -> str:
    """Return the program's standard error without the prompts."""
    return re.sub(r"^(>>> |\.\.\. )+", "", done.err, flags=re.MULTILINE).strip()


# -- the REPL on a pipe --------------------------------------------------------------------------------------


def test_functions_typed_in(repl: Type) -> None:
    done = repl("""
        from goproc import go, chan, procs, proc
        OFFSET = 1
        def f(x):
            return x + OFFSET, proc()

        go.on(1)(f, 1).result()
        OFFSET = 5
        go.on(1)(f, 1).result()
        def f(x):
            return "new", x

        go.on(1)(f, 1).result()
        class Point:
            def __init__(self, x): self.x = x
            def double(self): return Point(self.x * 2)

        go.on(1)(lambda p: p.double(), Point(4)).result().x
        ch = chan(2)
        g = go.on(1)(lambda: [ch.send(i) for i in range(5)] and ch.close())
        list(ch)
        g
    """)
    assert done.status == 0 and complaints(done) == "", done
    assert answers(done)[:5] == ["(2, 1)", "(6, 1)", "('new', 1)", "8", "[0, 1, 2, 3, 4]"]
    assert re.fullmatch(r"<Goroutine \d+ <lambda> (running|done)>", answers(done)[5])


def test_an_error_does_not_end_the_session(repl: Type) -> None:
    done = repl("""
        import threading
        from goproc import go, chan
        1 / 0
        go(print, threading.Lock())
        go.on(1)(lambda: {}["missing"]).result()
        chan(-1)
        chan().recv(timeout=0.01)
        go.on(1)(lambda: "still here").result()
    """)
    assert done.status == 0 and answers(done) == ["'still here'"], done
    for text in (
        "ZeroDivisionError",
        "PickleError",
        "KeyError: 'missing'",
        "ValueError: makechan",
        "TimeoutError",
    ):
        assert text in done.err


def test_a_panic_spares_the_session(repl: Type) -> None:
    done = repl("""
        from goproc import go, chan
        ch = chan()
        def start(): go.on(1)(lambda: 1 / 0)

        start()
        ch.recv()
        ch.try_send(1)
        go.on(1)(int, 5).result()
    """)
    assert done.status == 0 and "panic: division by zero" in done.err, done
    stopped = re.findall(
        r"RuntimeStopped: .*: panic in goroutine 2: division by zero$", done.err, re.MULTILINE
    )
    assert len(stopped) == 2 and "Chan used after the goproc runtime it belongs to stopped" in stopped[1], (
        done
    )
    assert answers(done) == ["5"], done


def test_an_expression_keeps_the_handle(repl: Type) -> None:
    done = repl("""
        from goproc import go
        go.on(1)(lambda: 1 / 0)
        _.join()
        1 + 1
        "goes on"
    """)
    assert done.status == 0 and "failed and nobody read its result" in done.err, done
    assert answers(done)[-1] == "'goes on'", done


def test_the_end_of_a_session_with_goroutines_left(repl: Type) -> None:
    done = repl("""
        from goproc import go, chan
        a, b = go.on(0)(chan().recv), go.on(1)(chan().recv)
        go.on(1)(int).result()
    """)
    assert (done.status, answers(done), complaints(done)) == (0, ["0"], "")
    assert repl("from goproc import go\ngo.on(1)(int).result()\nexit(3)\n").status == 3


def test_goroutines_run_while_nothing_is_typed(repl: Type) -> None:
    """Those of the workers do; the host's own run while main blocks in a goproc operation."""
    done = repl("""
        import time
        from goproc import go, chan, Atomic, sleep
        at = Atomic(0)
        def count(n):
            for _ in range(n): at.add(1)

        g = go.on(1)(count, 10)
        end = time.monotonic() + 20
        while at.load() < 10 and time.monotonic() < end: time.sleep(0.01)

        at.load()
        h = go.on(0)(count, 5)
        while at.load() < 15: sleep(0.001)  # main blocks: its goroutines run

        at.load()
    """)
    assert done.status == 0 and answers(done) == ["10", "15"], done


def test_a_script_followed_by_a_session(tmp_path: Path) -> None:
    script = "from goproc import go\nprint(go.on(1)(lambda: 1).result(), flush=True)\n"
    line, variables = programs.command(tmp_path, script, how="python", options=["-q", "-i"])
    with programs.start_command(line, tmp_path, variables, stdin=subprocess.PIPE) as program:
        program.wait_for("1\n")
        program.type("go.on(1)(lambda: 2).result()\n")
        program.wait_for("2\n")
        assert program.process.stdin is not None
        program.process.stdin.close()
        assert program.wait().status == 0


def test_ctrl_c_in_a_session_on_a_pipe(tmp_path: Path) -> None:
    variables = programs.environment(GOPROC_PROCS="2")
    with programs.start_command(
        [sys.executable, "-q", "-i"], tmp_path, variables, stdin=subprocess.PIPE
    ) as program:
        program.type("from goproc import go, chan, sleep\nasleep = go.on(1)(sleep, 60)\n")
        program.type("print(go.on(1)(str, 'ready').result()); chan().recv()\n\n")
        program.wait_for("ready")
        program.interrupt()
        program.wait_for("KeyboardInterrupt", "err")
        program.type("print(go.on(1)(str, 'alive').result())\nexit(4)\n")
        program.wait_for("alive")
        assert program.wait().status == 4


# -- the REPL on a terminal ----------------------------------------------------------------------------------


class Terminal:
    """A program on a pseudo-terminal of its own, which it is the foreground job of."""

    def __init__(self, line: list[str], folder: Path, variables: dict[str, str]) -> None:
        self.fd, other = pty.openpty()
        settings = termios.tcgetattr(other)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(other, termios.TCSANOW, settings)
        take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        self.program = Program(
            [sys.executable, "-S", "-c", take, *line],
            folder,
            {**variables, "TERM": "dumb", "PYTHON_BASIC_REPL": "1"},
            stdin=other,
            stdout=other,
            stderr=other,
        )
        os.close(other)
        os.set_blocking(self.fd, False)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read(self) -> bool:
        try:
            self.text += os.read(self.fd, 65536).decode("utf-8", "replace")
        except (BlockingIOError, OSError):  # nothing yet, or nobody has the other end any more
            return False
        return True

    def wait_for(self, text: str, seconds: float = 15.0) -> None:
        def there() -> bool:
            while self.read():
                pass
            return text in self.text

        assert programs.eventually(there, seconds), f"{text!r} did not come: {self.text!r}"
        self.text = self.text.partition(text)[2]

    def wait(self) -> Done:
        return self.program.wait()

    def close(self) -> None:
        self.program.close()
        os.close(self.fd)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened = []

    def make(*words: str) -> Terminal:
        line = [sys.executable, *words]
        opened.append(Terminal(line, tmp_path, programs.environment(GOPROC_PROCS="2", PYTHONSTARTUP=None)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_a_session_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    session = terminal("-q")
    session.wait_for(">>> ")
    session.type("from goproc import go, chan\n")
    session.wait_for(">>> ")
    session.type("go.on(1)(lambda: print('from a worker')).result()\n")
    session.wait_for("from a worker\r\n")
    session.wait_for(">>> ")
    session.type("from goproc import sleep; asleep = go.on(1)(sleep, 60)\n")
    session.wait_for(">>> ")
    for blocks in ("chan().recv()", "while True: pass\n", "go.on(1)(chan().recv).result()"):
        session.type(f"print('now'); {blocks}\n" if ":" not in blocks else f"{blocks}\n")
        session.wait_for("now" if ":" not in blocks else "... ")
        programs.eventually(lambda: False, 0.1)
        session.type("\x03")
        session.wait_for("KeyboardInterrupt")
        session.wait_for(">>> ")
    session.type("\x03")  # at the prompt
    session.wait_for("KeyboardInterrupt")
    session.wait_for(">>> ")
    session.type("go.on(1)(lambda: 6 * 7).result()\n")
    session.wait_for("42")
    session.type("\x04")
    assert session.wait().status == 0


def test_ctrl_c_on_a_terminal_ends_a_script(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from goproc import go, chan, sleep\ngo.on(1)(sleep, 60)\ngo.on(1)(int).result()\nprint('ready')\nchan().recv()\n"
    )
    session = terminal("-m", "goproc", "run", "script.py")
    session.wait_for("ready\r\n")
    session.type("\x03")
    assert session.wait().status == 130
    session.read()
    assert session.text.replace("^C", "") == "goproc: interrupted (Ctrl-C)\r\n"


def test_the_terminal_is_closed(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from goproc import go, sleep\ngo.on(1)(int).result()\nprint('ready')\nsleep(60)\n"
    )
    session = terminal("-m", "goproc", "run", "script.py")
    session.wait_for("ready")
    os.close(session.fd)
    session.fd = os.open(os.devnull, os.O_RDONLY)
    assert session.wait().status == -signal.SIGHUP


# -- the debugger on a terminal ------------------------------------------------------------------------------

STOPS = """
from goproc import go, pmap


def double(x):
    y = x * 2
    {stop}
    return y


print("result", {call})
"""


def stops(session: Terminal, stop: str, line: str) -> None:
    """Wait until the debugger has stopped at the line behind its call. Python 3.13 stops at that call first."""
    if sys.version_info >= (3, 13):
        session.wait_for(f"-> {stop}")
        session.wait_for("(Pdb) ")
        session.type("next\n")
    session.wait_for(f"-> {line}")
    session.wait_for("(Pdb) ")


@pytest.mark.parametrize("stop", ["breakpoint()", "import pdb; pdb.set_trace()"])
@pytest.mark.parametrize(
    ("call", "procs"),
    [
        ("double(21)", 2),
        ("go.local(double, 21).result()", 2),
        ("go.on(0)(double, 21).result()", 2),
        ("go(double, 21).result()", 2),
        ("go(double, 21).result()", 0),
        ("next(pmap(double, [21]))", 2),
    ],
)
def test_the_debugger(
    terminal: Callable[..., Terminal], tmp_path: Path, call: str, procs: int, stop: str
) -> None:
    (tmp_path / "script.py").write_text(STOPS.format(call=call, stop=stop))
    session = terminal("-m", "goproc", "run", "--procs", str(procs), "script.py")
    stops(session, stop, "return y")
    session.type("p ('y', y)\n")
    session.wait_for("('y', 42)")
    session.wait_for("(Pdb) ")
    session.type("y = 5\n")
    session.wait_for("(Pdb) ")
    session.type("next\n")
    session.wait_for("--Return--")
    session.wait_for("(Pdb) ")
    session.type("continue\n")
    session.wait_for("result 5")
    assert session.wait().status == 0


@pytest.mark.parametrize("procs", [0, 2])
@pytest.mark.parametrize("call", ["go(double, 21).result()", "go.local(double, 21).result()"])
def test_steps_beyond_a_goroutine_do_not_stop_in_goproc(
    terminal: Callable[..., Terminal], tmp_path: Path, call: str, procs: int
) -> None:
    (tmp_path / "script.py").write_text(
        STOPS.format(call=f"{call}, go.on({min(procs, 1)})(int).result()", stop="breakpoint()")
    )
    session = terminal("-m", "goproc", "run", "--procs", str(procs), "script.py")
    stops(session, "breakpoint()", "return y")
    session.type("next\n")
    session.wait_for("--Return--")
    session.wait_for("(Pdb) ")
    session.type("step\n")
    session.wait_for("result 42 0")  # a stop would need another line
    assert session.wait().status == 0


def test_a_step_goes_over_operations_of_goproc(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("""
from goproc import chan, go

def waits(ch):
    breakpoint()
    first = ch.recv()
    return first + ch.recv()

ch = chan()
g = go(waits, ch)
go(ch.send, 1).join()
ch.send(2)
print("result", g.result())
""")
    session = terminal("-m", "goproc", "run", "--procs", "1", "script.py")
    stops(session, "breakpoint()", "first = ch.recv()")
    for line in ("-> return first + ch.recv()", "--Return--"):
        session.type("step\n")
        session.wait_for(line)
        session.wait_for("(Pdb) ")
    session.type("step\n")
    session.wait_for("result 3")
    assert session.wait().status == 0


def test_the_debugger_as_a_goroutine(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("from goproc import go\nprint('result', go(breakpoint).result())\n")
    session = terminal("-m", "goproc", "run", "--procs", "2", "script.py")
    session.wait_for("(Pdb) ")
    session.type("p 6 * 7\n")
    session.wait_for("42")
    session.wait_for("(Pdb) ")
    session.type("continue\n")
    session.wait_for("result None")
    assert session.wait().status == 0


def test_without_workers_goroutines_stop_one_after_the_other(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(
        STOPS.format(call="list(pmap(double, range(3)))", stop="breakpoint()")
    )
    session = terminal("-m", "goproc", "run", "--procs", "0", "script.py")
    for n in range(3):
        session.wait_for("(Pdb) ")
        session.type("p ('x', x)\n")
        session.wait_for(f"('x', {n})")
        session.wait_for("(Pdb) ")
        session.type("continue\n")
    session.wait_for("result [0, 2, 4]")
    assert session.wait().status == 0


# -- consoles inside programs --------------------------------------------------------------------------------


def test_an_embedded_console(tmp_path: Path) -> None:
    script = """
        import code, io, sys
        console = code.InteractiveConsole({"__name__": "__console__"})
        for line in [
            "from goproc import go, chan",
            "OFFSET = 2",
            "def f(x): return x + OFFSET",
            "",
            "print(go.on(1)(f, 1).result())",
            "def f(x): return x * OFFSET",
            "",
            "OFFSET = 10",
            "print(go.on(1)(f, 1).result(), go.on(1)(lambda: f(3)).result())",
            "class C: value = 5",
            "",
            "print(go.on(1)(lambda c: c.value, C()).result())",
            "go.on(1)(lambda: 1 / 0).result()",
            "print('on', go.on(1)(int).result())",
        ]: console.push(line)
    """
    done = programs.run(tmp_path, script)
    assert (done.status, done.out) == (0, "3\n10 30\n5\non 0\n"), done
    assert "ZeroDivisionError" in done.err


def test_exec_and_timeit_and_doctest(tmp_path: Path) -> None:
    script = '''
        """
        >>> from goproc import go
        >>> def square(x): return x * x
        >>> go.on(1)(square, 7).result()
        49
        """
        import doctest, timeit
        from goproc import go
        space = {}
        exec("def f(x): return x + y\\ny = 3", space)
        print(go.on(1)(space["f"], 1).result())
        print(timeit.timeit("go.on(1)(int).result()", globals=globals(), number=3) > 0)
        print(doctest.testmod())
    '''
    assert programs.run(tmp_path, script).out == "4\nTrue\nTestResults(failed=0, attempted=3)\n"


# -- a notebook ----------------------------------------------------------------------------------------------

NOTEBOOK = """
import json, os, queue, sys, threading, time, warnings
warnings.simplefilter("ignore")
from jupyter_client.manager import KernelManager

cells = json.loads(sys.argv[1])
from jupyter_client.kernelspec import KernelSpec
manager = KernelManager()
spec = KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python")
manager._kernel_spec = spec
manager.start_kernel(cwd=os.getcwd())
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=25)
for cell, interrupt in cells:
    texts, errors = [], []
    if interrupt: cell = "print('begun', flush=True)\\n" + cell
    message = client.execute(cell)
    end = time.monotonic() + 20
    while True:
        reply = client.get_iopub_msg(timeout=max(0.1, end - time.monotonic()))
        if reply["parent_header"].get("msg_id") != message: continue
        kind, content = reply["msg_type"], reply["content"]
        if kind == "stream" and interrupt and not texts: threading.Timer(interrupt, manager.interrupt_kernel).start()
        if kind == "stream": texts.append(content["text"])
        elif kind == "execute_result": texts.append(content["data"]["text/plain"])
        elif kind == "error": errors.append(content["ename"] + ": " + content["evalue"])
        elif kind == "status" and content["execution_state"] == "idle": break
    with open("results", "a") as file: file.write(json.dumps(["".join(texts), errors]) + "\\n")
client.stop_channels()
manager.shutdown_kernel(now=len(sys.argv) > 2)
print("shut down")
"""

needs_kernel = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ipykernel", "jupyter_client")),
    reason="ipykernel and jupyter_client are not installed",
)


def notebook(folder: Path, cells: list[tuple[str, float]], *words: str) -> list[tuple[str, list[str]]]:
    """Run cells in a kernel of their own; give the text and the errors of each. With a word, it is killed at the end."""
    (folder / "client.py").write_text(NOTEBOOK)
    script = [sys.executable, str(folder / "client.py"), json.dumps(cells), *words]
    variables = programs.environment(
        GOPROC_PROCS="2", IPYTHONDIR=str(folder), JUPYTER_RUNTIME_DIR=str(folder)
    )
    with programs.start_command(script, folder, variables) as program:
        done = program.wait()
    assert done.status == 0 and done.out.endswith("shut down\n"), done
    if not words:  # the kernel has ended its descendants, of which nobody wants to hear
        assert "is replaced" not in done.err and "zygote" not in done.err, done.err
    return [tuple(json.loads(line)) for line in (folder / "results").read_text().splitlines()]


@needs_kernel
def test_a_notebook(tmp_path: Path) -> None:
    cells = [
        ("from goproc import go, chan, proc, procs\nprocs()", 0.0),
        ("N = 10\ndef f(x):\n    return x + N, proc()\ngo.on(1)(f, 1).result()", 0.0),
        ("N = 20\ngo.on(1)(f, 1).result()", 0.0),
        ("def f(x):\n    return 'redefined'\ngo.on(1)(f, 1).result()", 0.0),
        ("go.on(1)(lambda: 1 / 0).result()", 0.0),
        ("import threading\ngo(print, threading.Lock())", 0.0),
        ("from goproc import sleep\ngo(sleep, 100).result()", 0.7),
        ("while True: pass", 0.7),
        ("ch = chan(4)\nw = go.on(1)(lambda: [ch.send(i) for i in range(9)] and ch.close())\nlist(ch)", 0.0),
        (
            "g = go.on(1)(lambda: print('from a worker'))\ng.join()\nimport time; time.sleep(0.5)  # the output comes",
            0.0,
        ),
        ("h = go.on(0)(lambda: proc()); h.result()", 0.0),
        ("ch = chan()\nfor x in (0, 1): go.on(1)(lambda: 1 / x)\nch.recv()", 0.0),
        ("ch.try_send(1)", 0.0),
        ("go.on(1)(f, 1).result()", 0.0),
    ]
    seen = notebook(tmp_path, cells)
    assert seen[:4] == [("2", []), ("(11, 1)", []), ("(21, 1)", []), ("'redefined'", [])]
    assert seen[4][1] == ["ZeroDivisionError: division by zero"]
    assert seen[5][1][0].startswith("PickleError: cannot pickle argument 1 of print")
    assert seen[6][1] == seen[7][1] == ["KeyboardInterrupt: "]
    assert seen[8:11] == [(str(list(range(9))), []), ("from a worker\n", []), ("0", [])]
    # The panic comes while main waits, or before.
    assert re.match(r"RuntimeStopped: .*: panic in goroutine \d+: division by zero$", seen[11][1][0]), seen[
        11
    ]
    assert seen[12][1][0].startswith(
        "RuntimeStopped: Chan used after the goproc runtime it belongs to stopped"
    ), seen[12]
    assert seen[13] == ("'redefined'", [])


@needs_kernel
def test_a_notebook_that_is_killed(tmp_path: Path) -> None:
    cells = [
        (
            "from goproc import go, chan\nkept = [go.on(i)(chan().recv) for i in (0, 1)]\ngo.on(1)(int).result()",
            0.0,
        )
    ]
    assert notebook(tmp_path, cells, "now") == [("0", [])]
