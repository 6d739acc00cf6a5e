"""Programs without a script: the zygote imports ahead the modules that they import, once goproc.joblib is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from preloading import GATE

pytest.importorskip("joblib", reason="joblib is not installed")

_SHARED = "print(go.on(1)(lambda: heavy.pid == os.getppid()).result())\n"
_BEGIN = "import os, tools_of_test as t\nfrom goproc import go\n"


def _python(*words: str, env: dict[str, str], text: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *words],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, **env, "GOPROC_PROCS": "2"},
        timeout=30,
    )
    assert done.returncode == 0 and "Error" not in done.stderr, done
    return done.stdout


@pytest.mark.parametrize("statement", ["import heavy", "from heavy import part", "heavy = t.found('heavy')"])
def test_an_import_after_that_of_the_backend(install: Any, statement: str) -> None:
    env = install(
        heavy_package="pid = os.getpid()",
        heavy__part="pid = os.getpid()\nt.log('heavy')",
    )
    text = (
        _BEGIN
        + "import goproc.joblib, importlib\nt.found = importlib.import_module\n"
        + f"{statement}\nimport heavy.part\n"
        + "t.until(lambda: len(t.logged('heavy')) == 2)\n"
        + _SHARED
        + "print(go.on(2)(lambda: heavy.part.pid == os.getppid()).result())\n"
    )
    for words, typed in ((["-c", text], ""), (["-iq"], text)):
        assert _python(*words, env=env, text=typed) == "True\nTrue\n"
        os.unlink(os.path.join(env["TEST_FOLDER"], "log"))


@pytest.mark.parametrize("statement", ["import heavy", "from heavy import F", "from heavy import f"])
def test_an_import_before_that_of_the_backend(install: Any, statement: str) -> None:
    env = install(heavy="pid = os.getpid()\nclass F: pass\ndef f(): pass\nt.log('heavy')")
    text = (
        _BEGIN
        + f"{statement}\nimport goproc.joblib\n"
        + "t.until(lambda: len(t.logged('heavy')) == 2)\nimport heavy\n"
        + _SHARED
    )
    assert _python("-c", text, env=env) == "True\n"


def test_a_module_of_the_user_is_read_and_not_run(install: Any, tmp_path: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.py").write_text("import heavy, tools_of_test\ntools_of_test.log('mine')\n")
    env["PYTHONPATH"] += os.pathsep + str(own)
    text = (
        _BEGIN
        + "import goproc.joblib\nimport mine, heavy\n"
        + "t.until(lambda: len(t.logged('heavy')) == 2)\n"
        + "print(len(t.logged('mine')))\n"
        + _SHARED
    )
    assert _python("-c", text, env=env) == "1\nTrue\n"


def test_the_workers_do_not_wait_for_an_import(install: Any) -> None:
    """They come half-way through it, and the goroutine that needs the module finishes it."""
    env = install(heavy=GATE.format("gate") + "pid = os.getpid()\n")
    text = (
        _BEGIN
        + "import goproc.joblib\nimport heavy\n"
        + "t.until(lambda: t.logged('at-gate'))\n"
        + "print(go.on(1)(os.getppid).result() == t.logged('at-gate')[0])\n"
        + "t.open_gate('gate')\n"
        + "print(go.on(1)(lambda: heavy.pid == os.getpid()).result())\n"
    )
    assert _python("-iq", env=env, text=text) == "True\nTrue\n"


def test_a_zygote_that_began_again_goes_on(install: Any) -> None:
    env = install(
        first="pid = os.getpid()",
        second="import threading\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "pid = os.getpid()\nt.log('second')",
        heavy="pid = os.getpid()\nt.log('heavy')",
    )
    text = (
        _BEGIN
        + "import goproc.joblib\nimport first, second\n"
        + "t.until(lambda: len(t.logged('second')) == 2)\n"
        + "import heavy\n"
        + "t.until(lambda: len(t.logged('heavy')) == 2)\n"
        + _SHARED
        + "print(go.on(2)(lambda: (first.pid == os.getppid(), second.pid == os.getpid())).result())\n"
    )
    assert _python("-c", text, env=env) == "True\n(True, True)\n"


def test_nothing_is_left_of_it_when_the_runtime_runs(install: Any) -> None:
    text = (
        _BEGIN
        + "import sys\nfinders = lambda: [type(f).__name__ for f in sys.meta_path].count('Follower')\nfds = len(os.listdir('/proc/self/fd'))\n"
        + "import goproc.joblib\n"
        + "print(finders(), len(os.listdir('/proc/self/fd')) - fds)\n"
        + "from goproc._proc import early\nearly.leave()\n"
        + "print(finders(), len(os.listdir('/proc/self/fd')) - fds)\n"
        + "print(go.on(1)(lambda: 1).result())\n"
    )
    assert _python("-c", text, env=install()) == "1 2\n0 0\n1\n"


def test_a_program_that_closes_every_descriptor(install: Any) -> None:
    """The number of the socket may then be that of another file, which nothing is written to."""
    env = install(heavy="pid = os.getpid()")
    text = (
        _BEGIN
        + "import goproc.joblib\nos.closerange(3, 100)\n"
        + "files = [open(t.path(str(i)), 'w') for i in range(20)]\n"
        + "import heavy\n"
        + "print(sum(os.path.getsize(t.path(str(i))) for i in range(20)))\n"
        + "print(go.on(1)(lambda: heavy.pid == os.getpid()).result())\n"
    )
    assert _python("-c", text, env=env) == "0\nTrue\n"
