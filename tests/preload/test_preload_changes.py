"""Changes that a script makes before it uses goproc reach its workers, also where modules were imported ahead."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
from preloading import script
from programs import Run, ok


def test_a_changed_environment_is_seen_by_imports(run: Run, install: Any) -> None:
    env = install(heavy="value = os.environ.get('VALUE'), os.environ.get('OMP_NUM_THREADS')\nt.log('heavy')")
    text = script(
        "",
        """
        t.until(lambda: t.logged("heavy"))
        os.environ["VALUE"] = "1"
        os.environ["OMP_NUM_THREADS"] = "3"
        import heavy
        print(heavy.value, go.on(1)(lambda: heavy.value).result())
        def own():
            return os.environ["VALUE"], os.environ["OPENBLAS_NUM_THREADS"]
        print(go.on(1)(own).result())
        if False:
            import heavy
        """,
    )
    env["OPENBLAS_NUM_THREADS"] = ""
    assert ok(run(text, env=env)) == "('1', '3') ('1', '3')\n('1', '1')\n"


def test_a_changed_environment_without_imports_that_could_have_seen_it(run: Run, install: Any) -> None:
    text = script(
        "import json",
        """
        os.environ["VALUE"] = "1"
        os.environ["OMP_NUM_THREADS"] = "3"
        del os.environ["GONE"]
        os.environ["PYTHONUTF8"] = CHANGED
        def own():
            names = ["VALUE", "OMP_NUM_THREADS", "GONE", "OPENBLAS_NUM_THREADS"]
            shell = subprocess.run(["sh", "-c", "echo $VALUE $OMP_NUM_THREADS $GONE"], capture_output=True, text=True)
            return [os.environ.get(name) for name in names], shell.stdout
        print(go.on(1)(own).result())
        """,
    )
    env = {**install(), "GONE": "2", "OPENBLAS_NUM_THREADS": "", "PYTHONUTF8": "0"}
    for changed in ("0", "1"):
        done = run(text.replace("CHANGED", repr(changed)), env=env)
        assert ok(done) == "(['1', '3', None, '1'], '1 3\\n')\n"


def test_a_variable_that_the_import_itself_sets_is_no_change(run: Run, install: Any) -> None:
    env = install(heavy="os.environ['VALUE'] = '1'\npid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        print(go.on(1)(lambda: (heavy.pid == os.getppid(), os.environ["VALUE"])).result())
        """,
    )
    assert ok(run(text, env=env)) == "(True, '1')\n"


def test_workers_take_over_the_changed_state_of_the_script(run: Run, install: Any, tmp_path: Path) -> None:
    """Folder, umask, limits, CPUs, ignored signals and standard streams; and the imports are still shared."""
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    (tmp_path / "elsewhere").mkdir()
    text = script(
        "import heavy",
        """
        import resource, signal
        t.until(lambda: len(t.logged("heavy")) == 2)
        os.chdir("elsewhere")
        os.umask(0o027)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        keep = os.dup(1)
        os.dup2(os.open("out", os.O_WRONLY | os.O_CREAT), 1)
        def facts():
            os.write(1, b"to the file")
            umask = os.umask(0)
            os.umask(umask)
            return (
                os.getcwd(), umask, resource.getrlimit(resource.RLIMIT_NOFILE), os.sched_getaffinity(0),
                signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN, signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL,
                heavy.pid == os.getppid(),
            )
        seen = go.on(1)(facts).result()
        os.dup2(keep, 1)
        expected = os.getcwd(), 0o027, (soft - 1, hard), os.sched_getaffinity(0), True, True, True
        print(seen == expected or (seen, expected))
        print(open("out").read())
        """,
    )
    assert ok(run(text, env=env)) == "True\nto the file\n"


def test_a_module_from_elsewhere_is_the_one_that_workers_have(run: Run, install: Any, tmp_path: Path) -> None:
    """The script prefers another folder, after the zygote has imported the installed module."""
    env = install(heavy="where = 'installed'\nt.log('heavy')")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "heavy.py").write_text("where = 'mine'\n")
    text = script(
        "",
        """
        t.until(lambda: t.logged("heavy"))
        sys.path.insert(0, "mine")
        def f():
            import heavy
            return heavy.where
        print(go.on(1)(f).result())
        import heavy
        print(heavy.where)
        """,
    )
    assert ok(run(text, env=env)) == "mine\nmine\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_gets_another_zygote(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        os.setegid(12345)
        print(go.on(1)(lambda: (os.getegid(), heavy.pid == os.getppid())).result())
        """,
    )
    assert ok(run(text, env=env)) == "(12345, False)\n"


@pytest.mark.parametrize("change", ["os.setsid()", "os.setpgid(0, 0)"])
def test_another_session_or_group_gets_another_zygote(
    run: Run, install: Any, tmp_path: Path, change: str
) -> None:
    """The program is not the first of its session, which can have no other. Its group is not that of the tests: where a
    process of this is stopped, the end of a child in it, whose parent has left it, hangs all of it up."""
    inner = tmp_path / "inner.py"
    inner.write_text(
        textwrap.dedent(script("", f"{change}\nprint(go.on(1)(os.getpgrp).result() == os.getpid())"))
    )
    command = ["-m", "goproc", "run", str(inner), "--procs", "1"]
    text = f"import subprocess, sys\nsys.exit(subprocess.run([sys.executable, *{command}]).returncode)"
    assert ok(run(text, env=install(), how="python")) == "True\n"
