"""``sys.stdout`` and ``sys.stderr`` of a program that is several processes: whole lines, never torn.

Every process writes to the same descriptors 1 and 2. Python's own streams buffer text (8 KiB) when the target is a pipe
or a file. So a worker's lines come out in lumps, in the wrong order, and are lost when it dies. Here a line goes out
with the ``print`` that ends it (line_output.py).

Text is encoded when it is written, so that the write raises the error. ``.buffer`` shares the unfinished line with the
text, so the two never get out of order. ``python -u`` does not show partial lines earlier: that would tear every
``print`` with two arguments.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

from goproc._proc import line_output
from goproc._proc.line_output import Lines
from goproc._record import Record

__goproc_frames__ = "tool"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from _typeshed import ReadableBuffer


class BinaryStream(io.BufferedIOBase):
    """``sys.stdout.buffer``: bytes under the same rules as text."""

    mode = "wb"

    def __init__(self, lines: Lines, name: str) -> None:
        self._lines = lines
        self.name = name

    @property
    def raw(self) -> io.FileIO:
        """The descriptor itself, without lines and without the lock."""
        return io.FileIO(self._lines.fd, "wb", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        if self.closed:
            raise ValueError("write to closed file")
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        copy = data if type(data) is bytes else bytes(memoryview(data))
        self._lines.add(copy)
        return len(copy)

    def flush(self) -> None:
        if self.closed:
            raise ValueError("flush of closed file")
        self._lines.flush()

    def fileno(self) -> int:
        return self._lines.fd

    def isatty(self) -> bool:
        return os.isatty(self._lines.fd)

    def writable(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return (_standard_stream, (self.name[1:-1], "buffer"))


class TextStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr``: the writing side of io.TextIOWrapper, line by line.

    Cost: a ``print`` costs what it does with a line-buffered TextIOWrapper. On a pipe it makes two more system calls
    (lock, unlock).
    """

    mode = "w"
    line_buffering = True
    newlines = None

    def __init__(self, lines: Lines, name: str, encoding: str, errors: str) -> None:
        self._lines = lines
        self.name = name
        self.buffer = BinaryStream(lines, name)
        self._newline = "\n"
        self._set_encoding(encoding, errors)

    def _set_encoding(self, encoding: str, errors: str) -> None:
        "".encode(encoding, errors)  # raises here for an unknown name, and not at the next print
        self._encoding, self._errors = encoding, errors
        newline = self._newline
        self._encode: Callable[[str], bytes]
        if newline != "\n":
            self._encode = lambda text: text.replace("\n", newline).encode(encoding, errors)
        elif errors == "strict" and encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
            self._encode = str.encode
        else:
            self._encode = lambda text: text.encode(encoding, errors)

    def write(self, text: str, /) -> int:
        try:
            data = self._encode(text)
        except (TypeError, AttributeError):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}") from None
        self._lines.add(data)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write this goroutine's unfinished line. The other goroutines flush their own."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        self._lines.flush()

    def close(self) -> None:
        """Flush and refuse further writes. The descriptor stays open, as others may use it."""
        if self.closed:
            return
        try:
            super().close()  # this flushes
        finally:
            # The attribute shadows the method, so that write() need not check for a closed stream each time.
            self.write = self._refuse  # type: ignore[method-assign]
            self.buffer.close()

    def _refuse(self, text: str, /) -> int:
        raise ValueError("I/O operation on closed file.")

    def reconfigure(
        self,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        line_buffering: bool | None = None,
        write_through: bool | None = None,
    ) -> None:
        """As io.TextIOWrapper.reconfigure, except that the stream stays line-buffered.

        ``write_through=True`` writes every piece at once, and so gives up whole lines.
        """
        if newline is not None:
            if newline not in ("", "\n", "\r", "\r\n"):
                raise ValueError(f"illegal newline value: {newline!r}")
            self._newline = newline or "\n"
        if errors is None:
            errors = self._errors if encoding is None else "strict"
        self._set_encoding(encoding or self._encoding, errors)
        if write_through is not None:
            self.flush()
            self._lines.through = write_through

    @property
    def write_through(self) -> bool:
        return self._lines.through

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        return self._errors

    def fileno(self) -> int:
        return self._lines.fd

    def isatty(self) -> bool:
        return os.isatty(self._lines.fd)

    def writable(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        # A closure or a logging handler may hold the stream: in another process the reference means the stream there.
        return (_standard_stream, (self.name[1:-1],))

    def __repr__(self) -> str:
        return f"<goproc.stdio.TextStream name={self.name!r} mode='w' encoding={self._encoding!r}>"


def _standard_stream(name: str, attribute: str | None = None) -> Any:
    stream = getattr(sys, name)
    return stream if attribute is None else getattr(stream, attribute)


class _Replaced(Record):
    """A stream of the host that has another in its place."""

    name: str  # in sys
    old: io.TextIOWrapper
    line_buffering: bool  # as the old stream had it
    new: TextStream


_replaced: list[_Replaced] = []


def install_worker(
    memfd: int, current: Callable[[], Hashable], codecs: Iterable[tuple[str, str] | None] = ()
) -> None:
    """Replace sys.stdout and sys.stderr of a worker. A closed stream (None) stays closed.

    Args:
        memfd: the segment, whose inode carries the output lock.
        current: returns the running goroutine (any hashable, the same until ``finish``), such as greenlet.getcurrent.
        codecs: (encoding, errors) of stdout and of stderr as the host has them; where left out or None, those of this
            process.
    """
    line_output.open_lock(memfd)
    codec = [*codecs, None, None]
    for index, name in enumerate(("stdout", "stderr")):
        old = getattr(sys, name)
        if old is not None:
            encoding, errors = codec[index] or (old.encoding, old.errors)
            _activate(name, TextStream(Lines(index + 1, current), f"<{name}>", encoding, errors))


def install_host(memfd: int, current: Callable[[], Hashable], procs: int) -> None:
    """Replace the host's sys.stdout and sys.stderr where they are still Python's own, on descriptors 1 and 2.

    A program of one process keeps its streams, and so does a stream that the user, pytest or a notebook kernel has set.
    Code may go on to use the old stream object, so that is switched to line buffering, which keeps the order of the
    lines.
    """
    if procs < 2 or _replaced:
        return
    for index, name in enumerate(("stdout", "stderr")):
        old = getattr(sys, name)
        if old is None or old is not getattr(sys, f"__{name}__") or not isinstance(old, io.TextIOWrapper):
            continue
        try:
            if old.closed or old.fileno() != index + 1:
                continue
            new = TextStream(Lines(index + 1, current), f"<{name}>", old.encoding, old.errors or "strict")
        except OSError:  # the program has closed the descriptor
            continue
        line_output.open_lock(memfd)
        _replaced.append(_Replaced(name, old, old.line_buffering, new))
        old.reconfigure(line_buffering=True)  # this flushes as well
        _activate(name, new)


def uninstall_host() -> None:
    """Flush everything and give the host its own streams back. A stream that was set since then stays."""
    line_output.flush_all()
    for name, old, line_buffering, new in _replaced:
        if getattr(sys, name) is new:
            setattr(sys, name, old)
        if not old.closed:
            old.reconfigure(line_buffering=line_buffering)
        line_output.active.remove(new._lines)
        new._lines.locked = False  # code that holds the stream may go on to write to it
    _replaced.clear()
    line_output.close_lock()


def flush_output() -> bool:
    """Write out the buffer of standard output; return False if this write or an earlier one has found no reader."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return not is_unread(1)
    except (OSError, ValueError):
        pass  # Python itself reports the error
    return not any(lines.fd == 1 and lines.broken for lines in line_output.active) or not is_unread(1)


def is_unread(fd: int) -> bool:
    """Return True if a descriptor leads to a pipe or a socket that has no reader any more."""
    poll = select.poll()
    poll.register(fd, 0)
    try:
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except OSError:
        return False


def _activate(name: str, stream: TextStream) -> None:
    line_output.active.append(stream._lines)
    setattr(sys, name, stream)
