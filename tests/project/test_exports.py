"""The public names: one list for programs, one for type checkers, and both are the same."""

from __future__ import annotations

import ast
import importlib
import pickle
import re
from pathlib import Path

import pytest

import goproc


def for_checkers() -> dict[str, str]:
    """Return the module of each public name, as the imports under TYPE_CHECKING have it."""
    tree = ast.parse(Path(goproc.__file__).read_text())
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("goproc"):
            found |= {alias.asname: node.module for alias in node.names if alias.asname == alias.name}
    return found


def test_checkers_see_the_names_that_programs_get() -> None:
    known = for_checkers()
    assert sorted(known) == goproc.__all__
    homes = {**goproc._HOME, **dict.fromkeys(goproc._MODULES, "goproc")}
    assert known == homes


def test_the_list_is_written_out_for_checkers() -> None:
    tree = ast.parse(Path(goproc.__file__).read_text())
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "__all__"
    ]
    assert ast.literal_eval(lists[0]) == goproc.__all__


def test_a_star_gives_every_name() -> None:
    namespace: dict[str, object] = {}
    exec("from goproc import *", namespace)
    assert {name: namespace.get(name) for name in goproc.__all__} == {
        name: getattr(goproc, name) for name in goproc.__all__
    }


DOCS = [Path(__file__).parents[2] / "README.md", *(Path(__file__).parents[2] / "docs").glob("*.md")]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_imports_of_the_docs_are_public(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    imported = re.findall(r"^from (goproc[.\w]*) import ([\w, ]+)", text, re.MULTILINE)
    for module, names in imported:
        for name in names.replace(" ", "").split(","):
            assert hasattr(importlib.import_module(module), name), f"from {module} import {name}"
    for module, name in re.findall(r"\b(goproc(?:\.runtime)?)\.([a-z]\w+)\(", text):
        owner = goproc.runtime if "." in module else goproc
        assert hasattr(owner, name), f"{module}.{name}()"


@pytest.mark.parametrize("name", goproc.__all__)
def test_each_name_is_there_and_documented(name: str) -> None:
    value = getattr(goproc, name)
    assert name in dir(goproc)
    assert name in ("nil", "default") or value.__doc__


@pytest.mark.parametrize("name", ["channels", "Go", "shm_"])
def test_another_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'goproc' has no attribute '{name}'"):
        getattr(goproc, name)


@pytest.mark.parametrize("name", goproc._INSTEAD)
def test_a_name_of_another_library_is_answered_with_goprocs(name: str) -> None:
    assert name not in goproc.__all__
    with pytest.raises(AttributeError, match=f"no attribute '{name}'; goproc has ") as raised:
        getattr(goproc, name)
    assert set(re.findall(r"\w+", str(raised.value))) & {
        *goproc.__all__,
        "futures",
        "joblib",
        "goroutine",
        "result",
    }


@pytest.mark.parametrize("name", goproc._HOME)
def test_path_of_a_file_is_not_seen(name: str) -> None:
    value = getattr(goproc, name)
    module = getattr(value, "__module__", None) or type(value).__module__
    assert module in ("goproc", "goproc.shm._core", *(f"goproc.{public}" for public in goproc._MODULES))
    if name not in ("nil", "default"):
        assert pickle.loads(pickle.dumps(value)) is value
