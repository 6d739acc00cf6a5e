"""Log records and warnings of workers: they reach the handlers of the script, as if they had been emitted there.

A worker sends each record over a channel, and the host's thread in _logs_host.py hands it to the logger of the same
name. Filters, handlers and formatters are those of the script. The worker knows the script's levels, so a record below
them is not even made.

A goroutine that has logged ends when the script has handled its records: the result of a call comes after them. A
goroutine that has not logged pays nothing. Handlers that a goroutine adds to a logger of its worker are called there,
too.
"""

from __future__ import annotations

import marshal
import os
import pickle
import sys
import warnings
from _thread import get_ident
from collections import deque
from contextvars import copy_context
from threading import main_thread
from time import sleep
from typing import Any

from goproc import _life, _spawn
from goproc import _logging_hook as hook
from goproc._channel import Chan, chan
from goproc._pickling import variables
from goproc._record import Record
from goproc._sched import own_thread, scheduler, waits
from goproc.errors import OutOfSharedMemory
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

RECORD, WARNING, FLUSH, END = range(4)  # kinds of messages
READY = 1  # bit of the board: the host's thread runs
CAPACITY = 1024
_LARGEST = 1 << 20  # the most bytes of a pickle in a record; larger objects are sent as text
_PATIENCE = 0.2  # seconds for a host that has not begun to listen
_LAST_PATIENCE = 1.0  # seconds for a full channel once the runtime has stopped
_PLAIN = frozenset({str, int, float, bool, type(None), bytes})


class Levels(Record):
    """The script's configuration of logging and warnings that workers need. Plain values: marshal carries them."""

    disable: int
    # Levels of the loggers that have one, by name; None: the script has not imported logging.
    levels: dict[str, int] | None
    handled: list[str]  # loggers that have handlers
    names: dict[int, str]  # of levels
    filters: list[tuple[Any, ...]] | None  # of warnings; None if they are those of the start
    kind: bytes | None  # pickle of the class that loggers are made of, if it is not that of logging


_lines: Chan[Any] | None = None  # to the host; None in the host
_board: Any = None  # Atomic: READY
_late: deque[bytes] = deque()  # messages that could not be sent where they came up
_sent = 0
_handled = 0  # of those, so many the script has handled for certain
_last: dict[int, int] = {}  # by goroutine, the number of its last message; 0: of threads
_levels: Levels | None = None  # those that are to hold here
_set_here: set[str] = set()  # loggers that have a level by that, or by a goroutine
_standing_in: dict[str, Any] = {}  # by logger, the stand-ins for the script's handlers


def connect(lines: tuple[int, int], board: tuple[int, int], levels: tuple[Any, ...] | None) -> None:
    """Send records to the host from now on. Once in the life of a worker.

    Args:
        lines: reference and generation of the channel.
        board: the same of the Atomic.
        levels: the script's Levels, if it has imported logging.
    """
    global _lines, _board, _levels
    _lines = _core._handle(*lines, 1, 3)
    _board = _core._handle(*board, 3, 3)
    _levels = Levels(*levels) if levels is not None else None
    warnings._showwarnmsg_impl = _forward_warning  # type: ignore[attr-defined]
    _life.on_levels = use_levels
    hook.when_loaded(_begin_forwarding)
    os.register_at_fork(after_in_child=_forget)


def place() -> tuple[int, int]:
    """Return the numbers of the running goroutine and its process; in a thread of blocking(), the waiting goroutine."""
    if not _core.attached():
        return 1, 0
    proc = _core.proc()
    if _core.on_scheduler_thread() and (proc or not own_thread.is_used()):
        return scheduler.current.id, proc
    if proc == 0 and get_ident() == main_thread().ident:
        return 1, 0
    blocking = sys.modules.get("goproc._blocking")
    return blocking.acting.get(get_ident(), 0) if blocking is not None else 0, proc


def _begin_forwarding(logging: Any) -> None:
    hook.forward = _forward
    hook.on_change = _note_change
    add_handler, add_filter = logging.Logger.addHandler, logging.Logger.addFilter
    set_level = logging.Logger.setLevel

    def note_handler(self: Any, handler: Any) -> None:
        add_handler(self, handler)
        _note_own(self, "_goproc_handlers", handler)

    def note_filter(self: Any, filter: Any) -> None:
        add_filter(self, filter)
        _note_own(self, "_goproc_filters", filter)

    def note_level(self: Any, level: Any) -> None:
        set_level(self, level)
        if not _is_import():
            _set_here.add(self.name)

    logging.Logger.setLevel = note_level
    logging.Logger.addHandler = note_handler
    logging.Logger.addFilter = note_filter
    _apply()


def _note_own(logger: Any, name: str, item: Any) -> None:
    """Note the handlers and filters that a goroutine has added to a logger."""
    own = logger.__dict__.setdefault(name, [])
    if item not in own and not _is_import():
        own.append(item)


def _is_import() -> bool:
    """Return True if the caller is a module under import: the script imports the module, too, and gets the same."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _forget() -> None:
    """Begin in a child that a goroutine has forked: it is a process of its own, and logs by itself."""
    global _lines
    if hook.forward is not None:
        logging = hook.loaded()
        for name, stand_in in _standing_in.items():
            if stand_in in logging.getLogger(name).handlers:
                logging.getLogger(name).handlers.remove(stand_in)
    _lines = hook.forward = _life.on_begin = _life.on_end = None
    hook.on_change = None
    if getattr(warnings, "_showwarnmsg_impl", None) is _forward_warning:
        warnings._showwarnmsg_impl = _show_warning  # type: ignore[attr-defined]


# -- levels --------------------------------------------------------------------------------------------------


def use_levels(ref: int) -> None:
    """Set the levels of this process to those of a goroutine that begins.

    Args:
        ref: the definition that holds them.
    """
    global _levels
    if ref == _spawn.levels:
        return
    _spawn.levels = ref  # of those that it starts
    _levels = Levels(*marshal.loads(_core.definition_get(ref)))
    if _levels.filters is not None:
        from goproc._proc import interpreter

        interpreter.set_filters(_levels.filters)
    if hook.forward is not None:
        _apply()


def _note_change() -> None:
    """Note that a goroutine has changed levels. They hold until another goroutine begins."""
    _life.on_begin = _apply


def _apply() -> None:
    logging = hook.loaded()
    found = _levels
    _life.on_begin = None
    if found is None or found.levels is None:
        return
    _use_class(found.kind)
    for number, name in found.names.items():
        logging.addLevelName(number, name)
    for name in _set_here - found.levels.keys():
        logging.getLogger(name).level = logging.NOTSET
    for name, level in found.levels.items():
        logging.getLogger(name).level = level
    _set_here.clear()
    _set_here.update(found.levels)
    for name in _standing_in.keys() - set(found.handled):
        logging.getLogger(name).handlers.remove(_standing_in.pop(name))
    for name in set(found.handled) - _standing_in.keys():
        _standing_in[name] = logging.NullHandler()
        logging.getLogger(name).handlers.append(_standing_in[name])
    root = logging.getLogger()
    root.manager.disable = found.disable
    root.manager._clear_cache()
    _life.on_begin = None


_kind: bytes | None = None


def _use_class(kind: bytes | None) -> None:
    """Make loggers of the class that the script makes them of, from now on."""
    global _kind
    if kind == _kind:
        return
    _kind = kind
    logging = hook.loaded()
    try:
        logging.setLoggerClass(pickle.loads(kind) if kind is not None else logging.Logger)
    except Exception:  # a module that only the script can import: its loggers are plain ones here
        pass


# -- records -------------------------------------------------------------------------------------------------


def _forward(logger: Any, record: Any) -> bool:
    """Give a record to the script. False: it is to be handled here."""
    if _lines is None or not _core.attached():
        return False
    logging = hook.loaded()
    manager = getattr(logger, "manager", None)
    if manager is not logging.root.manager or (
        logger is not logging.root and manager.loggerDict.get(logger.name) is not logger
    ):
        return False  # no other code can find the logger
    record.processName = f"goproc-{_core.proc()}"
    for filter in logger.__dict__.get("_goproc_filters", ()):
        if filter in logger.filters:
            passed = filter.filter(record) if hasattr(filter, "filter") else filter(record)
            if not passed:
                return True
            record = passed if isinstance(passed, logging.LogRecord) else record
    handled = _call_own_handlers(logger, record)
    _put(_encode(record, logger.name, handled), record.goroutine)
    return True


def _call_own_handlers(logger: Any, record: Any) -> bool:
    """Call the handlers that goroutines have added in this process; return True if there is one."""
    found = False
    at = logger
    while at is not None:
        for handler in at.__dict__.get("_goproc_handlers", ()):
            if handler in at.handlers:
                found = True
                if record.levelno >= handler.level:
                    handler.handle(record)
        at = at.parent if at.propagate else None
    return found


def _encode(record: Any, logger: str, handled: bool) -> bytes:
    """Return the message of a record. Objects that marshal does not carry are pickled, or become text."""
    fields = dict(record.__dict__)
    error = fields.pop("exc_info", None)
    packed = (
        _pack_error(fields, error) if error and isinstance(error, tuple) and error[1] is not None else None
    )
    message, args = fields.pop("msg"), fields.pop("args")
    text = both = None
    if type(message) is not str or not _is_plain(args):
        text, both = _text_of(record), pickled((message, args))
        message = args = None
    others: dict[str, bytes] = {}
    for name in [name for name, value in fields.items() if type(value) not in _PLAIN]:
        value = fields.pop(name)
        blob = pickled(value)
        if blob is None:
            fields[name] = _repr(value)
        else:
            others[name] = blob
    values = None
    if not _core.context_empty():
        values = [item for item in variables.pack(copy_context()) or () if type(item) is bytes]
    return marshal.dumps((RECORD, logger, handled, fields, message, args, text, both, others, packed, values))


def _is_plain(args: Any, depth: int = 0) -> bool:
    if type(args) is tuple or type(args) is list:
        return depth < 4 and all(type(value) in _PLAIN or _is_plain(value, depth + 1) for value in args)
    if type(args) is dict:
        return _is_plain((*args, *args.values()), depth)
    return type(args) in _PLAIN


def _pack_error(fields: dict[str, Any], error: Any) -> bytes | None:
    """Pack the exception of a record; its traceback becomes the text that formatters print."""
    from goproc._pickling import failure

    if not fields.get("exc_text"):
        fields["exc_text"] = hook.loaded().Formatter().formatException(error)
    return pickled(failure.pack(error[1]))


def _text_of(record: Any) -> str:
    try:
        return str(record.getMessage())
    except Exception as exc:
        return f"{_repr(record.msg)} {_repr(record.args)} ({type(exc).__name__}: {exc})"


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as exc:
        return f"<{type(value).__name__}: its repr raised {type(exc).__name__}>"


def pickled(value: Any) -> bytes | None:
    """Return a pickle; None if it cannot be made, or is too large."""
    from goproc._pickling.messages import dump_in_band

    try:
        blob = dump_in_band(value)
    except Exception:
        return None
    return blob if len(blob) <= _LARGEST else None


# -- warnings ------------------------------------------------------------------------------------------------

_show_warning: Callable[[Any], None] = warnings._showwarnmsg_impl  # type: ignore[attr-defined]


def _forward_warning(message: Any) -> None:
    """Give a warning to the script, in place of writing it to stderr."""
    if _lines is None or not _core.attached():
        _show_warning(message)
        return
    kinds = [kind for kind in message.category.__mro__ if kind.__module__ == "builtins"]
    blob = pickled((message.message, message.category))
    _put(
        marshal.dumps(
            (WARNING, blob, str(message.message), kinds[0].__name__, message.filename, message.lineno)
        ),
        place()[0],
    )


# -- the way to the host -------------------------------------------------------------------------------------


def _put(message: bytes, id_: int) -> None:
    global _sent
    if not _sent and not _board.load() & READY:
        _core.nudge(0)  # its script has not imported logging
    _sent += 1
    _last[id_] = _sent
    _life.on_end = _flush_goroutine
    if _late:
        _send_late()
    if _late or not _deliver(message):
        _late.append(message)


def _send_late() -> None:
    while _late:
        message = _late.popleft()
        if not _deliver(message):
            _late.appendleft(message)
            return


def _deliver(message: bytes) -> bool:
    """Send a record or warning. Return False if it has to wait, and waiting is not allowed here.

    A goroutine that logs while shared memory is full does not fail: standard error tells of the lost record.
    """
    try:
        return _send(message)
    except OutOfSharedMemory as error:
        try:
            sys.stderr.write(f"goproc: proc {_core.proc()} could not log {_brief(message)}: {error}\n")
        except (OSError, ValueError, AttributeError):  # standard error is full, closed or None
            pass
        return True


def _brief(message: bytes) -> str:
    """Return the beginning of the text of a record or warning."""
    kind, *fields = marshal.loads(message)
    if kind == WARNING:
        return repr(fields[1][:500])
    logger, _, _, words, args, text = fields[:6]
    said = repr(words if text is None else text)[:500]
    return f"{said} {repr(args)[:500]} ({logger})" if args else f"{said} ({logger})"


def _send(message: Any) -> bool:
    """Send a message, also while an interrupt is pending. Return False if it has to wait where waiting is not allowed."""
    lines: Any = _lines
    if lines.try_send(message):
        return True
    if _core.stopping():
        for _ in range(int(_LAST_PATIENCE / 0.001)):
            sleep(0.001)
            if lines.try_send(message):
                return True
        return False
    if _core.on_scheduler_thread() and (scheduler.scheduling or not _may_park()):
        return False
    scheduler.shield(1)
    try:
        lines.send(message)
    finally:
        scheduler.shield(-1)
    return True


def _may_park() -> bool:
    try:
        _core.check_park()
    except RuntimeError:  # in the middle of pickling
        return False
    return True


def _flush_goroutine(id_: int) -> None:
    """Wait until the script has handled the messages of a goroutine, and of threads."""
    global _handled
    number = max(_last.pop(id_, 0), _last.get(0, 0))
    if number <= _handled or _lines is None or _core.stopping():
        return
    number = _sent
    try:
        if _send_flush():
            _handled = max(_handled, number)
    except Exception:  # the runtime has stopped
        pass


def _send_flush() -> bool:
    """Ask the host for an answer once it has handled all messages. Return False if the host cannot be asked now."""
    _send_late()
    if not _wait_for_host():
        return False
    answer = chan(1)
    if not _send((FLUSH, answer)):
        return False
    scheduler.shield(1)
    try:
        answer.recv()
    finally:
        scheduler.shield(-1)
    return True


def _wait_for_host() -> bool:
    """Return True if the host's thread runs. It may begin late: see _logs_host.py."""
    for _ in range(int(_PATIENCE / 0.005)):
        if _board.load() & READY:
            return True
        _core.nudge(0)
        scheduler.shield(1)
        try:
            waits.sleep(0.005)
        finally:
            scheduler.shield(-1)
    return False


def flush() -> None:
    """Wait until the script has handled the records of the running goroutine; in a thread, those of this process.

    A goroutine does the same at its end. The caller of flush() hands over a result before that: the call is one of
    many that its goroutine makes.

    Cost: nothing if nothing was logged since.
    """
    if _life.on_end is None:
        return
    if not _core.on_scheduler_thread():
        _last[0] = _sent  # of any goroutine
        _flush_goroutine(0)
    else:
        _flush_goroutine(scheduler.current.id)
