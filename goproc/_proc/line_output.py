"""Whole lines on descriptors that several processes write to: each line goes out untorn.

- ``print(a, b)`` is four writes. Two goroutines that print at once would mix them, in one process as well. Here each
  goroutine has its own unfinished line, which others never see: it goes out with its newline, with ``flush()``, at the
  end of the goroutine, or at exit.
- A write to a pipe is atomic only up to PIPE_BUF (4096) bytes. Other writers can cut a longer one when the pipe is full.
  A lock held during the write prevents that; short writes must take it, too. The lock is an flock on the segment's
  memfd, through an open file description of this process: the kernel releases it if the process is killed. (A thread
  mutex comes before it, as an flock does not exclude the threads of one process.)
- On a terminal or a regular file the kernel serialises whole writes itself, so there is no lock.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import sys
from _thread import RLock
from time import sleep

from goproc.shm import _core

__goproc_frames__ = "tool"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import FrameType

# An unfinished line may grow to this size before it is written as it is. No line of a terminal comes near. A program
# that writes binary data without newlines must not fill the memory.
_MAX_PARTIAL = 8 << 20

_lock_fd = -1
_mutex = RLock()  # reentrant: a signal handler that prints may have interrupted a print
# Seconds that a write waits for another one, of a thread or process; -1: for ever. See wait_no_longer().
_patience = -1.0
_PAUSE = 0.01
_emitting: bytes | None = None  # the data that the holder of _mutex writes to a pipe
_postponed: list[tuple[Lines, bytes]] = []  # lines that a signal handler has printed meanwhile
active: list[Lines] = []
_deferred: Callable[[], None] | None = None


class Lines:
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
            if not self.locked or not _in_turn(self._emit_or_postpone, data):
                self._write(data)
        finally:
            if _postponed and _emitting is None:
                _write_postponed()
            if _deferred is not None and _emitting is None:
                _act()

    def _emit_or_postpone(self, data: bytes) -> None:
        # A part of the interrupted line may be out already.
        if _emitting is not None and len(_emitting) > select.PIPE_BUF:
            _postponed.append((self, data))
        else:  # a line that a signal handler has interrupted is out as a whole, or not at all
            self._emit_locked(data)

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
                if _patience < 0:
                    fcntl.flock(_lock_fd, fcntl.LOCK_EX)
                else:
                    lock_soon()
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


def finish(key: Hashable) -> None:
    """Write the unfinished lines of the goroutine ``key``, which has ended. Drop errors of the descriptor.

    Called at the end of every goroutine, so it costs next to nothing when there are no such lines.
    """
    for lines in active:
        if lines.partial:
            try:
                lines.finish(key)
            except OSError:
                pass  # no code is left that could catch it


def flush_all() -> None:
    """Write the unfinished lines of all goroutines of this process. Drop errors of the descriptor."""
    for lines in active:
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
    if _postponed:
        _in_turn(_emit_postponed)


def _emit_postponed() -> None:
    while _postponed:
        lines, data = _postponed.pop(0)
        lines._emit_locked(data)


def _in_turn(emit: Callable[..., None], *args: bytes) -> bool:
    """Call a function while no other thread writes. Return False if another thread writes for too long."""
    if _patience < 0:
        # Not acquire(): a KeyboardInterrupt that is raised as acquire() returns would leave the mutex taken.
        with _mutex:
            emit(*args)
        return True
    if not _mutex.acquire(True, _patience):
        return False
    try:
        emit(*args)
    finally:
        _mutex.release()
    return True


def wait_no_longer(seconds: float) -> None:
    """From now on, let no write of this process wait longer for another write, which may never find a reader."""
    global _patience
    _patience = seconds


def lock_soon(seconds: float | None = None) -> bool:
    """Take the output lock; return False if it is not free soon."""
    for _ in range(int((_patience if seconds is None else seconds) / _PAUSE)):
        locked = _core.output_lock(False)
        if locked is not None:
            return locked
        sleep(_PAUSE)
    return False


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
    f.__code__ for f in (Lines._release, Lines._emit, Lines._emit_locked, Lines._write, _write_postponed)
}


def open_lock(memfd: int) -> None:
    """Open the lock, unless it is open. `memfd`: the segment, whose inode carries the lock."""
    global _lock_fd, _at_fork
    if _lock_fd >= 0:
        return
    # flock belongs to the open file description: duplicates of memfd would share one lock among all processes.
    try:
        _lock_fd = os.open(f"/proc/self/fd/{memfd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        _lock_fd = -1  # without /proc, long lines in a pipe are not protected
    _core.output_lock_note(_lock_fd)
    if not _at_fork:
        _at_fork = True
        os.register_at_fork(after_in_child=_reopen_lock)


def close_lock() -> None:
    global _lock_fd
    if _lock_fd >= 0:
        _core.output_lock_close()
        _lock_fd = -1


def _reopen_lock() -> None:
    """Give a child that the user forked a lock of its own: the lock of a shared descriptor is held by both."""
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
