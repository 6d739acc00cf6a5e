"""Finders that notice when the program imports a module of Python's which goproc itself does not import.

goproc/__init__.py has the finders, which load this file at that moment.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def find(name: str, caller: Any, meet: Callable[[Any], None]) -> Any:
    """Find a module as the other finders do, and have a function called with it when it is loaded.

    Args:
        name: of the module.
        caller: the finder of sys.meta_path that calls this function. It leaves sys.meta_path when the module is loaded: a
            worker that is forked meanwhile loads the module again.
        meet: the function.
    """
    others = [finder for finder in list(sys.meta_path) if finder is not caller]
    spec = next(filter(None, (finder.find_spec(name, None) for finder in others)), None)
    if spec is not None and _is_pythons(spec):
        _watch(spec.loader, caller, meet)
    return spec


def _is_pythons(spec: Any) -> bool:
    folder = os.path.dirname(spec.origin or "")
    if spec.submodule_search_locations is not None:  # a package
        folder = os.path.dirname(folder)
    return folder == os.path.dirname(os.__file__)


def _watch(loader: Any, caller: Any, meet: Callable[[Any], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        del loader.exec_module
        execute(module)
        if caller in sys.meta_path:
            sys.meta_path.remove(caller)
            meet(module)

    loader.exec_module = exec_module
