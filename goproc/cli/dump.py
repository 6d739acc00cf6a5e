"""``goproc dump``: show the goroutines of a running program, which goes on.

The program's shared memory is a memfd that each of its processes has open. The command maps it through /proc/PID/fd,
and makes a request for a dump there as a process of the program would (goproc/shm/python/dump.c). Then it puts the
answers together itself. So the program neither waits for the command nor writes to it: each process stores the text of
its own goroutines in shared memory, and the command reads it there.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from time import monotonic, sleep

from goproc.cli import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USAGE = """\
usage: goproc dump PID

Show all goroutines of a running program: state, what each waits for, stack,
and where it was created. The program goes on.

PID is the process id of the program, or of any of its processes. A process
that does not answer within a second, because it is in C code or stopped, is
reported with what shared memory tells. A process that gets no CPU has 30 s.

options:
  -h, --help         print this and stop

exit status:
  0  the dump was written to standard output
  1  there is no such program, or none of its processes answered
  2  the command line is wrong
"""

_MEMFD = "/memfd:goproc (deleted)"
_MAGIC = (0x31636F72706F67).to_bytes(8, "little")  # "goproc1": the first field of struct gp_header
_OTHERS_SECONDS = 10.0


class DumpError(Exception):
    """Raised if there is nothing to show. The user sees its text in one line; the exit status is 1."""


def main(words: Sequence[str]) -> int:
    """Run the command line after ``goproc dump`` and return the exit status.

    Raises:
        UsageError: the command line is wrong.
    """
    if words and words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    pid = _parse(words)
    try:
        text, problem = dump(pid)
    except DumpError as error:
        print(f"goproc dump: {error}", file=sys.stderr)
        return 1
    if not _write(text):
        return 1
    if problem:
        print(f"goproc dump: {problem}", file=sys.stderr)
    return 1 if problem else 0


def _parse(words: Sequence[str]) -> int:
    if not words:
        raise UsageError("no process; usage: goproc dump PID")
    if len(words) > 1:
        raise UsageError(f"one process at a time, not {len(words)} arguments; usage: goproc dump PID")
    word = words[0]
    if word.startswith("-") and not word[1:].isdigit():
        raise UsageError(f"unknown option {word!r}; see `goproc dump --help`")
    if not (word.isascii() and word.isdigit() and 0 < int(word) < 1 << 31):
        raise UsageError(f"{word!r} is not a process id: give a whole number, as `ps` shows it")
    return int(word)


def _write(text: str) -> bool:
    """Write to standard output; return False if that has no reader any more."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        return False
    return True


def dump(pid: int) -> tuple[str, str]:
    """Collect a dump of the program that a process belongs to.

    Returns:
        The text, and an error message, which is empty if a process answered.

    Raises:
        DumpError: there is no such program, or it cannot be looked into.
    """
    fd = _open(pid)
    _lock(fd)  # until the command ends
    _map(pid, fd)

    from goproc import _gathering
    from goproc.shm import _core

    if _core.stopping():
        raise DumpError(f"process {pid}: the program is ending")
    inode = os.fstat(fd)

    class Collector(_gathering.Collector):
        def ask(self, proc: int) -> None:
            process, _, _, ready = _core.proc_facts(proc)
            if ready:
                _send(process, signal.SIGQUIT if proc else signal.SIGURG, inode)
            _core.nudge(proc)

    try:
        answers = Collector(-1).collect()
    except (ValueError, EOFError, TypeError):  # of marshal
        raise DumpError(
            f"process {pid} runs another version of Python: use the `goproc` of its environment"
        ) from None
    if _core.stopping() or not os.path.exists(f"/proc/{pid}"):
        raise DumpError(f"process {pid}: the program ended before all its processes had answered")
    text = _gathering.assemble(answers, 1)
    if answers.silent != answers.asked:
        return text, ""
    pids = _core.pids()
    silent = "; ".join([_gathering.silence(proc, pids[proc]) for proc in sorted(answers.silent)])
    return text, f"no process of the program answered: {silent}"


# -- the program's shared memory -----------------------------------------------------------------------------


def _open(pid: int) -> int:
    """Open the shared memory of the program that a process belongs to; return a descriptor.

    Raises:
        DumpError: there is none.
    """
    fd = _open_own(pid)
    if fd < 0:
        fd = _open_of_host(pid)
    if fd < 0 and _has_ended(pid):
        raise DumpError(f"process {pid} has ended; its parent has not taken its exit status yet")
    if fd < 0:
        raise DumpError(
            f"process {pid} has no goproc runtime: it is no goproc program, or has not used goproc yet"
        )
    return fd


def _open_own(pid: int) -> int:
    try:
        for path in _descriptors(pid):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:  # closed meanwhile
                continue
            if os.pread(fd, 8, 0) == _MAGIC:
                return fd
            os.close(fd)  # it is being made
    except (FileNotFoundError, ProcessLookupError):
        raise DumpError(f"there is no process {pid}") from None
    except PermissionError:
        raise DumpError(
            f"no permission to look into process {pid}: it belongs to another user, or is protected"
        ) from None
    return -1


def _open_of_host(pid: int) -> int:
    """Open the shared memory of a program by the pid of its zygote or keeper.

    These two processes have not opened it. The host, the keeper's parent, has, and so have the workers, the zygote's
    children.
    """
    host, fd = _parent(pid), -1
    for _ in range(2):
        if host <= 1 or fd >= 0:
            break
        try:
            fd = _open_own(host)
        except DumpError:
            return -1
        host = _parent(host)
    if fd >= 0 and not _is_above_worker(pid, os.fstat(fd)):
        os.close(fd)
        fd = -1
    return fd


def _is_above_worker(pid: int, inode: os.stat_result) -> bool:
    """Return True if a child of the process, or a child of its child, has this shared memory open."""
    children = _children(pid)
    grandchildren = [grandchild for child in children for grandchild in _children(child)]
    return any(_holders(inode, children + grandchildren))


def _descriptors(pid: int) -> Iterator[str]:
    """Return the paths in /proc of the descriptors that are shared memory of goproc."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        try:
            if os.readlink(path) == _MEMFD:
                yield path
        except FileNotFoundError:
            pass


def _holders(inode: os.stat_result, pids: Sequence[int]) -> Iterator[int]:
    """Yield the processes that have this shared memory open."""
    for pid in pids:
        try:
            if any(os.path.samestat(os.stat(path), inode) for path in _descriptors(pid)):
                yield pid
        except OSError:  # it is gone, or another user's
            pass


def _parent(pid: int) -> int:
    try:
        return int(_facts(pid)[1])
    except (OSError, IndexError):
        return 0


def _has_ended(pid: int) -> bool:
    """Return True if a process is a zombie. The kernel has closed its descriptors."""
    try:
        return _facts(pid)[0] == "Z"
    except (OSError, IndexError):
        return False


def _facts(pid: int) -> list[str]:
    """Return the words of proc_pid_stat(5) from the third one on: the state, the parent, ..."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def _children(pid: int) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(int(name)) == pid]


def _lock(fd: int) -> None:
    """Wait until no other goproc dump reads this program. The kernel releases the lock when this process ends."""
    until = monotonic() + _OTHERS_SECONDS
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if monotonic() > until:
                raise DumpError("another `goproc dump` of this program does not end") from None
        sleep(0.005)


def _map(pid: int, fd: int) -> None:
    from goproc.shm import _core

    try:
        _core.observe(fd)
    except OSError as error:
        import errno

        if error.errno == errno.EPROTO:
            raise DumpError(
                f"process {pid} runs another version of goproc: use the `goproc` of its environment"
            ) from None
        raise DumpError(f"the shared memory of process {pid} cannot be mapped: {error.strerror}") from None


# -- signals -------------------------------------------------------------------------------------------------


def _send(pid: int, number: int, inode: os.stat_result) -> None:
    """Send a signal to a process of the program, if it still is one and has a handler for the signal.

    The number of a process that ended may be another's by now. So the process is held fast by a pidfd first, and looked
    at then.
    """
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if any(_holders(inode, [pid])) and _catches(pid, number):
            signal.pidfd_send_signal(process, number)
    except OSError:
        pass
    finally:
        os.close(process)


def _catches(pid: int, number: int) -> bool:
    """Return True if a process has a handler for a signal. Without one the signal could kill the process."""
    with open(f"/proc/{pid}/status") as file:
        caught = next((int(line.split()[1], 16) for line in file if line.startswith("SigCgt:")), 0)
    return bool(caught >> (number - 1) & 1)
