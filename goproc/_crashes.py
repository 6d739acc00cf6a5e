"""The Python stack of a worker that crashes, for the report on its death.

Python's faulthandler writes the stack while the process dies. The zygote has made a file in memory for it, in which
each worker has a region of its own. The zygote, which waits for the ends of workers, reads the stack and sends it to
the host.

A program that has enabled faulthandler itself keeps its own: the stack is on stderr then, and not in the report.
"""

from __future__ import annotations

import faulthandler
import os

_REGION = 1 << 16  # bytes between the regions of two workers; only written parts take memory
_MOST = 6000  # bytes of a stack that are sent
_FRAME = b"  File "
_OURS = os.path.dirname(__file__).encode() + b"/"


class Crashes:
    """The file, in the zygote."""

    def __init__(self) -> None:
        try:
            self.fd = os.memfd_create("goproc-crashes", os.MFD_CLOEXEC | 0x8)  # MFD_NOEXEC_SEAL
        except OSError:
            self.fd = _without_seal()

    def stack(self, proc: int) -> bytes:
        """Return the lines that a worker has written, and forget them. Empty: it did not crash."""
        if self.fd < 0:
            return b""
        try:
            text = os.pread(self.fd, _REGION, proc * _REGION).rstrip(b"\0")
            if text:
                os.pwrite(self.fd, bytes(len(text)), proc * _REGION)
        except OSError:
            return b""
        return _shorten(text)


def _without_seal() -> int:
    """Make the file where the kernel is an old one. Return -1 if there is no descriptor to be had."""
    try:
        return os.memfd_create("goproc-crashes", os.MFD_CLOEXEC)
    except OSError:
        return -1


def _shorten(text: bytes) -> bytes:
    """Return the frames of a stack, the innermost first, without those of goproc that started the goroutine."""
    frames = [line for line in text.splitlines() if line.startswith(_FRAME)]
    while frames and _OURS in frames[-1]:
        del frames[-1]
    kept = b""
    for frame in frames:
        if len(kept) + len(frame) > _MOST:
            return kept + b"  ...\n"
        kept += frame + b"\n"
    return kept


def note(fd: int, proc: int) -> None:
    """Have faulthandler write the stack of this worker to its region when it crashes."""
    if fd < 0 or faulthandler.is_enabled():
        return
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)  # with an offset of its own
    except OSError:  # no /proc
        return
    os.lseek(own, proc * _REGION, os.SEEK_SET)
    faulthandler.enable(own, all_threads=False)
    os.close(fd)
