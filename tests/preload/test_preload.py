"""The zygote of `goproc run` imports the modules of the script ahead, beside the script, and the workers share them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from preloading import script
from programs import Run, ok


def test_imported_once_and_shared(run: Run, install: Any) -> None:
    env = install(
        heavy_package="pid = os.getpid()\nfrom heavy import part",
        heavy__part="pid = os.getpid()\nt.log('part')",
    )
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("part")) == 2)
        def pids():
            import heavy.part
            return heavy.pid, heavy.part.pid, os.getppid()
        for p in (1, 2):
            a, b, zygote = go.on(p)(pids).result()
            print(a == b == zygote)
        print(len(t.logged("part")))
        """,
    )
    assert ok(run(text, procs=3, env=env)) == "True\nTrue\n2\n"


def test_imports_of_modules_of_the_user_are_shared(run: Run, install: Any, tmp_path: Path) -> None:
    """They are read and not run, also if they import one another."""
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    (tmp_path / "own.py").write_text("import other\nimport tools_of_test as t\nt.log('own')\n")
    (tmp_path / "other.py").write_text("import own\nimport heavy\n")
    text = script(
        "import own, heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        print(go.on(1)(lambda: heavy.pid == os.getppid()).result(), len(t.logged("own")))
        """,
    )
    assert ok(run(text, env=env)) == "True 1\n"


def test_plain_python_imports_nothing_ahead(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        "print(go.on(1)(lambda: heavy.pid == os.getpid()).result(), len(t.logged('heavy')))",
    )
    assert ok(run(text, env=env, how="python")) == "True 2\n"


@pytest.mark.parametrize("words", [["-m", "module_of_test"], ["entry"], ["stdin"]], ids=" ".join)
def test_ways_to_start(tmp_path: Path, install: Any, words: list[str]) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2 or words == ["stdin"])
        print(go.on(1)(lambda: (heavy.pid == os.getppid(), heavy.pid == os.getpid())).result())
        """.replace("words", repr(words)),
    )
    (tmp_path / "module_of_test.py").write_text(text)
    command = [sys.executable, "-m", "goproc", "run", "--procs", "2"]
    if words == ["entry"]:
        entry = Path(sys.executable).with_name("goproc")
        if not entry.exists():
            pytest.skip("goproc is not installed as a command")
        command[:3] = [str(entry)]
        command.append("module_of_test.py")
    else:
        command += ["-"] if words == ["stdin"] else words
    done = subprocess.run(
        command,
        input=text if words == ["stdin"] else "",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **env},
        timeout=30,
    )
    shared = "(False, True)\n" if words == ["stdin"] else "(True, False)\n"
    assert (done.stdout, done.stderr) == (shared, "")


def test_a_module_that_multiprocessing_has_entered_twice(tmp_path: Path, install: Any) -> None:
    """multiprocessing enters __main__ as __mp_main__, too: another module in the zygote than in the program."""
    env = install(heavy="import multiprocessing\npid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        print(go.on(1)(lambda: (heavy.pid == os.getppid(), heavy.pid == os.getpid())).result())
        """,
    )
    (tmp_path / "module_of_test.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "goproc", "run", "-m", "module_of_test"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **env},
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("(True, False)\n", "")


def test_a_second_runtime_works_without(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy, goproc",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        for _ in range(2):
            with goproc.runtime(procs=2):
                print(go.on(1)(lambda: heavy.pid == os.getppid()).result())
        """,
    )
    assert ok(run(text, env=env)) == "True\nFalse\n"
