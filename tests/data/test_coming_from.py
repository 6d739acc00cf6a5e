"""docs/coming-from.md names nothing that is not there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import goproc
from goproc import Flow, pmap

PAGE = Path(__file__).parent.parent.parent / "docs" / "coming-from.md"


def codes() -> list[str]:
    """The pieces of code in the column of goproc."""
    rows = re.findall(r"^\| .*? \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row)]


def test_options_of_pmap_and_flow_exist() -> None:
    known = {*inspect.signature(pmap).parameters, *inspect.signature(Flow.map).parameters, "procs", "buffer"}
    named = {name for code in codes() for name in re.findall(r"\b(\w+)=", code)}
    assert named <= known
    assert len(named) > 10


def test_functions_exist() -> None:
    called = {name for code in codes() for name in re.findall(r"(?<![.\w])([a-zA-Z_]\w*)\(", code)}
    theirs = {"list", "f", "parallel_config", "Executor", "stats"}
    assert {name for name in called - theirs if not hasattr(goproc, name)} == set()
    methods = {name for code in codes() if "flow(" in code for name in re.findall(r"\)\.(\w+)\(", code)}
    assert methods == {name for name in methods if hasattr(Flow, name)}
