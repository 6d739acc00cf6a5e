"""Starting the zygote, and telling it to fork: the host's side of zygote.py.

The zygote is started with a plan, which holds the facts that are known before the script runs. The order to fork comes
later, or at once, and carries the rest (Config) with the descriptors that the workers inherit.

Every host imports this file, so only builtin modules stand at the top.
"""

from __future__ import annotations

import marshal
import os
import sys

from goproc._isolation import beside, loaded, search_path
from goproc._proc.early import OPTION, Zygote
from goproc._proc.letters import CONTINUE, END, FOLDER, ORDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from goproc._proc import interpreter
    from goproc._proc.plans import Config, Plan

_ENTRY = "goproc._proc.worker:main"
# : Modules that ends and failures need. They are loaded before the program has code that fails: by then there may be no
# descriptor for an import, no memory, or no file, as after os.chroot().
FAILURES = [
    "goproc._pickling.failure",
    "goproc._pickling.advice",
    "goproc._pickling.diagnose",
    "goproc._pickling.class_pickler",
    "goproc._pickling.class_caches",
    "goproc._pickling.enumerations",
    "goproc._pickling.filling",
    "goproc._pickling.instances",
    "goproc._pickling.named",
    "goproc._pickling.structs",
    "goproc._proc.descendants",
    "_blake2",
]
# Modules that the entry point imports anyway, and modules that unpickling a function by value needs.
_PRELOAD = [
    "greenlet",
    "goproc._proc.worker",
    "goproc._sched.scheduler",
    "goproc._goroutine",
    "goproc._go",
    "goproc._wiring",
    "goproc._sched.loops",
    "goproc._group",
    "goproc._pickling.mapped",
    *FAILURES,
]

# The module by which the classes of the script travel: 10 ms, and 2.5 MB that the workers share
FOR_CLASSES = "cloudpickle"
_LARGEST_SCRIPT = 1 << 20  # bytes that are read to see whether there is a class

# sys.path is the host's before any module of goproc is looked up, so that goproc is found where the host found it.
BOOTSTRAP = (
    "import marshal, sys\n"
    "control, source, *order = map(int, sys.argv[1:])\n"
    "with open(source, 'rb') as file: plan = marshal.load(file)\n"
    "sys.path[:], sys.argv[:] = plan['path'], plan['argv']\n"
    "from goproc._proc.zygote import main\n"
    "main(plan, control, order)"
)


def host_config(
    procs: int,
    pinning: Sequence[int | None],
    extra: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    settings: interpreter.Settings | None = None,
) -> Config:
    """Return the configuration of this process's workers.

    Args:
        procs: the number of processes, the host included.
        pinning: the CPU of each proc, or None (topology.plan_pinning).
        extra: plain values (those that marshal takes) for the worker's own use, found in ``config["extra"]``.
        environ: the environment the workers will have; os.environ when left out.
        settings: the settings of the interpreter that the workers are to have.
    """
    preload = list(_PRELOAD)
    if _has_classes():
        preload.append(FOR_CLASSES)
    # The key by which a process proves to a multiprocessing.Manager that it belongs to the program.
    multiprocessing = loaded("multiprocessing.process")
    authkey = bytes(multiprocessing.current_process().authkey) if multiprocessing else b""
    if authkey:
        preload.append("multiprocessing.process")
    codecs: list[tuple[str, str] | None] = []
    for stream in (sys.__stdout__, sys.__stderr__):
        known = stream is not None and not stream.closed and stream.encoding
        codecs.append((str(stream.encoding), str(stream.errors or "strict")) if stream and known else None)
    return {
        "procs": procs,
        "pinning": list(pinning),
        "host_pid": os.getpid(),
        "path": _search_path(),
        "beside": beside(),
        "argv": _words(),
        "main": _main_attributes(),
        "interpreter": settings,
        "recursion_limit": sys.getrecursionlimit(),
        "codecs": codecs,
        "preload": preload,
        "entry": _ENTRY,
        "zygote_pid": 0,
        "keeper_pid": 0,
        "zygote": 1,
        "ends_with_keeper": True,
        "adopted": [],
        "crashes": -1,
        "authkey": authkey,
        "surroundings": {
            "environ": dict(os.environ if environ is None else environ),
            "umask": _umask(),
            "ignored": _ignored_signals(),
            "flags": interpreter_flags(),
            "origins": origins(),
        },
        "extra": dict(extra or {}),
    }


def _has_classes() -> bool:
    """Return True if classes of this program are likely to travel by value, or if cloudpickle is loaded anyway."""
    main = sys.modules.get("__main__")
    if loaded(FOR_CLASSES) is not None or getattr(main, "__file__", None) is None:
        return True
    values = list(vars(main).values())
    return any(
        issubclass(type(value), type) and value.__dict__.get("__module__") == "__main__" for value in values
    )


def _may_have_classes(words: Sequence[str]) -> bool:
    """Return False if the source of a program has no class statement. The program is as plan() has it."""
    if not words or words[0] in ("-", "-m"):
        return True
    try:
        with open(words[0], "rb") as file:
            return b"class " in file.read(_LARGEST_SCRIPT)
    except OSError:
        return True


def plan(path: Sequence[str], words: Sequence[str], flags: Sequence[str]) -> Plan:
    """Return the plan of a zygote that is started beside the script.

    Args:
        path: sys.path as the script will find it.
        words: the words of the script's command line, after Python's own options; none where there is no script.
        flags: Python's own options.
    """
    return {
        "path": list(path),
        "beside": None,
        "argv": list(words[1:] if words[:1] == ["-m"] else words),
        "flags": list(flags),
        "preload": [*_PRELOAD, FOR_CLASSES] if _may_have_classes(words) else _PRELOAD,
        "program": list(words),
        "statements": [],
        "follow": -1,
        "early": True,
    }


def plan_of_this_process() -> Plan:
    """Return the plan of a zygote whose order to fork comes as soon as this process is ready."""
    preload = [*_PRELOAD, FOR_CLASSES] if _has_classes() else _PRELOAD
    return _simple_plan(_search_path(), _words(), interpreter_flags(), preload)


def _simple_plan(path: list[str], argv: list[str], flags: list[str], preload: list[str]) -> Plan:
    return {
        "path": path,
        "beside": beside(),
        "argv": argv,
        "flags": flags,
        "preload": preload,
        "program": [],
        "statements": [],
        "follow": -1,
        "early": False,
    }


def _search_path() -> list[str]:
    return [str(entry) for entry in search_path() if isinstance(entry, (str, os.PathLike))]


def _words() -> list[str]:
    return [str(word) for word in getattr(sys, "argv", [""])]


def launch_and_order(config: Config, memfd: int, lifelines: Sequence[int] = ()) -> Zygote:
    """Start the zygote. Return as soon as it exists; the workers report as STARTED once they run.

    Args:
        config: from host_config().
        memfd: the segment.
        lifelines: as order() has them.

    Returns:
        The zygote. The caller owns and closes the control socket, which is non-blocking and close-on-exec, and calls
        wait_for_end() in the end (or the keeper stays behind as a zombie).

    Raises:
        OSError: there is no process, descriptor or memory to be had.
        RuntimeError: Python does not know its own executable (it is embedded in another program).

    Cost: about 1 ms here; the zygote itself needs some 60 ms to import and then 1 ms a worker.
    """
    surroundings = config["surroundings"]
    start = _simple_plan(config["path"], config["argv"], surroundings["flags"], config["preload"])
    zygote = launch(start, surroundings["environ"])
    try:
        order(zygote, config, memfd, lifelines)
    except OSError:
        os.close(zygote.control)
        wait_for_end(zygote, None)
        raise
    return zygote


def launch(plan: Plan, environ: Mapping[str, str], quiet: bool = False) -> Zygote:
    """Start a zygote that waits for the order to fork. Returns and raises as launch_and_order() does.

    Args:
        quiet: give the zygote no standard streams before the order brings them, so that its imports print nothing.
    """
    # `socket` and `threading` take milliseconds to import, and the whole command line waits for this.
    import _socket
    import _thread

    from goproc._proc.topology import blas_defaults
    from goproc.shm import _keeper

    executable = sys.executable
    if not executable:
        raise RuntimeError(
            "goproc cannot start workers: sys.executable is empty (embedded Python); set it first"
        )
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    source = -1
    try:
        ours.setblocking(False)
        source = memory_file(marshal.dumps(plan))  # type: ignore[arg-type]
        variables = {**environ, **blas_defaults(environ)}
        pid, keeper = _keeper.spawn(
            os.fsencode(executable),
            _encoded([executable, *plan["flags"], "-c", BOOTSTRAP, "3", "4"]),
            _encoded(f"{name}={value}" for name, value in variables.items()),
            theirs.fileno(),
            source,
            # The workers do not inherit descriptors that the shell gave the host to inherit: they would keep pipes
            # open.
            tuple(inheritable()),
            max(open_descriptors(), default=1 << 16),
            # A closed stream is opened, too: the next file that is opened there would be taken for the stream.
            sum(1 << fd for fd in (0, 1, 2) if quiet or not _is_passed_on(fd)),
            _thread.get_native_id() != os.getpid(),  # a thread other than main may end
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if source >= 0:
            os.close(source)
    return Zygote(ours.detach(), pid, keeper)


def _encoded(words: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(map(os.fsencode, words))


def wait_for_end(zygote: Zygote, seconds: float | None) -> bool:
    """Wait for the end of a zygote that was told to end. Return False if it lives on after some time."""
    import signal
    from time import monotonic, sleep

    from goproc.shm import _keeper

    limit = None if seconds is None else monotonic() + seconds
    if _keeper.ended(zygote.keeper) is not None:
        return True
    try:
        os.kill(zygote.keeper, signal.SIGCONT)  # a stopped keeper does not reap the zygote
    except PermissionError:
        pass  # the host has become somebody else
    while _keeper.ended(zygote.keeper) is None:
        if limit is not None and monotonic() > limit:
            return False
        sleep(0.0005)
    return True


def order(zygote: Zygote, config: Config, memfd: int, lifelines: Sequence[int] = ()) -> None:
    """Tell the zygote to fork the workers.

    Args:
        zygote: from launch().
        config: from host_config().
        memfd: the segment.
        lifelines: descriptors for CONTINUE and END, or none (shm/proc/lifeline.c).

    Raises:
        OSError: the zygote has ended (BrokenPipeError, ConnectionResetError, ProcessLookupError); no descriptor or
            memory to be had.
    """
    import _socket
    import signal
    import struct

    opened: list[int] = []
    sock = _socket.socket(fileno=zygote.control)
    try:
        opened.append(memory_file(marshal.dumps(config)))  # type: ignore[arg-type]
        named = {fd: fd for fd in (0, 1, 2) if _is_open(fd)}
        try:
            opened.append(os.open(".", os.O_PATH | os.O_CLOEXEC))
            named[FOLDER] = opened[-1]
        except OSError:
            # This user may not enter the folder any more; the zygote keeps the folder in which it was started.
            pass
        named.update(zip((CONTINUE, END), lifelines, strict=False))
        passed = [memfd, opened[0], *named.values()]
        rights = struct.pack(f"{len(passed)}i", *passed)
        sock.sendmsg(
            [ORDER + bytes(named)],
            [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)],
            _socket.MSG_NOSIGNAL,
        )
    finally:
        sock.detach()
        for fd in opened:
            os.close(fd)
    # The zygote may be in the middle of an import: see preload.py. Before its first import the signal has no effect.
    os.kill(zygote.pid, signal.SIGURG)


def interpreter_flags() -> list[str]:
    """Return the options to start a Python that behaves like this one: ``-O``, ``-W``, ``-X``, ``-I`` and so on.

    Options that only select the program or its mode (``-c``, ``-m``, ``-i``, ``-u``) are not among them.
    """
    flags = sys.flags
    words: list[str] = []
    letters = {"b": flags.bytes_warning, "d": flags.debug, "O": flags.optimize, "v": flags.verbose}
    letters |= {"B": flags.dont_write_bytecode, "S": flags.no_site, "q": flags.quiet}
    if flags.isolated:
        letters["I"] = 1
    else:
        letters |= {"E": flags.ignore_environment, "s": flags.no_user_site, "P": int(flags.safe_path)}
    words += ["-" + letter * min(int(count), 3) for letter, count in letters.items() if count]
    for name, value in sys._xoptions.items():
        if name not in ("importtime", OPTION):  # these are meant for the program, not for the zygote
            words += ["-X", name if value is True else f"{name}={value}"]
    for option in sys.warnoptions:
        words.append(f"-W{option}")
    return words


def origins() -> dict[str, str | None]:
    """Return the files of this process's top-level modules, without __main__.

    multiprocessing enters __main__ a second time, as __mp_main__.
    """
    found = {}
    main = sys.modules.get("__main__")
    for name, module in list(sys.modules.items()):
        if "." not in name and module is not main:
            try:
                origin = module.__spec__.origin  # type: ignore[union-attr]
            except Exception:  # no spec, or an object of a class of its own
                origin = None
            found[name] = origin if isinstance(origin, str) else None
    return found


def _main_attributes() -> dict[str, str | None]:
    module = sys.modules.get("__main__")
    found = {
        "file": getattr(module, "__file__", None),
        "doc": getattr(module, "__doc__", None),
        "package": getattr(module, "__package__", None),
        "spec": getattr(getattr(module, "__spec__", None), "name", None),
    }
    return {name: value if isinstance(value, str) else None for name, value in found.items()}


def _umask() -> int:
    """Return the umask without a moment in which another thread would create a file with a wrong one."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _ignored_signals() -> list[int]:
    import signal

    return [number for number in range(1, signal.NSIG) if signal.getsignal(number) is signal.SIG_IGN]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _is_passed_on(fd: int) -> bool:
    """True if programs that this process starts inherit the descriptor. A daemon may have used os.open() for it."""
    return _is_open(fd) and os.get_inheritable(fd)


def memory_file(data: bytes) -> int:
    """Return a descriptor from which ``data`` can be read. It takes any amount, unlike a pipe, and has no name."""
    try:
        # The second flag is MFD_NOEXEC_SEAL, which some systems demand.
        fd = os.memfd_create("goproc-config", os.MFD_CLOEXEC | 0x8)
    except OSError:
        fd = os.memfd_create("goproc-config", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return []


def inheritable() -> list[int]:
    found = []
    for fd in open_descriptors():
        try:
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
        except OSError:  # the descriptor that listdir itself used
            continue
    return found
