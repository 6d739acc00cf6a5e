"""The host's side of _logs.py: a thread that hands the records and warnings of workers to the script's loggers.

The thread begins when the runtime starts, if the script has imported logging. Else it begins when the first record
arrives, as soon as main waits in an operation.
"""

from __future__ import annotations

import builtins
import marshal
import os
import pickle
import sys
import threading
import warnings
from contextvars import Context
from time import monotonic, sleep
from typing import Any

from goproc import _isolation, _logs, _spawn
from goproc import _logging_hook as hook
from goproc._channel import Chan
from goproc._logs import CAPACITY, END, READY, RECORD
from goproc._pickling import failure, variables
from goproc._proc import interpreter
from goproc._sched import scheduler
from goproc.errors import GoprocError
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._proc.interpreter import Settings

_END_SECONDS = 5.0  # for handlers that do not return

_lines: Chan[Any] | None = None
_board: Any = None
_thread: threading.Thread | None = None
_published: dict[bytes, int] = {}  # references of levels
_filters: list[tuple[Any, ...]] = []  # of warnings, as workers have them from their start
_registries: dict[str, dict[Any, Any]] = {}  # by file: the warnings that have been shown


# -- life ----------------------------------------------------------------------------------------------------


def open_lines(settings: Settings) -> dict[str, Any]:
    """Make ready to take records, in a runtime that starts.

    Args:
        settings: those that the workers start with.

    Returns:
        The arguments of _logs.connect() in the workers.
    """
    global _lines, _board, _filters
    _lines = Chan(CAPACITY)
    _board = _core.Atomic(0)
    _filters = settings["filters"]
    _spawn.before_go = None
    hook.on_change = _note_change
    levels = tuple(_current()) if hook.loaded() else None
    hook.when_loaded(_meet_logging)
    return {"lines": _address(_lines), "board": _address(_board), "levels": levels}


def _address(handle: Any) -> tuple[int, int]:
    _, (ref, gen, _, _) = _core.as_pickling(handle.__reduce__)
    return ref, gen


def _meet_logging(logging: Any) -> None:
    if _lines is not None:
        _note_change()
        _start_thread()


def look() -> None:
    """Start the thread if records have come and it does not run. The scheduler calls this when a worker nudges it."""
    if _lines is not None and _thread is None and len(_lines):
        while _take_one():
            pass
        _start_thread()


def _start_thread() -> None:
    global _thread
    if _thread is None:
        thread = threading.Thread(target=_serve, args=(_lines,), name="goproc-logs", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left: look() takes the records, and tries again
            return
        _thread = thread
        _board.or_(READY)


def close_lines() -> None:
    """Take the remaining records, at the end of a runtime. The workers have ended."""
    global _lines, _board, _thread
    lines, thread = _lines, _thread
    hook.on_change = None
    _spawn.before_go = None
    _spawn.levels = 0
    if lines is not None and thread is not None and thread is not threading.current_thread():
        until = monotonic() + _END_SECONDS
        while thread.is_alive() and not lines.try_send((END,)) and monotonic() < until:
            sleep(0.001)
        thread.join(max(0.0, until - monotonic()))
    elif lines is not None:
        while _take_one():
            pass
    _lines = _board = _thread = None
    _published.clear()


def _serve(lines: Chan[Any]) -> None:
    """Handle one message after the other, for the life of the thread."""
    try:
        while True:
            message = lines.recv()
            if type(message) is tuple and message[0] == END:
                return
            _handle(message)
            del message
    except GoprocError:  # the runtime has stopped
        pass


def _take_one() -> bool:
    assert _lines is not None
    message, ok = _lines.try_recv()
    if ok:
        _handle(message)
    return ok


# -- levels --------------------------------------------------------------------------------------------------


def _note_change() -> None:
    """Levels or filters have changed: the next goroutine has the new ones."""
    if _lines is not None:
        _spawn.before_go = _publish


def _publish() -> None:
    _spawn.before_go = None
    if _lines is None or not _core.attached():
        return
    found = marshal.dumps(tuple(_current()))
    ref = _published.get(found)
    if ref is None:
        ref = _published[found] = _core.definition_put(found)
    _spawn.levels = ref


def _current() -> _logs.Levels:
    """Return the script's configuration as it is."""
    filters = interpreter.filters()
    changed = None if filters == _filters and not _published else filters
    logging = hook.loaded()
    if logging is None:
        return _logs.Levels(0, None, [], {}, changed, None)
    root = logging.getLogger()
    loggers = {
        name: found
        for name, found in list(root.manager.loggerDict.items())
        if isinstance(found, logging.Logger)
    }
    loggers[root.name] = root
    return _logs.Levels(
        int(root.manager.disable),
        {
            name: _level(found)
            for name, found in loggers.items()
            if found.level or found.disabled or found is root
        },
        [name for name, found in loggers.items() if found.handlers],
        {
            number: name
            for number, name in logging._levelToName.items()
            if type(number) is int and type(name) is str
        },
        changed,
        _class_of_loggers(logging),
    )


def _class_of_loggers(logging: Any) -> bytes | None:
    kind = logging.getLoggerClass()
    return None if kind is logging.Logger else _logs.pickled(kind)


def _level(logger: Any) -> int:
    """Return the level of a logger; where it is disabled, one that no record reaches."""
    return _NONE if logger.disabled else int(logger.level)


_NONE = 1 << 30


# -- messages ------------------------------------------------------------------------------------------------


def _handle(message: Any) -> None:
    """Handle a message. An exception goes to the thread's excepthook: no caller is there to get it."""
    try:
        if type(message) is tuple:  # FLUSH
            message[1].send(None)
            return
        kind, *parts = marshal.loads(message)
        if kind == RECORD:
            _handle_record(*parts)
        else:
            _show_warning(*parts)
    except Exception:
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


def _handle_record(
    name: str,
    handled: bool,
    fields: dict[str, Any],
    message: str | None,
    args: Any,
    text: str | None,
    pickled: bytes | None,
    others: dict[str, bytes],
    packed: bytes | None,
    values: list[bytes] | None,
) -> None:
    """Have a record handled as if it had been emitted here.

    Args:
        name: of the logger.
        handled: True if a handler of the worker has handled the record, so that it does not need the last resort.
        fields: its attributes that are plain values.
        message, args: those of the call, if they are plain values.
        text, pickled: if they are not: the formatted message, and the pickle of message and args.
        others: pickles of further attributes.
        packed: its exception.
        values: of contextvars.
    """
    logger = _logging().getLogger(name)
    if handled and not logger.hasHandlers():
        return
    if text is not None:
        message, args = _loads(pickled, (text, None))
    error = _unpack_error(packed) if packed is not None else None
    made = {key: _loads(blob, "?") for key, blob in others.items()}
    record = logger.makeRecord(
        name, fields["levelno"], fields["pathname"], fields["lineno"], message, args or (), error, fields["funcName"], None,
        fields["stack_info"],
    )  # fmt: skip
    fields["relativeCreated"] = record.relativeCreated - (record.created - fields["created"]) * 1000
    record.__dict__.update(fields)
    record.__dict__.update(made)
    record.args = args
    if values:
        context = Context()
        context.run(variables.unpack, values)
        context.run(logger.handle, record)
    else:
        logger.handle(record)


def _logging() -> Any:
    if hook.loaded() is None:
        with _isolation.isolated:
            import logging  # noqa: F401
    return hook.loaded()


def _unpack_error(packed: bytes) -> Any:
    error = failure.unpack(_loads(packed, (None, "Exception", "", "", None, None, False, None)))
    return type(error), error, None


def _loads(blob: bytes | None, otherwise: Any) -> Any:
    """Return the object of a pickle; something else if it cannot be made here."""
    try:
        return pickle.loads(blob) if blob is not None else otherwise
    except Exception:
        return otherwise


# -- warnings ------------------------------------------------------------------------------------------------


def _show_warning(blob: bytes | None, text: str, kind: str, filename: str, line: int) -> None:
    """Show a warning, once for each place if the filters say so."""
    message, category = _loads(blob, (text, getattr(builtins, kind)))
    module, registry = _registry_of(filename)
    try:
        warnings.warn_explicit(message, category, filename, line, module, registry)
    except Warning as warning:  # a filter makes it an error: too late
        warnings.showwarning(warning, category, filename, line)


def _registry_of(filename: str) -> tuple[str, dict[Any, Any]]:
    """Return the name of a file's module, and the registry of the warnings that it has given."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == filename:
            return name, vars(module).setdefault("__warningregistry__", {})
    return os.path.basename(filename).removesuffix(".py"), _registries.setdefault(filename, {})


def _watch_filters() -> None:
    """Notice when the script changes the filters of warnings."""
    original = getattr(warnings, "_filters_mutated", None)
    if original is not None:

        def filters_mutated() -> None:
            original()
            _note_change()

        warnings._filters_mutated = filters_mutated  # type: ignore[attr-defined]


_watch_filters()
hook.place = _logs.place
scheduler.on_nudge.append(look)
