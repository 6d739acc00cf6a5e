"""The public names: one list for programs, one for type checkers, and both are the same."""

from __future__ import annotations

import ast
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


def test_checkers_see_what_programs_get() -> None:
    known = for_checkers()
    assert sorted(known) == goproc.__all__
    homes = {**goproc._HOME, **dict.fromkeys(goproc._MODULES, "goproc")}
    assert known == homes


@pytest.mark.parametrize("name", goproc.__all__)
def test_each_name_is_there_and_documented(name: str) -> None:
    value = getattr(goproc, name)
    assert name in dir(goproc)
    assert name in ("nil", "default") or value.__doc__


@pytest.mark.parametrize("name", ["channels", "Go", "shm_"])
def test_another_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'goproc' has no attribute '{name}'"):
        getattr(goproc, name)
