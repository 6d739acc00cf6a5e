"""Nothing depends on a file's name without saying so: what strings name exists, and marks tell frames from each other."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

import goproc
from goproc import _channel, _dump, _frames, _goroutine
from goproc._pickling import messages, store
from goproc._proc import host, launch, line_output, stdio, worker
from goproc._sched import safepoint, scheduler, slices

PACKAGE = Path(goproc.__file__).parent
NAME = re.compile(r"goproc(\.\w+)+")
FLOORS = ["mem", "chan", "proc", "python"]  # each uses those before it
NO_MODULES = {"goproc.steward", "goproc.progress", "goproc.Supervisor.link"}  # a logger, goroutines


def named_in_python() -> Iterator[tuple[str, str]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = node.value.partition(":")[0]
                if NAME.fullmatch(name):
                    yield str(file.relative_to(PACKAGE)), name


def named_in_c() -> Iterator[tuple[str, str]]:
    for file in sorted(PACKAGE.rglob("*.c")):
        for name in re.findall(r'PyImport_ImportModule\("(goproc[^"]*)"\)', file.read_text()):
            yield str(file.relative_to(PACKAGE)), name


def exists(name: str) -> bool:
    """True if a module, or what one has, goes by `name`."""
    found: object = goproc
    for n, part in enumerate(name.split(".")[1:], 2):
        if not hasattr(found, part):
            module = ".".join(name.split(".")[:n])
            if not hasattr(found, "__path__") or importlib.util.find_spec(module) is None:
                return False
            importlib.import_module(module)
        found = getattr(found, part)
    return True


def test_modules_named_in_strings_exist() -> None:
    found = {*named_in_python(), *named_in_c()}
    loaded_first = {name for name in launch.FAILURES if name.startswith("goproc.")}
    assert {name for _, name in found} > {launch._ENTRY.partition(":")[0], "goproc._wiring", *loaded_first}
    assert sorted((file, name) for file, name in found if name not in NO_MODULES and not exists(name)) == []


def test_the_bootstrap_finds_the_zygote() -> None:
    for node in ast.walk(ast.parse(launch.BOOTSTRAP)):
        if isinstance(node, ast.ImportFrom):
            assert hasattr(importlib.import_module(node.module or ""), node.names[0].name)
    entry, _, function = launch._ENTRY.partition(":")
    assert callable(getattr(importlib.import_module(entry), function))


def frame_in(module: Any, file: str = "") -> Any:
    """Return a frame of a function that `module` might have."""
    code: CodeType = compile("import sys\ndef f(): return sys._getframe()", file or module.__file__, "exec")
    namespace = dict(vars(module))
    exec(code, namespace)
    f = namespace["f"]
    assert isinstance(f, FunctionType)
    return f()


MARKS = [
    (scheduler, "scheduler", "scheduler"),
    (slices, "machinery", "goproc"),
    (_goroutine, "machinery", "goproc"),
    (host, "machinery", "goproc"),
    (worker, "machinery", "goproc"),
    (_dump, "machinery", "goproc"),
    (stdio, "tool", "tool"),
    (line_output, "tool", "tool"),
    (messages, "tool", "tool"),
    (store, "tool", "tool"),
    (_channel, "", "goproc"),
]


@pytest.mark.parametrize("module, mark, kind", MARKS, ids=[module.__name__ for module, *_ in MARKS])
def test_frames_by_the_mark_of_their_module(module: Any, mark: str, kind: str) -> None:
    frame = frame_in(module, str(PACKAGE / "anywhere" / f"{kind}_{mark}_of_test.py"))
    assert _frames.is_own(frame) and _frames.mark(frame) == mark
    assert safepoint._kind(frame) == kind


def test_no_other_module_is_goproc_s() -> None:
    here = __import__("sys")._getframe()
    assert not _frames.is_own(here) and _frames.mark(here) == ""
    frame = frame_in(scheduler, "/somewhere/goproc/scheduler.py")  # of the program, whatever it calls itself
    assert not _frames.is_own(frame) and safepoint._kind(frame) == "user"


def test_each_file_in_c_is_on_a_floor_or_the_keeper_s() -> None:
    assert {file.parent.name for file in (PACKAGE / "shm").rglob("*.c")} == {*FLOORS, "keeper"}


def test_no_file_of_the_core_includes_a_header_of_a_higher_floor() -> None:
    for floor in FLOORS:
        below = FLOORS[: FLOORS.index(floor) + 1]
        for file in sorted((PACKAGE / "shm" / floor).glob("*.[ch]")):
            assert set(re.findall(r'#include "(\w+)/', file.read_text())) <= set(below), file


def test_the_keeper_includes_nothing_of_the_core() -> None:
    for file in sorted((PACKAGE / "shm" / "keeper").glob("*.[ch]")):
        assert set(re.findall(r'#include "([^"]+)"', file.read_text())) <= {"keeper.h"}, file


def test_no_line_in_c_is_longer_than_in_python() -> None:
    limit = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["ruff"]["line-length"]
    for file in sorted((PACKAGE / "shm").rglob("*.[ch]")):
        assert [line for line in file.read_text().splitlines() if len(line) > limit] == [], file


def test_each_module_is_in_a_layer_of_the_import_contract() -> None:
    contract = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [re.split("[:|]", layer) for layer in contract["contracts"][0]["layers"]]
    named = [name.strip() for layer in layers for name in layer]
    files = (file.relative_to(PACKAGE.parent).with_suffix("") for file in PACKAGE.rglob("*.py"))
    modules = {".".join(file.parts) for file in files if file.name != "__init__"}
    assert sorted(m for m in modules if not any(f"{m}.".startswith(f"{name}.") for name in named)) == []
    assert sorted(name for name in named if not exists(name)) == []
    assert len(named) == len(set(named))
