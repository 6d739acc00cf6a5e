"""Settings of the interpreter that a script makes before its first goroutine. They hold in the workers, too.

These are the filters of `warnings`, the reducers of `copyreg`, and the limit of digits of `sys.set_int_max_str_digits`.
"""

from __future__ import annotations

import copyreg
import sys
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class Settings(TypedDict):
        """The settings, as plain values, because marshal carries them."""

        digits: int
        filters: list[tuple[Any, ...]]  # action, message, module and name of the category, module, line
        reducers: list[bytes]  # pickles of (type, reducer, constructor or None)


def settings() -> Settings:
    """Return the settings of this process that differ from those of a new process."""
    return {"digits": sys.get_int_max_str_digits(), "filters": filters(), "reducers": _reducers()}


def apply(found: Settings) -> None:
    """Give this process the settings of another."""
    import pickle

    sys.set_int_max_str_digits(found["digits"])
    set_filters(found["filters"])
    for reducer in found["reducers"]:
        try:
            kind, function = pickle.loads(reducer)
            copyreg.pickle(kind, function)
        except Exception:
            # Only the script can import the module: an error follows where an object of the type is pickled.
            pass


def filters() -> list[tuple[Any, ...]]:
    """Return the filters of warnings as plain values."""
    found = []
    for action, message, category, module, line in warnings.filters:
        texts = [
            pattern if pattern is None or isinstance(pattern, str) else pattern.pattern
            for pattern in (message, module)
        ]
        name = getattr(category, "__name__", "Warning")
        found.append((action, texts[0], category.__module__, name, texts[1], line))
    return found


class _Later(type):
    """A category of warnings whose module is not imported here yet. Its subclasses are those of that category."""

    def __subclasscheck__(cls, other: type) -> bool:
        category = getattr(sys.modules.get(cls.__module__), cls.__name__, None)
        return isinstance(category, type) and issubclass(other, category)


def set_filters(found: list[tuple[Any, ...]]) -> None:
    """Give this process the filters of another, as filters() returns them."""
    if found == filters():
        return
    warnings.resetwarnings()
    for action, message, module, name, where, line in found:
        category: Any = getattr(sys.modules.get(module), name, None)
        if category is None:
            category = _Later(name, (Warning,), {"__module__": module})
        warnings.filterwarnings(action, message or "", category, where or "", line, append=True)


def _reducers() -> list[bytes]:
    """Return pickles of the reducers that the script, or a module of its own, has registered."""
    from goproc._pickling import homes
    from goproc._pickling.messages import dump_in_band

    pickled = []
    for kind, function in list(copyreg.dispatch_table.items()):
        if not homes.only_here(kind.__module__) and not homes.only_here(
            getattr(function, "__module__", None) or ""
        ):
            continue
        try:
            pickled.append(dump_in_band((kind, function)))
        except Exception:
            # The reducer holds something that cannot be sent: an error follows where an object of the type is pickled.
            pass
    return pickled
