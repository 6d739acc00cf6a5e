"""The zygote that ``goproc run`` starts beside the script, and the ways by which the script's process finds it.

    goproc run                       (exec)  python script.py
      └─ spawns the zygote ────────────────────────┴─ takes the zygote at the first use of goproc

The exec keeps the process, so the keeper of the zygote stays its child. The process learns of the zygote from an option
of the interpreter, ``-X goproc=FD.PID.KEEPER``. Programs that the script starts do not inherit the option, as they
would a variable of the environment. The option is believed only if the descriptor is a socket which this very process
has made.

A script can change the state that its children inherit before it uses goproc. Some of that state is set anew for the
zygote (align), some travels with the configuration (plans.Surroundings). If the rest differs, the zygote is given up
and another one started.
"""

from __future__ import annotations

import os
import sys

from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from goproc._proc.follow import Follower


class Zygote(Record):
    """A zygote as the host knows it."""

    control: int  # the host's end of the control socket
    pid: int
    keeper: int  # its pid: the zygote's parent, the host's child, alive as long as the zygote (shm/keeper/keeper.c)


OPTION = "goproc"
_LOWEST_FD = 100  # for the control socket: no script counts on so high a descriptor to be free
_DESCRIPTORS = 16  # the descriptors that the zygote needs, with some to import by

_early: Zygote | None = None  # the zygote that was started, until it is told to fork
# Device and inode of the control socket: the program may close it, and open another file under its number.
_file = (0, 0)
# The environment and the interpreter's options that a zygote of launch_now() has; else None.
_booted: tuple[dict[str, str], list[str]] | None = None
_follower: Follower | None = None  # it tells the zygote of the imports of this process


# -- in `goproc run` -----------------------------------------------------------------------------------------


def launch_for_script(words: Sequence[str], environ: Mapping[str, str], flags: Sequence[str]) -> list[str]:
    """Start the zygote; return the options by which the script's process will find it.

    Args:
        words: the command that starts Python, after its own options.
        environ: the environment of the script.
        flags: the options of the script's interpreter.

    A zygote that cannot be started is no error: the script's process starts one when needed.
    """
    import fcntl

    from goproc._proc import launch

    plan = launch.plan(_script_path(words), words, flags)
    try:
        zygote = launch.launch(plan, environ, quiet=True)
    except (OSError, RuntimeError):
        return []
    try:
        kept = fcntl.fcntl(zygote.control, fcntl.F_DUPFD, _LOWEST_FD)
    except OSError:
        return []  # the zygote ends when it sees that the socket is closed, or that this process has ended
    finally:
        os.close(zygote.control)
    return ["-X", f"{OPTION}={kept}.{zygote.pid}.{zygote.keeper}"]


def launch_ahead() -> None:
    """Start the zygote of this process ahead of its first use, with the imports of its script, unless there is one.

    For modules whose import means that goproc is about to be used, and for programs that import much. Where there is no
    script, the zygote follows this process.
    """
    global _early, _file, _follower
    from goproc._proc import follow, launch

    if _early is not None:
        return
    words = _program()
    plan = launch.plan(sys.path, words, launch.interpreter_flags())
    try:
        zygote = launch.launch(plan, os.environ, quiet=True)
    except (OSError, RuntimeError):
        return  # the first use starts one
    _early, _file = zygote, _identity(zygote.control)
    if not words:
        _follower = follow.begin(zygote.control)


def launch_now() -> None:
    """Start the zygote that the first use of the runtime will need, where a zygote is certain to be needed."""
    global _early, _file, _booted
    environ = os.environ
    if _early is not None or OPTION in sys._xoptions or environ.get("GOPROC_PROCS") == "0":
        return
    from goproc._proc import launch

    try:
        open_standard_streams()
        zygote = launch.launch(launch.plan_of_this_process(), environ)
    except (OSError, RuntimeError):
        return  # the start of the runtime tries again, and reports the error
    _early, _file = zygote, _identity(zygote.control)
    _booted = dict(environ), launch.interpreter_flags()


def open_standard_streams() -> None:
    """Open /dev/null in place of standard streams that the shell has closed, as Go does.

    Otherwise the segment, say, would get descriptor 2, and reports would be written into it.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free descriptor is fd itself.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _program() -> list[str]:
    """Return the words by which Python runs this program; none at a prompt, in a notebook or for `-c`."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return ["-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]]
    script = getattr(main, "__file__", None)
    return [] if script is None else [script, *sys.argv[1:]]


def _script_path(words: Sequence[str]) -> list[str]:
    """Return sys.path as the script will find it."""
    if sys.flags.safe_path:
        return list(sys.path)
    script = words[0]
    if script == "-":
        first = ""
    elif script == "-m":
        first = os.getcwd()
    elif os.path.isdir(script):
        first = os.path.abspath(script)
    else:
        first = os.path.dirname(os.path.realpath(script))
    return [first, *sys.path[1:]]


# -- in the script's process ---------------------------------------------------------------------------------


def find() -> None:
    """Note the zygote that was started for this process, if any. Programs started from here do not inherit it."""
    global _early, _file
    text = sys._xoptions.pop(OPTION, None)
    if not isinstance(text, str):
        return
    numbers = text.split(".")
    if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
        return
    early = Zygote(*map(int, numbers))
    if _maker(early.control) == (os.getpid(), os.geteuid(), os.getegid()):
        os.set_inheritable(early.control, False)
        os.set_blocking(early.control, False)
        _early, _file = early, _identity(early.control)


def claim() -> Zygote | None:
    """Return the early zygote if it fits this process as it is now, else None; a second call returns None.

    The caller owns the zygote from then on."""
    global _booted
    from goproc._proc import launch

    early = _take()
    if early is None:
        return None
    booted, _booted = _booted, None
    if booted is not None and booted != (dict(os.environ), launch.interpreter_flags()):
        give_up(early)
        return None
    made = _is_there(early) and _maker(early.control) == (os.getpid(), os.geteuid(), os.getegid())
    if made and _fits(early):
        return early
    give_up(early)
    return None


def leave() -> None:
    """Give the early zygote up: workers must not inherit its imports."""
    early = _take()
    if early is not None:
        give_up(early)


def _take() -> Zygote | None:
    global _early, _follower
    early, _early = _early, None
    follower, _follower = _follower, None
    if follower is not None:
        follower.end()
    return early


def give_up(early: Zygote) -> None:
    """End the zygote."""
    import signal

    from goproc._proc import launch
    from goproc.shm import _keeper

    if _is_there(early):
        maker = _maker(early.control)
        os.close(early.control)
        if maker is None or maker[0] != os.getpid():
            return  # this process is a child of the zygote's owner
    elif _keeper.ended(early.keeper) is not None:
        return  # this process is such a child, or the zygote has ended
    _keeper.hold_sigchld()
    try:
        os.kill(early.pid, signal.SIGKILL)
    except (PermissionError, ProcessLookupError):
        pass  # the zygote has ended, or ends by itself, now that the socket is closed
    launch.wait_for_end(early, 1.0)
    _keeper.release_sigchld()


def _is_there(early: Zygote) -> bool:
    """True if the control socket is still open: the program may have closed it."""
    try:
        return _identity(early.control) == _file
    except OSError:
        return False


def _identity(fd: int) -> tuple[int, int]:
    facts = os.fstat(fd)
    return facts.st_dev, facts.st_ino


def _maker(fd: int) -> tuple[int, ...] | None:
    """Return the process, user and group that made a socket pair like the zygote's; None for any other ``fd``."""
    import _socket
    import struct

    try:
        sock = _socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        if (sock.family, sock.type) != (_socket.AF_UNIX, _socket.SOCK_SEQPACKET):
            return None
        credentials = struct.Struct("3i")
        return credentials.unpack(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, credentials.size))
    except OSError:
        return None
    finally:
        sock.detach()


def _fits(zygote: Zygote) -> bool:
    """True if the zygote lives, in this process's session and group, and has its limits, CPUs and priority now.

    Where a limit is too low for it, the zygote that is started instead raises an error that names the limit.
    """
    import resource

    from goproc.shm import _keeper

    pid = zygote.pid
    try:
        if _keeper.ended(zygote.keeper) is not None:
            return False
        if (os.getsid(pid), os.getpgid(pid)) != (os.getsid(0), os.getpgid(0)):
            return False
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _DESCRIPTORS:
            return False
        _align(pid)
    except OSError:
        return False
    return True


def _align(pid: int) -> None:
    import resource

    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            number = getattr(resource, name)
            limits = resource.getrlimit(number)
            if resource.prlimit(pid, number) != limits:
                resource.prlimit(pid, number, limits)
    cpus = os.sched_getaffinity(0)
    if os.sched_getaffinity(pid) != cpus:
        os.sched_setaffinity(pid, cpus)
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    if os.getpriority(os.PRIO_PROCESS, pid) != priority:
        os.setpriority(os.PRIO_PROCESS, pid, priority)
