"""The import statements of a script, read from its source. No code of the script runs.

The zygote imports installed modules before the script has asked for them. It must not import the user's own modules,
whose code could do anything: it reads their source as well, and finds the installed modules that they import.

A statement counts if Python certainly executes it, or may: at the top level of a module, also inside ``if``, ``try``,
``with`` or a loop. It does not count inside a function, a class, ``if TYPE_CHECKING`` or ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import ast
import os
import sys
from importlib.util import find_spec

from goproc._proc.preload import Statement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST_FILES = 200  # the number of the user's files that are read
LARGEST_FILE = 1 << 20  # bytes
_DEEPEST = 50  # the longest chain of user modules that import one another

_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_LEFT_OUT = ("goproc", "__future__", "__main__")


def of_program(words: Sequence[str]) -> list[Statement]:
    """Return the installed modules that a program imports, in the program's order.

    Args:
        words: the program: ``[script]``, ``["-m", module]`` or ``["-"]``. sys.path is already as the program finds it.
    """
    reader = _Reader()
    if words[:1] == ["-m"] and len(words) > 1:
        reader.read_program_module(words[1])
    elif words and words[0] != "-":
        script = words[0]
        reader.read_file(os.path.join(script, "__main__.py") if os.path.isdir(script) else script, "")
    return list(reader.found)


def of_names(names: Iterable[str]) -> list[Statement]:
    """Return the installed modules among those that a program has named, and those that its own modules import."""
    reader = _Reader()
    for name in names:
        reader.note(Statement(name))
    return list(reader.found)


class _Reader:
    def __init__(self) -> None:
        self.found: dict[Statement, None] = {}
        self._read: set[str] = set()
        self._depth = 0

    def read_program_module(self, name: str) -> None:
        """Read the file that ``python -m name`` runs, and the packages that the file is in."""
        parents = name.split(".")[:-1]
        for count in range(1, len(parents) + 1):
            self._read_module(".".join(parents[:count]))
        path = _file_of(name)
        if path is not None and os.path.basename(path) == "__init__.py":
            self.read_file(path, name)
            self.read_file(os.path.join(os.path.dirname(path), "__main__.py"), name)
        elif path is not None:
            self.read_file(path, ".".join(parents))

    def read_file(self, path: str, package: str) -> None:
        """Note the imports of a user's file.

        Args:
            package: the package from which its relative imports start.
        """
        if path in self._read or len(self._read) >= MOST_FILES or self._depth >= _DEEPEST:
            return
        self._read.add(path)
        self._depth += 1
        try:
            with open(path, "rb") as file:
                source = file.read(LARGEST_FILE)
            for statement in _statements(ast.parse(source).body, package):
                self.note(statement)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            pass  # the script's own import of this file raises the error
        finally:
            self._depth -= 1

    def note(self, statement: Statement) -> None:
        top = statement.module.partition(".")[0]
        if top in _LEFT_OUT:
            return
        if _is_installed(top):
            self.found[statement] = None
            return
        parts = statement.module.split(".")
        for count in range(1, len(parts) + 1):
            self._read_module(".".join(parts[:count]))
        for name in statement.names:  # each name may be a module of the package
            self._read_module(f"{statement.module}.{name}")

    def _read_module(self, name: str) -> None:
        path = _file_of(name)
        if path is not None:
            is_package = os.path.basename(path) == "__init__.py"
            self.read_file(path, name if is_package else name.rpartition(".")[0])


def _statements(body: Sequence[ast.stmt], package: str) -> Iterator[Statement]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Statement(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            if base:
                yield Statement(base, tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.If):
            if not _never_imports(node.test):
                yield from _statements(node.body, package)
            yield from _statements(node.orelse, package)
        elif isinstance(node, (ast.With, ast.For, ast.While, ast.Try, ast.TryStar)):
            yield from _statements(node.body, package)
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body, package)
            yield from _statements(getattr(node, "orelse", ()), package)
            yield from _statements(getattr(node, "finalbody", ()), package)


def _never_imports(test: ast.expr) -> bool:
    """True for ``TYPE_CHECKING``, ``typing.TYPE_CHECKING`` and ``__name__ == "__main__"``."""
    if isinstance(test, ast.Name):
        return test.id == "TYPE_CHECKING"
    if isinstance(test, ast.Attribute):
        return test.attr == "TYPE_CHECKING"
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq):
        return False
    sides = (test.left, test.comparators[0])
    return any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)


def _absolute(module: str, level: int, package: str) -> str:
    if level == 0:
        return module
    parts = package.split(".") if package else []
    if level > len(parts):
        return ""
    return ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])


def _is_installed(top: str) -> bool:
    """Return True for a module of the standard library, or in a folder of installed modules."""
    if top in sys.stdlib_module_names:
        origin = _origin(top)
        return origin is not None and (origin in ("built-in", "frozen") or origin.startswith(_LIBRARY))
    origin = _origin(top)
    return origin is not None and any(part in origin for part in _INSTALLED)


def _origin(top: str) -> str | None:
    """Return the file of a top-level module, or the folder of a module without a file."""
    try:
        spec = find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    if spec.origin is None and spec.submodule_search_locations:
        return os.path.join(next(iter(spec.submodule_search_locations)), "")
    return spec.origin


def _file_of(name: str) -> str | None:
    """Return the source file of a module without importing the packages that it is in."""
    top, *rest = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    if not rest:
        return spec.origin if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        place = os.path.join(folder, *rest)
        for path in (os.path.join(place, "__init__.py"), place + ".py"):
            if os.path.isfile(path):
                return path
    return None
