"""Notices that the program imports logging, which goproc itself does not import.

From then on each record has its goroutine and process, and a worker hands its records to the script (goproc/_logs.py).
Every host and the command line import this file, so it imports only modules that Python has loaded.
"""

from __future__ import annotations

import os
import sys

from goproc import _isolation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_waiting: list[Callable[[Any], None]] = []
_found: Any = None  # the module logging, once it is complete

place: Callable[[], tuple[int, int]] | None = None  # numbers of the running goroutine and its process
forward: Callable[[Any, Any], bool] | None = None  # in a worker: gives a record of a logger to the script
on_change: Callable[[], None] | None = None  # called when levels have changed


def when_loaded(action: Callable[[Any], None]) -> None:
    """Call ``action(logging)`` now, or as soon as the program has imported logging."""
    if _found is not None:
        action(_found)
        return
    _waiting.append(action)
    module = _isolation.loaded("logging")
    if module is not None and hasattr(module, "basicConfig"):  # it is complete
        _meet(module)
    elif not any(type(finder) is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def loaded() -> Any:
    """Return the module logging if the program has imported it."""
    return _found


class _Finder:
    """Finds logging as the other finders do, and learns when it is loaded."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name != "logging":
            return None
        spec = next(filter(None, map(self._ask, list(sys.meta_path))), None)
        if spec is not None and _is_pythons(spec):
            _watch(spec.loader)
            sys.meta_path.remove(self)
        return spec

    def _ask(self, finder: Any) -> Any:
        return None if finder is self else finder.find_spec("logging", None)


def _is_pythons(spec: Any) -> bool:
    return os.path.dirname(spec.origin or "") == os.path.join(os.path.dirname(os.__file__), "logging")


def _watch(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        del loader.exec_module
        execute(module)
        _meet(module)

    loader.exec_module = exec_module


def _meet(logging: Any) -> None:
    global _found
    _found = logging
    _mark_records(logging)
    while _waiting:
        _waiting.pop(0)(logging)


def _mark_records(logging: Any) -> None:
    handle = logging.Logger.handle
    clear_cache = logging.Manager._clear_cache

    def handle_marked(self: Any, record: Any) -> None:
        """Call the handlers for a record, as logging does. goproc notes where the record comes from."""
        fields = record.__dict__
        if "goroutine" not in fields:
            goroutine, proc = place() if place is not None else (1, 0)
            fields["goroutine"] = goroutine
            fields.setdefault("proc", proc)
        if forward is None or not forward(self, record):
            handle(self, record)

    def clear_cache_noted(self: Any) -> None:
        clear_cache(self)
        if on_change is not None:
            on_change()

    logging.Logger.handle = handle_marked
    logging.Manager._clear_cache = clear_cache_noted
