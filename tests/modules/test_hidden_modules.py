"""Files of the program that have the names of modules: of Python's, of goproc's, of the libraries that goproc needs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import programs
import psutil
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


ITEM = """
class Item:
    def __init__(self, x): self.x = x
    def __repr__(self): return f"Item({self.x})"
def double(item): return Item(2 * item.x)
"""

MESSAGES = """
import NAME as own
from goproc import chan, go, pmap
from goproc.futures import Executor
class Local:
    y = 1
def there(item, cls):
    assert isinstance(item, own.Item) and type(item) is own.Item, type(item)
    import NAME
    assert NAME is own
    class Inner(cls):
        pass
    ch = chan(2)
    ch.send(item)
    ch.send(Inner)
    return ch.recv(), own.double(item), ch.recv()().y
def echo(here, back):
    back.send(here.recv())
if __name__ == "__main__":
    print(*go.on(1)(there, own.Item(1), Local).result())
    here, back = chan(1), chan(1)
    here.send([own.Item(3), Local])
    go.on(1)(echo, here, back)
    items, cls = back.recv()
    print(items, cls is Local, go.on(1)(own.double, own.Item(4)).result())
    print(list(pmap(own.double, [own.Item(5)])))
    with Executor(1) as pool:
        print(pool.submit(own.double, own.Item(6)).result())
    print(go.local(there, own.Item(7), Local).result())
"""
PRINTED = "Item(1) Item(2) 1\nItem(3) True Item(8)\n[Item(10)]\nItem(12)\n(Item(7), Item(14), 1)\n"


@pytest.mark.parametrize("form", ["file", "package"])
@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("name", ["queue", "random", "datetime", "functools", "sync", *LIBRARIES])
def test_values_of_a_module_of_that_name(tmp_path: Path, name: str, how: str, form: str) -> None:
    """Functions, classes and objects of the program's module travel; classes by value do so beside it, too."""
    if form == "package":
        (tmp_path / name).mkdir()
    (tmp_path / (f"{name}.py" if form == "file" else f"{name}/__init__.py")).write_text(ITEM)
    assert programs.ok(run(tmp_path, "main.py", how, MESSAGES.replace("NAME", name))) == PRINTED


def test_a_checkpoint_is_read_when_the_file_is_gone(tmp_path: Path) -> None:
    """A file names functions of cloudpickle's. The program's own cloudpickle.py does not change their meaning."""
    script = """
    import goproc
    def make(x):
        with open("calls", "a") as file:
            print(x, file=file)
        class Inner:
            y = x
        return Inner
    print([cls.y for cls in goproc.pmap(make, [3], checkpoint="done")])
    """
    other = tmp_path / "cloudpickle.py"
    other.write_text("")
    assert programs.ok(run(tmp_path, "main.py", "python", script)) == "[3]\n"
    other.unlink()
    assert programs.ok(run(tmp_path, "main.py", "python", script)) == "[3]\n"
    assert (tmp_path / "calls").read_text() == "3\n"


def test_a_module_of_an_installed_package_below_the_script(tmp_path: Path) -> None:
    """A file beside the script is the program's; a library in a folder further down is no part of the program."""
    (tmp_path / "psutil.py").write_text("MINE = 5\n")
    libraries = tmp_path / ".venv" / "lib"
    libraries.mkdir(parents=True)
    (libraries / "psutil").symlink_to(Path(psutil.__file__).parent)
    script = """
    import os, sys
    sys.path.insert(1, os.path.abspath(os.path.join(".venv", "lib")))
    import goproc, psutil
    from goproc._isolation import apart
    def f():
        return psutil.MINE, apart("psutil").__file__ == apart("psutil").__spec__.origin
    print(psutil.MINE, apart("psutil").cpu_count() > 0, goproc.go.on(1)(f).result(), psutil.MINE)
    """
    assert programs.ok(run(tmp_path, "main.py", "python", script)) == "5 True (5, True) 5\n"


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


def test_a_current_folder_that_was_deleted(tmp_path: Path) -> None:
    """The current folder is the first of sys.path under `python -c`."""
    text = "from goproc import go; print(go(lambda: 5).result())"
    inside = (
        f"import os, sys; os.rmdir('../folder'); os.execv(sys.executable, [sys.executable, '-c', {text!r}])"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    environment = programs.environment(GOPROC_PROCS="1")
    with programs.start_command([sys.executable, "-c", inside], folder, environment) as program:
        assert programs.ok(program.wait()) == "5\n"
