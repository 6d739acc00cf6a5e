"""Errors for calls that are written where none belongs, or are missing. The caller's source shows the mistake.

``go(f(x))`` calls f in the process of the caller, and hands the result to go. ``connection.execute(...)`` of a worker_local()
lacks the call that returns the connection.
"""

from __future__ import annotations

import sys
from itertools import islice

from goproc._frames import is_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from types import FrameType
    from typing import Any, Literal

    Gets = Literal["arguments", "items", "nothing"]

_LONGEST = 60  # the most characters of source that a message repeats


def not_callable(
    said: str, obj: Any, usage: str = "", at: int | str = 0, gets: Gets = "arguments"
) -> TypeError:
    """Return the TypeError for an object that is not callable.

    Args:
        said: the beginning of the message.
        obj: the object.
        usage: ends the message if the source shows no call in the place of the function.
        at: the number or the name of the argument that the object is.
        gets: the origin of the arguments of the function. "arguments": they follow it, as in go(f, x). "items": goproc
            makes them. "nothing": the function is called without any.
    """
    try:
        call = _call_of(_caller())
        advice = "" if call is None else _advice(call, obj, at, gets)
    except Exception:  # the source is not that of the code, or not to be had
        advice = ""
    if advice:
        return TypeError(f"{said}: {advice}")
    return TypeError(f"{said} ({usage})" if usage else said)


def not_called(said: str, name: str, usage: str) -> AttributeError:
    """Return the AttributeError for an attribute of an object that has to be called first.

    Args:
        said: the beginning of the message.
        name: of the attribute.
        usage: ends the message if the source does not show the attribute.
    """
    import ast

    try:
        found = _node_of(_caller())
        if isinstance(found, ast.Call):
            found = found.func
        if isinstance(found, ast.Attribute) and found.attr == name:
            found.value = ast.Call(found.value, [], [])
            usage = _text(found, usage)
    except Exception:  # the source is not that of the code, or not to be had
        pass
    return AttributeError(f"{said}: write {usage}")


def _caller() -> FrameType | None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and is_own(frame):
        frame = frame.f_back
    return frame


def _call_of(frame: FrameType | None) -> ast.Call | None:
    """Return the syntax of the call that a frame makes now; None if its source is not there."""
    import ast

    node = _node_of(frame)
    return node if isinstance(node, ast.Call) else None


def _node_of(frame: FrameType | None) -> ast.expr | None:
    """Return the syntax of the expression that a frame evaluates now; None if its source is not there."""
    import ast
    import linecache

    if frame is None:
        return None
    code = frame.f_code
    first, last, start, end = next(islice(code.co_positions(), frame.f_lasti // 2, None))
    if first is None or last is None:
        return None
    lines = [linecache.getline(code.co_filename, n, frame.f_globals).encode() for n in range(first, last + 1)]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    return ast.parse(b"(" + b"".join(lines) + b")", mode="eval").body


def _advice(call: ast.Call, obj: Any, at: int | str, gets: Gets) -> str:
    """Return the sentence about a call whose argument is a call itself; "" if that is not so."""
    inner = _argument(call, at)
    if inner is None:
        return ""
    outer, name = _text(call.func, "the function"), _text(inner.func, "the function")
    made = _text(inner, f"{name}(...)")
    if type(obj).__name__ == "coroutine":
        return f"{name} is asynchronous; write {outer}({'..., ' * bool(at)}lambda: asyncio.run({made}))"
    closed = f"lambda: {made}" if inner.args or inner.keywords else name
    if isinstance(at, str):
        return f"{at}={made} calls {name} at once; write {at}={closed}"
    before = "..., " * at
    wrong = _text(call, f"{outer}({before}{made})")
    if gets == "nothing":
        right = f"{outer}({before}{closed})"
    else:
        call.args[at : at + 1] = [inner.func, *(inner.args if gets == "arguments" else ())]
        call.keywords[:0] = inner.keywords if gets == "arguments" else ()
        right = _text(call, f"{outer}({before}{name}, ...)")
    return f"{wrong} calls {name} at once, and passes on its result; write {right}"


def _argument(call: ast.Call, at: int | str) -> ast.Call | None:
    """Return the argument if it is a call itself."""
    import ast

    if isinstance(at, str):
        found = next((each.value for each in call.keywords if each.arg == at), None)
    else:
        found = call.args[at] if at < len(call.args) else None
    return found if isinstance(found, ast.Call) else None


def _text(node: ast.expr, otherwise: str) -> str:
    import ast

    text = ast.unparse(node)
    return text if len(text) <= _LONGEST and "\n" not in text else otherwise
