"""State of the process that goroutines may change for a while: streams, warnings filters, folder, random numbers.

At the end of a time slice the scheduler lets another goroutine of the process run. A goroutine that has redirected
``sys.stdout`` or seeded ``random`` would find the other goroutine's state when its turn comes again. So the scheduler
compares the state with the state noted before the turn. It does not end the slice of a goroutine that has changed the
state.

Contextvars (the decimal context, ``np.errstate``) belong to each goroutine and do not count. State that costs too
much to compare does not count either: one comparison takes about 10 us, and 6 us more where pandas is loaded.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from goproc._record import Record
from goproc.shm import _core


class ProcessState(Record):
    """One reading. Two readings are equal if nothing has changed between them, or every change was undone."""

    streams: tuple[int, int, int]
    warnings: tuple[int, int, int]
    folder: str
    environment: dict[Any, Any]
    random: object
    numpy: object
    locale: object
    pandas: object


def read() -> ProcessState:
    """Return the present state. A module counts only if the module is loaded.

    No step here lets go of the GIL: see _core.folder().
    """
    modules = sys.modules
    return ProcessState(
        (id(sys.stdin), id(sys.stdout), id(sys.stderr)),
        (id(warnings.filters), len(warnings.filters), id(warnings.showwarning)),
        _core.folder(),
        dict(os.environ._data),  # type: ignore[attr-defined]  # the encoded form: copied without a call an entry
        _random(modules.get("random")),
        _numpy(modules.get("numpy.random.mtrand")),
        _locale(modules.get("_locale")),
        _pandas(modules.get("pandas._config.config")),
    )


def _random(module: Any) -> object:
    generator = getattr(module, "_inst", None)  # None also while the module is being imported
    return None if generator is None else generator.getstate()


def _numpy(module: Any) -> object:
    """Return the state of NumPy's global generator, which takes 2.5 KB; None if NumPy has none."""
    generator = getattr(getattr(module, "_rand", None), "_bit_generator", None)
    if generator is None:
        return None
    if type(generator).__name__ != "MT19937":
        return repr(generator.state)
    import ctypes

    return id(generator), ctypes.string_at(generator.ctypes.state_address, 2500)


def _locale(module: Any) -> object:
    return None if module is None else module.setlocale(module.LC_ALL, None)


def _pandas(module: Any) -> object:
    options = getattr(module, "_global_config", None)
    return None if options is None else _leaves(options)


def _leaves(options: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for value in options.values():
        if type(value) is dict:
            found += _leaves(value)
        else:
            found.append(value)
    return found
