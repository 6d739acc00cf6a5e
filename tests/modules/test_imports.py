"""Which installed modules a program imports, as read from its source."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import goproc

ROOT = str(Path(goproc.__path__[0]).parent)


def found(folder: Path, files: dict[str, str], *words: str) -> list[str]:
    """Return the imports of a program of these files, as `module` or `module: name name`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    code = (
        f"import sys; sys.path[0:1] = [{str(folder)!r}, {ROOT!r}]\n"
        "from goproc._proc.imports import of_program\n"
        f"for module, names in of_program({list(words) or [str(folder / 'script.py')]!r}):\n"
        "    print(module + (': ' + ' '.join(names) if names else ''))\n"
        f"print([n for n in sys.modules if getattr(sys.modules[n], '__file__', None) and sys.modules[n].__file__.startswith({str(folder)!r})])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    *lines, own = done.stdout.splitlines()
    assert own == "[]", "a module of the user's was run"
    return lines


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("import json, csv", ["json", "csv"]),
        ("import xml.dom.minidom as m", ["xml.dom.minidom"]),
        ("from email import message, utils as u", ["email: message utils"]),
        ("from json import *", ["json: *"]),
        ("import json\nimport json", ["json"]),
        ("import goproc\nfrom goproc import go\nfrom __future__ import annotations", []),
        ("import no_such_module_anywhere, json", ["json"]),
        (
            "try:\n  import json\nexcept ImportError:\n  import csv\nelse:\n  import wave",
            ["json", "csv", "wave"],
        ),
        ("if 1:\n  import json\nelif 2:\n  import csv\nelse:\n  import wave", ["json", "csv", "wave"]),
        ("with open('x'):\n  import json", ["json"]),
        ("def f():\n  import json\nclass C:\n  import csv", []),
        ("if __name__ == '__main__':\n  import json", []),
        ("if '__main__' == __name__:\n  import json\nelse:\n  import csv", ["csv"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import json", ["typing: TYPE_CHECKING"]),
        ("import typing\nif typing.TYPE_CHECKING:\n  import json\nelse:\n  import csv", ["typing", "csv"]),
        ("from . import x\nfrom .. import y", []),
        ("import json\nthis is no Python", []),
        ("import json\0", []),
        ("", []),
    ],
)
def test_statements(tmp_path: Path, text: str, modules: list[str]) -> None:
    assert found(tmp_path, {"script.py": text}) == modules


def test_modules_of_the_user_are_read_and_not_run(tmp_path: Path) -> None:
    files = {
        "script.py": "import wave\nimport own\nimport pack.deep.leaf\nfrom pack import side\nimport csv",
        "own.py": "import json, script, own\nraise SystemExit",
        "pack/__init__.py": "from . import other\nfrom .sub import x",
        "pack/other.py": "import colorsys",
        "pack/sub.py": "import html",
        "pack/side.py": "import fractions",
        "pack/deep/__init__.py": "import pack",
        "pack/deep/leaf.py": "from ..third import x",
        "pack/third.py": "import cmd",
    }
    modules = ["wave", "json", "csv", "colorsys", "html", "cmd", "fractions"]
    assert sorted(found(tmp_path, files)) == sorted(modules)


def test_modules_and_folders(tmp_path: Path) -> None:
    files = {
        "pack/__init__.py": "import wave",
        "pack/__main__.py": "import csv\nfrom .part import x",
        "pack/part.py": "import json",
        "plain/__main__.py": "import html",
    }
    assert found(tmp_path, files, "-m", "pack") == ["wave", "csv", "json"]
    assert found(tmp_path, files, "-m", "pack.part") == ["wave", "json"]
    assert found(tmp_path, files, str(tmp_path / "plain")) == ["html"]
    for words in (["-"], ["-m", "missing"], ["-m", "pack.missing"], [str(tmp_path / "missing.py")]):
        assert found(tmp_path, files, *words) in ([], ["wave"])


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    files = {f"m{i}.py": f"import m{i + 1}\nimport json" for i in range(300)}
    assert found(tmp_path, {**files, "script.py": "import m0"}) == ["json"]


def test_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_bytes(b"# coding: latin-1\nimport json\nx = '\xe4'\n")
    assert found(tmp_path, {}) == ["json"]
