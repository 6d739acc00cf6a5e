"""Standard output of a program that is several processes: whole lines, never torn.

Every process writes to the same descriptors 1 and 2. Python's own streams do this wrong:

- They buffer text (8 KiB) when the target is a pipe or a file. So a worker's lines come out in lumps, in the wrong
  order, and are lost when it dies. Here a line goes out with the ``print`` that ends it.
- ``print(a, b)`` is four writes. Two goroutines that print at once would mix them, in one process as well. Here each
  goroutine has its own unfinished line, which others never see: it goes out with its newline, with ``flush()``, at the
  end of the goroutine, or at exit.
- A write to a pipe is atomic only up to PIPE_BUF (4096) bytes. Other writers can cut a longer one when the pipe is full.
  A lock held during the write prevents that; short writes must take it, too. The lock is an flock on the segment's
  memfd, through an open file description of this process: the kernel releases it if the process is killed. (A thread
  mutex comes before it, as an flock does not exclude the threads of one process.)
- On a terminal or a regular file the kernel serialises whole writes itself, so there is no lock.

Text is encoded when it is written, so that the write raises the error. ``.buffer`` shares the unfinished line with the
text, so the two never get out of order. ``python -u`` does not show partial lines earlier: that would tear every
``print`` with two arguments.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import stat
import sys
from _thread import RLock

from goproc.shm import _core

__goproc_frames__ = "tool"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from types import FrameType
    from typing import Any, TextIO

    from _typeshed import ReadableBuffer

# An unfinished line may grow to this size before it is written as it is. No line of a terminal comes near. A program
# that writes binary data without newlines must not fill the memory.
_MAX_PARTIAL = 8 << 20

_lock_fd = -1
_mutex = RLock()  # reentrant: a signal handler that prints may have interrupted a print
_emitting: bytes | None = None  # the data that the holder of _mutex writes to a pipe
_postponed: list[tuple[_Lines, bytes]] = []  # lines that a signal handler has printed meanwhile
_active: list[_Lines] = []
_deferred: Callable[[], None] | None = None


class _Lines:
    """The one way to a descriptor, shared by the text stream and its ``.buffer``."""

    __slots__ = ("broken", "current", "fd", "locked", "partial", "through")

    def __init__(self, fd: int, current: Callable[[], Hashable]) -> None:
        self.fd = fd
        self.current = current
        # The unfinished line of each goroutine. Only one thread uses a key, so a single dict operation needs no lock.
        self.partial: dict[Hashable, list[bytes]] = {}
        self.through = False
        self.broken = False  # a write failed, as the descriptor has no reader
        mode = os.fstat(fd).st_mode
        self.locked = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def add(self, data: bytes) -> None:
        try:
            key = self.current()
        except RuntimeError:  # greenlet has been taken down already, and a __del__ prints
            key = None
        end = data.rfind(b"\n") + 1
        if end:
            if end == len(data):
                self._release(key, data, b"")
            else:
                self._release(key, data[:end], data[end:])
            return
        if self.through:
            self._release(key, data, b"")
            return
        parts = self.partial.get(key)
        if parts is None:
            if data:
                self.partial[key] = [data]
            return
        parts.append(data)
        # The usual unfinished line is a few words. Its length is added up only when a piece or their number is large.
        if (len(parts) & 1023 == 0 or len(data) >= 65536) and sum(map(len, parts)) >= _MAX_PARTIAL:
            self._release(key, b"", b"")

    def finish(self, key: Hashable) -> None:
        """Write the unfinished line of ``key``, if it has one."""
        if key in self.partial:
            self._release(key, b"", b"")

    def flush(self) -> None:
        if not self.partial:
            return
        if sys.is_finalizing():  # Python's last call: there are no goroutines any more
            for key in list(self.partial):
                self.finish(key)
        else:
            self.finish(self.current())

    def _release(self, key: Hashable, head: bytes, tail: bytes) -> None:
        """Write the unfinished line with ``head`` behind it; ``tail`` begins the next one."""
        parts = self.partial.pop(key, None)
        if parts is not None:
            parts.append(head)
            head = b"".join(parts)
        if tail:
            self.partial[key] = [tail]
        self._emit(head)

    def _emit(self, data: bytes) -> None:
        """Write all of ``data`` with nothing of another process or thread in between."""
        try:
            if not self.locked:
                self._write(data)
                return
            with _mutex:
                # A part of it may be out already.
                if _emitting is not None and len(_emitting) > select.PIPE_BUF:
                    _postponed.append((self, data))
                else:  # a line that a signal handler has interrupted is out as a whole, or not at all
                    self._emit_locked(data)
        finally:
            if _postponed and _emitting is None:
                _write_postponed()
            if _deferred is not None and _emitting is None:
                _act()

    def _emit_locked(self, data: bytes) -> None:
        global _emitting
        interrupted, _emitting = _emitting, data
        # flock stands inside the try: a KeyboardInterrupt that is raised as flock returns must not leave the lock
        # taken. To unlock a free lock does no harm.
        try:
            self._lock()
            self._write(data)
        finally:
            _emitting = interrupted
            if interrupted is None and self.locked:
                _core.output_unlock()

    def _lock(self) -> None:
        try:
            if _core.output_lock_there():
                fcntl.flock(_lock_fd, fcntl.LOCK_EX)
                return
        except (OSError, ValueError):
            pass
        self.locked = False  # there is no /proc, or the program has closed goproc's descriptors

    def _write(self, data: bytes) -> None:
        try:
            done = os.write(self.fd, data)
        except BlockingIOError:
            done = 0
        except BrokenPipeError:
            self.broken = True  # Python itself drops the error of its flush at the end of a script
            raise
        if done == len(data):
            return
        rest = memoryview(data)[done:]
        while rest:
            # The descriptor is non-blocking: ssh and Node set that on a terminal or pipe that they share with others.
            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            poll.poll()
            try:
                rest = rest[os.write(self.fd, rest) :]
            except BlockingIOError:
                continue


class BinaryStream(io.BufferedIOBase):
    """``sys.stdout.buffer``: bytes under the same rules as text."""

    mode = "wb"

    def __init__(self, lines: _Lines, name: str) -> None:
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

    def __init__(self, lines: _Lines, name: str, encoding: str, errors: str) -> None:
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


# -- putting them in place -----------------------------------------------------------------------------------

_host_saved: list[tuple[str, TextIO, bool, TextStream]] = []


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
    _open_lock(memfd)
    codec = [*codecs, None, None]
    for index, name in enumerate(("stdout", "stderr")):
        old = getattr(sys, name)
        if old is not None:
            encoding, errors = codec[index] or (old.encoding, old.errors)
            _activate(name, TextStream(_Lines(index + 1, current), f"<{name}>", encoding, errors))


def install_host(memfd: int, current: Callable[[], Hashable], procs: int) -> None:
    """Replace the host's sys.stdout and sys.stderr where they are still Python's own, on descriptors 1 and 2.

    A program of one process keeps its streams, and so does a stream that the user, pytest or a notebook kernel has set.
    Code may go on to use the old stream object, so that is switched to line buffering, which keeps the order of the
    lines.
    """
    if procs < 2 or _host_saved:
        return
    for index, name in enumerate(("stdout", "stderr")):
        old = getattr(sys, name)
        if old is None or old is not getattr(sys, f"__{name}__") or not isinstance(old, io.TextIOWrapper):
            continue
        try:
            if old.closed or old.fileno() != index + 1:
                continue
            new = TextStream(_Lines(index + 1, current), f"<{name}>", old.encoding, old.errors or "strict")
        except OSError:  # the program has closed the descriptor
            continue
        if _lock_fd < 0:
            _open_lock(memfd)
        _host_saved.append((name, old, old.line_buffering, new))
        old.reconfigure(line_buffering=True)  # this flushes as well
        _activate(name, new)


def uninstall_host() -> None:
    """Flush everything and give the host its own streams back. A stream that was set since then stays."""
    global _lock_fd
    flush_all()
    for name, old, line_buffering, new in _host_saved:
        if getattr(sys, name) is new:
            setattr(sys, name, old)
        if not old.closed:
            old.reconfigure(line_buffering=line_buffering)  # type: ignore[attr-defined]
        _active.remove(new._lines)
        new._lines.locked = False  # code that holds the stream may go on to write to it
    _host_saved.clear()
    if _lock_fd >= 0:
        _core.output_lock_close()
        _lock_fd = -1


def flush_output() -> bool:
    """Write out the buffer of standard output; return False if this write or an earlier one has found no reader."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return not is_unread(1)
    except (OSError, ValueError):
        pass  # Python itself reports the error
    return not any(lines.fd == 1 and lines.broken for lines in _active) or not is_unread(1)


def is_unread(fd: int) -> bool:
    """Return True if a descriptor leads to a pipe or a socket that has no reader any more."""
    poll = select.poll()
    poll.register(fd, 0)
    try:
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except OSError:
        return False


def finish(key: Hashable) -> None:
    """Write the unfinished lines of the goroutine ``key``, which has ended. Drop errors of the descriptor.

    Called at the end of every goroutine, so it costs next to nothing when there are no such lines.
    """
    for lines in _active:
        if lines.partial:
            try:
                lines.finish(key)
            except OSError:
                pass  # no code is left that could catch it


def flush_all() -> None:
    """Write the unfinished lines of all goroutines of this process. Drop errors of the descriptor."""
    for lines in _active:
        for key in list(lines.partial):
            try:
                lines.finish(key)
            except OSError:
                lines.partial.clear()
    try:
        _write_postponed()
    except OSError:
        _postponed.clear()


def _write_postponed() -> None:
    """Write the lines that signal handlers have printed during the write of a long line."""
    with _mutex:
        while _postponed:
            lines, data = _postponed.pop(0)
            lines._emit_locked(data)


def after_write(frame: FrameType | None, action: Callable[[], None]) -> None:
    """Call ``action`` now, or after the line that is being written.

    For a signal handler that ends the process: ``frame`` is the frame that it interrupted, maybe in the middle of a
    line.
    """
    global _deferred
    while frame is not None:
        if frame.f_code in _WRITING:
            _deferred = action
            return
        frame = frame.f_back
    action()


def _act() -> None:
    """Call the actions that were put off, each once; an action may write as well."""
    global _deferred
    action, _deferred = _deferred, None
    if action is not None:
        action()


_WRITING = {
    f.__code__ for f in (_Lines._release, _Lines._emit, _Lines._emit_locked, _Lines._write, _write_postponed)
}


def _activate(name: str, stream: TextStream) -> None:
    _active.append(stream._lines)
    setattr(sys, name, stream)


def _open_lock(memfd: int) -> None:
    global _lock_fd, _at_fork
    # flock belongs to the open file description: duplicates of memfd would share one lock among all processes.
    try:
        _lock_fd = os.open(f"/proc/self/fd/{memfd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        _lock_fd = -1  # without /proc, long lines in a pipe are not protected
    _core.output_lock_note(_lock_fd)
    if not _at_fork:
        _at_fork = True
        os.register_at_fork(after_in_child=_reopen_lock)


def _reopen_lock() -> None:
    """Give a child that the user forked a lock of its own: it would share its parent's, and prolong that."""
    global _lock_fd, _mutex, _emitting
    _mutex, _emitting = RLock(), None
    _postponed.clear()
    if _lock_fd < 0:
        return
    new = _core.output_lock_again()
    _core.output_lock_close()
    _lock_fd = new
    _core.output_lock_note(new)


_at_fork = False
