"""The imports of a program whose source is not known ahead: at a prompt, in a notebook, or of `python -c`.

The early zygote has no script to read there. So the host tells it of each module that the code of __main__ imports, as
that code imports it, and the zygote imports the module at the same time. The names go through a socket of their own,
one a line. The host never waits for the zygote: a name for which the socket has no room is left out, and a worker
imports that module at its need.
"""

from __future__ import annotations

import os
import sys

from goproc._proc.letters import FOLLOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_IMPORT_SYSTEM = ("<frozen importlib", os.path.join(os.path.dirname(os.__file__), "importlib") + os.sep)


def begin(control: int) -> Follower | None:
    """Have an early zygote follow this process; return None if there is no descriptor for that.

    Args:
        control: the host's end of the zygote's control socket.
    """
    import _socket
    import struct

    try:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    except OSError:
        return None
    ours.setblocking(False)
    sock = _socket.socket(fileno=control)
    try:
        rights = struct.pack("i", theirs.fileno())
        sock.sendmsg([FOLLOW], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)], _socket.MSG_NOSIGNAL)
    except OSError:
        ours.close()
        return None
    finally:
        sock.detach()
        theirs.close()
    follower = Follower(ours.detach())
    follower.begin()
    return follower


class Follower:
    """A finder that finds nothing: as the first of sys.meta_path, it sees each module before it is loaded.

    Args:
        line: a descriptor of a stream socket that does not block. The follower owns the socket.
    """

    def __init__(self, line: int) -> None:
        self._line = line
        self._file = _identity(line)
        self._pid = os.getpid()

    def begin(self) -> None:
        """Tell of the modules that __main__ has imported, and then of each that it imports."""
        for name in _imported_by_main():
            self._tell(name)
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if self._is_there():
            os.close(self._line)
        self._line = -1

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Return None, after a look at the code that imports the module."""
        if _is_code_of_main(sys._getframe(1)) and os.getpid() == self._pid:
            self._tell(name)

    def _tell(self, name: str) -> None:
        import _socket

        if not self._is_there():
            return
        line = _socket.socket(fileno=self._line)
        try:
            line.send(name.encode("utf-8", "surrogatepass") + b"\n", _socket.MSG_NOSIGNAL)
        except OSError:
            pass  # there is no room, or the zygote has ended
        finally:
            line.detach()

    def _is_there(self) -> bool:
        """Return True unless the program has closed the descriptor."""
        try:
            return self._line >= 0 and _identity(self._line) == self._file
        except OSError:
            return False


def _identity(fd: int) -> tuple[int, int]:
    facts = os.fstat(fd)
    return facts.st_dev, facts.st_ino


def _is_code_of_main(frame: FrameType | None) -> bool:
    """Return True if the first frame outside the import system is one of __main__."""
    while frame is not None and frame.f_code.co_filename.startswith(_IMPORT_SYSTEM):
        frame = frame.f_back
    return frame is not None and frame.f_globals is vars(sys.modules["__main__"])


def _imported_by_main() -> list[str]:
    """Return the names of the loaded modules that the globals of __main__ come from, in the order of their loading."""
    named = {_module_of(value) for value in list(vars(sys.modules["__main__"]).values())}
    return [name for name in list(sys.modules) if name in named and name != "__main__"]


def _module_of(value: object) -> object:
    """Return the name of a module, or of the module of a function or class; else None."""
    kind = type(value)
    if kind is type(sys):
        return vars(value).get("__name__")
    if kind is type(_module_of) or issubclass(kind, type):
        try:
            return value.__module__
        except Exception:  # a metaclass can do anything
            pass
    return None
