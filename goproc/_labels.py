"""Labels of goroutines as text, in the form of Go's tracebacks: ``{job: x, note: "two words"}``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def format_labels(labels: Mapping[str, str] | None) -> str:
    """Return the labels as the header of a goroutine has them, with a space before them; "" if there are none."""
    if not labels:
        return ""
    return " {" + ", ".join([f"{_quoted(k)}: {_quoted(v)}" for k, v in sorted(labels.items())]) + "}"


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_")
_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    '"': r"\"",
    "\\": r"\\",
}


def _quoted(text: str) -> str:
    """Return the text itself if it is plain, else quoted as Go's strconv.Quote does."""
    if text and _PLAIN.issuperset(text):
        return text
    return (
        '"'
        + "".join([_ESCAPES.get(c) or (c if c.isprintable() else _code_point(ord(c))) for c in text])
        + '"'
    )


def _code_point(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
