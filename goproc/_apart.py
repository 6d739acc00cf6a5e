"""Names for modules that goproc and its libraries have for themselves: see _isolation.py.

The program has a module `queue` or `cloudpickle` of its own. Then Python's, or the library, is the module
`goproc._apart.queue` in pickles. Every process can import this name, also where no file hides the module: a checkpoint
may be read by a later run, and the process at the other end may have another view.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

from goproc._isolation import APART, apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__path__: list[str] = []


class _Finder:
    """Finds the modules under these names. The finder is its own loader."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> Any:
        return ModuleSpec(name, cls, is_package=True) if name.startswith(APART) else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        sys.modules[module.__name__] = apart(module.__name__.removeprefix(APART))


sys.meta_path.insert(0, _Finder)
