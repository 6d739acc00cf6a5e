"""Programs that import modules ahead and do not come to use goproc, and programs beside each other."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from preloading import GATE, script
from programs import Run, Start, ok

from goproc._proc import early


def test_a_program_without_goproc_sees_nothing_of_it(run: Run, install: Any) -> None:
    env = install(heavy=GATE.format("never"))
    text = """
        import os, sys
        import heavy
        print([name for name in os.environ if name.startswith("GOPROC")], sys.argv[1:], "goproc" in sys.modules)
    """
    assert ok(run(text, env=env)) == "['GOPROC_PROCS'] [] False\n"


@pytest.mark.parametrize("how", ["kill", "interrupt", "exit"])
def test_ends_before_the_first_use(start: Start, install: Any, how: str) -> None:
    """Whatever the zygote is doing, it ends with the program."""
    env = install(heavy=GATE.format("never"))
    text = script(
        "import heavy",
        """
        t.until(lambda: t.logged("at-never"))
        print("ready", flush=True)
        if HOW == "exit":
            os._exit(0)
        time.sleep(60)
        """.replace("HOW", repr(how)),
    )
    with start(text, env=env) as program:
        program.wait_for("ready")
        if how == "kill":
            program.kill()
        elif how == "interrupt":
            program.interrupt()
        done = program.wait()
    assert done.status == {"kill": -signal.SIGKILL, "interrupt": 130, "exit": 0}[how]
    assert done.err == ("goproc: interrupted (Ctrl-C)\n" if how == "interrupt" else ""), done


def test_a_script_with_a_syntax_error(run: Run, install: Any) -> None:
    done = run("import os\nthis is no Python\n", env=install())
    assert done.status == 1 and done.err.count("SyntaxError") == 1, done


def test_a_dead_zygote_is_replaced(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')\n" + GATE.format("never"))
    text = script(
        "import heavy",
        """
        import signal
        t.until(lambda: t.logged("at-never"))
        t.open_gate("never")
        zygote = t.logged("at-never")[0]
        os.kill(zygote, signal.SIGKILL)
        t.until(lambda: not os.path.exists(f"/proc/{zygote}"))
        print(go.on(1)(lambda: heavy.pid == os.getpid()).result())
        """,
    )
    assert ok(run(text, env=env)) == "True\n"


def test_nested_programs_have_their_own(run: Run, install: Any, tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text(
        "import os\nfrom goproc import go\nprint(go.on(1)(os.getppid).result())\n"
    )
    text = script(
        "",
        """
        line = [sys.executable, "inner.py"]
        def inner(*line, **options):
            return subprocess.run(line, capture_output=True, text=True, timeout=20, **options)
        for early in (True, False):
            outer = None if early else go.on(1)(os.getppid).result()
            for command in (line, sys.orig_argv[:-1] + ["inner.py"], [sys.executable, "-m", "goproc", "run", "inner.py"]):
                done = inner(*command, close_fds=False)
                print(done.returncode, done.stderr, done.stdout.strip().isdigit() and int(done.stdout) != outer)
        """,
    )
    assert ok(run(text, env=install())) == "0  True\n" * 6


def test_a_child_forked_before_the_first_use_has_its_own(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        print(go.on(1)(lambda: heavy.pid == os.getppid()).result(), flush=True)
        """,
    )
    assert ok(run(text, env=env)) == "False\nTrue\n"


@pytest.mark.parametrize("value", ["0.1.1", "garbage", "999.1.1", "1.1.1", "1.1", "", "2"])
def test_the_option_is_not_believed_blindly(run: Run, install: Any, value: str) -> None:
    text = script("", "print(go.on(1)(lambda: 1).result(), sys._xoptions)")
    options = ["-X", f"{early.OPTION}={value}" if value else early.OPTION]
    assert ok(run(text, env=install(), how="python", options=options)) == "1 {}\n"
