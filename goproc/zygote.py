"""The zygote: a small single-threaded process that forks the workers.

Things that don't work:

- Forking the user's process. It has threads (ours, BLAS, a notebook kernel), and a lock that one of them
  holds at that moment stays locked in the child for ever.
- Starting every worker with exec. Each would import Python, greenlet and cloudpickle anew, 60 ms of CPU a
  worker.

So the host starts one process with posix_spawn (no code of the user's runs between fork and exec), which
imports what workers need, once, and forks them: under a millisecond each, and its memory is shared with them.
It never maps the segment, starts no thread and runs nothing of the user's.

It is also the workers' parent: they ask the kernel to die with it (PDEATHSIG), it reaps them and tells the
host of each death. It must not outlive the host either, which it sees in two ways: a pidfd of the host (the
sure one), and the end of the control socket (kept open by any child the user forked, hence only the second).

    host ----------------- control, SOCK_SEQPACKET --------------- zygote ---- worker 1 .. N-1
         b"Q": quit                  <IIii (kind, proc, pid, value)

This file is imported by every host, so only builtin modules at the top.
"""

from __future__ import annotations

import marshal
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, NoReturn, TypedDict

    class Config(TypedDict):
        """What the host tells the zygote and every worker: plain values only, it travels by marshal."""

        procs: int  # how many processes, the host included
        pinning: list[int | None]  # CPU of each proc
        host_pid: int
        path: list[str]  # sys.path
        argv: list[str]  # sys.argv
        recursion_limit: int
        codecs: list[tuple[str, str] | None]  # (encoding, errors) of stdout and stderr
        preload: list[str]  # modules to import before the first fork; those that fail are skipped
        entry: str  # module:function that is a worker's life, called with (proc, config, memfd)
        zygote_pid: int  # filled in by the zygote
        authkey: bytes  # of multiprocessing, if the host has loaded it
        extra: dict[str, Any]  # the runtime's own


STARTED, DIED, FORK_FAILED = 1, 2, 3
RECORD = struct.Struct("<IIii")
QUIT = b"Q"
GRACE = 0.2  # seconds between SIGTERM and SIGKILL

_ENTRY = "goproc.worker:main"
# What the entry point imports anyway, and what unpickling a function by value needs.
_PRELOAD = ["greenlet", "cloudpickle", "goproc.worker", "goproc.scheduler", "goproc.goroutine", "goproc.host"]
# Slow to import, certain to start no thread and to do nothing else when imported: worth having before the
# fork if the host has them. Nothing of the user's belongs here, it could do anything.
_SAFE = ["numpy"]

# The host's sys.path is there before anything of ours is looked up: goproc is found where the host found it.
_BOOTSTRAP = (
    "import marshal, os, sys\n"
    "control, memfd, source = map(int, sys.argv[1:])\n"
    "with open(source, 'rb') as file: config = marshal.load(file)\n"
    "sys.path[:], sys.argv[:] = config['path'], config['argv']\n"
    "from goproc.zygote import main\n"
    "main(config, control, memfd)"
)


# -- the host's side -----------------------------------------------------------------------------------------


def host_config(
    procs: int,
    pinning: Sequence[int | None],
    extra: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The configuration of this process's workers.

    Args:
        procs: how many processes, the host included.
        pinning: the CPU of each proc, or None (topology.plan_pinning).
        extra: plain values (what marshal takes) for the worker's own use, found in ``config["extra"]``.
        environ: the environment the workers will have; os.environ when left out.
    """
    from goproc.topology import blas_single_threaded

    preload = list(_PRELOAD)
    if blas_single_threaded(os.environ if environ is None else environ):
        preload += [name for name in _SAFE if name in sys.modules]
    # By it a process proves to a multiprocessing.Manager that it belongs to the program.
    multiprocessing = sys.modules.get("multiprocessing.process")
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
        "path": [str(entry) for entry in sys.path if isinstance(entry, (str, os.PathLike))],
        "argv": [str(word) for word in getattr(sys, "argv", [""])],
        "recursion_limit": sys.getrecursionlimit(),
        "codecs": codecs,
        "preload": preload,
        "entry": _ENTRY,
        "zygote_pid": 0,
        "authkey": authkey,
        "extra": dict(extra or {}),
    }


def spawn(config: Config, memfd: int) -> tuple[int, int]:
    """Start the zygote. Returns as soon as it exists; the workers report as STARTED when they do.

    Args:
        config: from host_config().
        memfd: the segment.

    Returns:
        (control, pid): our end of the control socket, non-blocking and close-on-exec, which the caller owns
        and closes; and the zygote's pid, which the caller waits for when it ended (or it stays behind as a
        zombie).

    Raises:
        OSError: no process, descriptor or memory to be had.
        RuntimeError: Python does not know its own executable (it is embedded in another program).

    Cost: about 1 ms here; the zygote itself needs some 60 ms to import and then 1 ms a worker.
    """
    import _socket  # `socket` itself takes 6 ms to import
    import signal

    from goproc.topology import blas_defaults

    executable = sys.executable
    if not executable:
        raise RuntimeError(
            "goproc cannot start workers: sys.executable is empty (embedded Python); set it first"
        )
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:  # closed: or the next file anyone opens there would be taken for it
            actions.append((os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0))
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    source = -1
    try:
        ours.setblocking(False)
        source = _memory_file(marshal.dumps(config))  # type: ignore[arg-type]
        passed = [theirs.fileno(), memfd, source]
        # Descriptors the shell handed us to inherit are no business of the workers: they would keep pipes
        # open.
        actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable() if fd not in passed]
        # dup2 clears close-on-exec, but not always when both numbers are the same: so three others.
        free = [fd for fd in range(3, 9) if fd not in passed][:3]
        actions += [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in zip(passed, free, strict=True)]
        command = [executable, *interpreter_flags(), "-c", _BOOTSTRAP, *map(str, free)]
        pid = os.posix_spawn(
            executable,
            command,
            {**os.environ, **blas_defaults(os.environ)},
            file_actions=actions,
            # Blocked until the zygote ignores it: or a Ctrl-C while it imports would print a traceback.
            setsigmask=[signal.SIGINT, signal.SIGQUIT],
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if source >= 0:
            os.close(source)
    return ours.detach(), pid


def interpreter_flags() -> list[str]:
    """The options to start a Python that behaves like this one: ``-O``, ``-W``, ``-X``, ``-I`` and so on.

    Those that only concern how a program is run (``-c``, ``-m``, ``-i``, ``-u``) are not among them.
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
        if name != "importtime":  # meant for the program, not for us
            words += ["-X", name if value is True else f"{name}={value}"]
    for option in sys.warnoptions:
        words.append(f"-W{option}")
    return words


def _memory_file(data: bytes) -> int:
    """A descriptor to read ``data`` from: holds any amount, unlike a pipe or a datagram, and has no name."""
    try:
        fd = os.memfd_create(
            "goproc-config", os.MFD_CLOEXEC | 0x8
        )  # MFD_NOEXEC_SEAL, demanded on some systems
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


def _inheritable() -> list[int]:
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return []
    found = []
    for name in names:
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:  # the one listdir itself had open
            continue
    return found


# -- the zygote's side ---------------------------------------------------------------------------------------


def main(config: Config, control: int, memfd: int) -> NoReturn:
    """The life of the zygote: import, fork, then watch until the workers have gone. Does not return."""
    status = 70
    try:
        status = _Zygote(config, control, memfd).run()
    except BaseException:  # whatever it is, the workers die with us, and the host sees the socket close
        import traceback

        sys.stderr.write("goproc: the process that starts the workers failed:\n")
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


class _Zygote:
    def __init__(self, config: Config, control: int, memfd: int) -> None:
        self.config = config
        self.control = control
        self.memfd = memfd
        self.workers: dict[int, int] = {}  # pid -> proc, of those not reaped yet
        self.unsent: list[bytes] = []  # records the host has had no room for
        self.quit = False
        self.orphaned = False  # the host is gone

    def run(self) -> int:
        import gc
        import select
        import signal

        for number in (signal.SIGINT, signal.SIGQUIT):  # a terminal sends them to all; the host alone answers
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGQUIT])
        self.wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        signal.signal(signal.SIGTERM, _note)
        os.set_blocking(self.control, False)
        os.set_inheritable(self.control, False)
        os.set_inheritable(self.memfd, False)
        self.host = self._watch_host()

        self.config["zygote_pid"] = os.getpid()
        entry = self._import()
        gc.collect()
        gc.freeze()  # a collection in a worker must not write to, and so copy, the pages it shares with us
        for proc in range(1, self.config["procs"]):
            self._fork(proc, entry, (self.wake, wake_end))
        os.close(self.memfd)

        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        if self.host >= 0:
            poll.register(self.host, select.POLLIN)
        while not (self.quit or self.orphaned):
            self._send()
            if self.orphaned:
                break
            poll.modify(self.control, select.POLLIN | (select.POLLOUT if self.unsent else 0))
            for fd, event in poll.poll(None if self.host >= 0 else 500):
                if fd == self.wake:
                    self._signals()
                elif fd == self.host:
                    self.orphaned = True
                elif fd == self.control and event & ~select.POLLOUT:
                    self._orders()
            if self.host < 0 and os.getppid() != self.config["host_pid"]:
                self.orphaned = True
        if not self.orphaned:
            self._stop(signal.SIGTERM, GRACE)
        self._stop(signal.SIGKILL, None)
        return 0

    def _watch_host(self) -> int:
        """A pidfd of the host, or -1 (old kernel, sandbox): then we look once in a while."""
        pid = self.config["host_pid"]
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.orphaned = True
            return -1
        except OSError:
            fd = -1
        if os.getppid() != pid:  # it died before, and the pidfd may be another process's
            self.orphaned = True
        return fd

    def _import(self) -> Callable[[int, Config, int], object]:
        import gc
        from importlib import import_module

        gc.disable()  # nothing to collect, and it is a fifth of the time
        module, _, function = self.config["entry"].partition(":")
        for name in self.config["preload"]:
            if self.orphaned:
                break
            try:
                import_module(name)
            except Exception:
                if name == module or name.startswith("goproc."):
                    raise
                # Somebody else's module: the goroutine that needs it gets the error.
        entry: Callable[[int, Config, int], object] = getattr(import_module(module), function)
        gc.enable()
        return entry

    def _fork(self, proc: int, entry: Callable[[int, Config, int], object], pipe: Iterable[int]) -> None:
        if self.orphaned:
            return
        import signal

        # A signal that hit the child before it let go of our wake-up pipe would be taken for one of ours.
        block = (signal.SIGTERM, signal.SIGCHLD)
        signal.pthread_sigmask(signal.SIG_BLOCK, block)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(proc, entry, pipe)
        except OSError as error:
            self.unsent.append(RECORD.pack(FORK_FAILED, proc, 0, error.errno or 0))
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, block)
        self.workers[pid] = proc
        self.unsent.append(RECORD.pack(STARTED, proc, pid, 0))
        self._send()  # at once: the first worker can have work while we fork the second

    def _become_worker(
        self, proc: int, entry: Callable[[int, Config, int], object], pipe: Iterable[int]
    ) -> NoReturn:
        import signal

        status = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD, signal.SIGTERM))
            for fd in (self.control, self.host, *pipe):
                if fd >= 0:
                    os.close(fd)
            entry(proc, self.config, self.memfd)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _signals(self) -> None:
        import signal

        try:
            numbers = os.read(self.wake, 4096)
        except BlockingIOError:
            return
        if signal.SIGTERM in numbers:
            self.quit = True
        self._reap()

    def _reap(self) -> None:
        """Collect every worker that ended, and put its death in the queue for the host."""
        while self.workers:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            proc = self.workers.pop(pid, None)
            if proc is not None:
                self.unsent.append(RECORD.pack(DIED, proc, pid, status))

    def _orders(self) -> None:
        while True:
            try:
                order = os.read(self.control, 64)
            except BlockingIOError:
                return
            except OSError:
                order = b""
            if order == QUIT:
                self.quit = True
                return
            if not order:
                self.orphaned = True
                return

    def _send(self) -> None:
        """Send what the host has room for; never wait for it (it may be stopped, or busy for minutes)."""
        while self.unsent:
            try:
                os.write(self.control, self.unsent[0])
            except BlockingIOError:
                return
            except OSError:
                self.orphaned = True
                self.unsent.clear()
                return
            del self.unsent[0]

    def _stop(self, number: int, grace: float | None) -> None:
        """Send the workers a signal and reap them, for ``grace`` seconds (None: until all have gone).

        Once we are told to quit it no longer matters whether the host is there.
        """
        import time

        for pid in self.workers:
            try:
                os.kill(pid, number)
            except OSError:
                pass
        end = None if grace is None else time.monotonic() + grace
        while self.workers:
            self._reap()
            self._send()
            left = None if end is None else end - time.monotonic()
            if not self.workers or (left is not None and left <= 0):
                break
            self._doze(min(left, 0.1) if left is not None else 0.1)
        self._send()

    def _doze(self, seconds: float) -> None:
        import select

        if select.select([self.wake], [], [], seconds)[0]:
            os.read(self.wake, 4096)


def _note(number: int, frame: object) -> None:
    """Needed only for Python to write the signal's number to the wake-up descriptor."""
