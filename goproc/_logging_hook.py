"""Notices that the program imports logging, which goproc itself does not import.

From then on each record has its goroutine and process, and a worker hands its records to the script (goproc/_logs.py).
goproc/__init__.py loads this file as soon as the program imports logging.
"""

from __future__ import annotations

from goproc import _import_hook, _isolation

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


def loaded() -> Any:
    """Return the module logging if the program has imported it."""
    return _found


def find(caller: Any) -> Any:
    """Find logging as the other finders do, and learn when it is loaded.

    Args:
        caller: the finder of sys.meta_path that calls this function. It leaves sys.meta_path when logging is loaded.
    """
    return _import_hook.find("logging", caller, _meet)


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


_module = _isolation.loaded("logging")
if _module is not None and hasattr(_module, "basicConfig"):  # it is complete
    _meet(_module)
