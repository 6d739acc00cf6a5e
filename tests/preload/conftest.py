"""A folder of installed modules."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from preloading import HEAD, TOOLS

import goproc


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[..., dict[str, str]]]:
    """Makes installed modules of texts, and gives the environment in which a script finds them."""
    folder = tmp_path / "site-packages"

    def install(**modules: str) -> dict[str, str]:
        for name, text in {"tools_of_test": TOOLS, **modules}.items():
            file = folder / (name.replace("__", "/") + ".py")
            if name.endswith("_package"):
                file = folder / name.removesuffix("_package").replace("__", "/") / "__init__.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            head = "" if name == "tools_of_test" else HEAD
            file.write_text(head + textwrap.dedent(text))
        path = os.pathsep.join([str(folder), str(Path(goproc.__path__[0]).parent)])
        return {"PYTHONPATH": path, "TEST_FOLDER": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    yield install
