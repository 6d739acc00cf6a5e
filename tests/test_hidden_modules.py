"""Files of the program that have the names of modules: of Python's, of goproc's, of the libraries that goproc needs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import programs
import pytest

PYTHONS = [
    "select",
    "queue",
    "types",
    "random",
    "signal",
    "threading",
    "pickle",
    "struct",
    "typing",
    "weakref",
    "datetime",
]
OURS = ["chan", "sync", "context", "host", "errors", "zygote", "worker", "scheduler", "launch", "isolation"]
LIBRARIES = ["greenlet", "cloudpickle", "psutil"]
NAMES = [*PYTHONS, *OURS, *LIBRARIES]

SCRIPT = """
    from goproc import go, chan, procs, sleep, WaitGroup
    import goproc.context, goproc.patterns
    print("once")
    def f(x):
        ch = chan(1)
        ch.send([x])
        return ch.recv()[0] + 1
    print([go.on(p)(f, p).result() for p in (1, 2)], go.local(f, 1).result())
"""


def run(folder: Path, name: str, how: str, text: str = SCRIPT) -> programs.Done:
    script = folder / name
    script.write_text(textwrap.dedent(text))
    words = {
        "goproc": [str(Path(sys.executable).with_name("goproc")), "run", name],
        "module": [sys.executable, "-m", "goproc", "run", name],
        "python": [sys.executable, name],
    }[how]
    with programs.start_command(words, folder, programs.environment(GOPROC_PROCS="2")) as program:
        return program.wait()


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("name", NAMES)
def test_a_script_of_that_name(tmp_path: Path, name: str, how: str) -> None:
    assert programs.ok(run(tmp_path, f"{name}.py", how)) == "once\n[2, 3] 2\n"


def test_the_command_in_a_folder_with_such_files(tmp_path: Path) -> None:
    for name in NAMES:
        if name not in ("types", "enum", "typing", "weakref"):  # `python -m` itself needs them
            (tmp_path / f"{name}.py").write_text("MINE = True\n")
    assert programs.ok(run(tmp_path, "main.py", "module")) == "once\n[2, 3] 2\n"


@pytest.mark.parametrize("form", ["file", "package"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_module_of_that_name(tmp_path: Path, name: str, before: bool, form: str) -> None:
    """The program finds its own module, in every process, whether it imports it before goproc or after."""
    if form == "package":
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            "from . import inner\nMINE = 5\ndef get(): return MINE\n"
        )
        (tmp_path / name / "inner.py").write_text("")
    else:
        (tmp_path / f"{name}.py").write_text("MINE = 5\ndef get(): return MINE\n")
    imports = f"import {name} as own\nimport goproc" if before else f"import goproc\nimport {name} as own"
    text = f"""
from goproc import go
def f(): return own.MINE, own.get()
def inside():
    import {name}
    return {name}.MINE
print(own.MINE, go.on(1)(f).result(), go.on(2)(inside).result(), go.on(1)(own.get).result(), inside())
"""
    done = run(
        tmp_path, "main.py", "goproc", imports + "\n" + textwrap.dedent(text) + textwrap.dedent(SCRIPT)
    )
    assert done.out == "5 (5, 5) 5 5 5\nonce\n[2, 3] 2\n", done
    assert done.status == 0


def test_nothing_is_done_without_such_files() -> None:
    code = "import goproc, goproc._isolation as i; goproc.go; print(i._names, [f for f in __import__('sys').meta_path if f is i._Finder])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=20)
    assert (done.stdout, done.stderr) == ("frozenset() []\n", "")
