"""The zygote until it forks: it imports, waits for the order, and takes over the present state of the host.

`goproc run` starts the zygote beside the script (early.py). Until the script uses goproc, the zygote imports the
installed modules that the script imports (preload.py). Where there is no script, the host tells of its imports
(follow.py). The order to fork describes the host as it is then: its folder, its standard streams and so on. If an import
has started a thread, or the environment has changed since, the zygote begins again by exec.
"""

from __future__ import annotations

import marshal
import os
import struct
import sys

from goproc._proc.letters import CONTINUE, END, FOLDER, FOLLOW, ORDER

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import NoReturn

    from goproc._proc.plans import Config, Plan
    from goproc._proc.preload import Importer, Statement

# Prefixes of the variables that Python itself or the C library reads
_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")


class Beginning:
    """The zygote until it forks: it imports, waits for the order, and takes over the present state of the host."""

    def __init__(self, plan: Plan, control: int) -> None:
        self.plan = plan
        self.control = control
        self.environ = dict(os.environ)  # as it was before any import could change it
        self.importer: Importer | None = None
        # The socket that brings the names of modules which the host imports, or -1; the part of a name that has come.
        self._names = plan["follow"]
        self._part = b""
        self._base: set[str] = set()  # modules that import_base() has loaded: they are no risk

    def import_base(self) -> None:
        import gc

        from goproc import _isolation
        from goproc._proc import inherited

        _isolation.follow(self.plan["beside"])
        early = bool(self.plan["early"])
        if early:
            # The zygote may be killed at any time, and the script writes the same files.
            sys.dont_write_bytecode = True
        inherited.install()
        gc.disable()  # there is nothing to collect, and looking for it takes a fifth of the time
        import_all(self.plan["preload"])
        # Now, after inherited.install(): `loops` keeps functions that this replaces.
        from goproc._sched import loops

        loops.watch()
        if early:
            from goproc._proc import host, preload, worker

            host.forbid()
            if self.plan["program"]:
                self.importer = preload.of_program(self.plan["program"])
            else:
                self.importer = preload.of_statements(self.plan["statements"])
                self.importer.open = True
            self.importer.on_finished = worker.reseed
            self.importer.watch()
        self._base = set(sys.modules)

    def wait_for_order(self) -> tuple[int, ...]:
        """Import the script's modules until the order comes; return the order, or nothing if the host is gone."""
        import select

        while True:
            poll = select.poll()
            for fd in (self.control, self._names):
                if fd >= 0:
                    poll.register(fd, select.POLLIN)
            busy = self.importer is not None and self.importer.busy
            ready = [fd for fd, _ in poll.poll(0 if busy else None)]
            if self.control in ready:
                text, fds = self._receive()
                if text[:1] != FOLLOW or not fds:
                    return self._take_order(text, fds)
                self._names = fds[0]
            elif ready:
                self._read_names()
            if self.importer is not None:
                self.importer.work()
                if self.importer.unfit:
                    self._begin_again(self.environ, self.importer.done, ())

    def _receive(self) -> tuple[bytes, list[int]]:
        """Read a message and the descriptors that come with it; return nothing if the host is gone."""
        import _socket

        sock = _socket.socket(fileno=self.control)
        integer = struct.Struct("i")
        try:
            text, rights, flags, _ = sock.recvmsg(
                64, _socket.CMSG_SPACE(8 * integer.size), _socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return b"", []
        finally:
            sock.detach()
        if flags & _socket.MSG_CTRUNC:  # the kernel has passed only the descriptors that there was room for
            limit = os.sysconf("SC_OPEN_MAX")
            raise OSError(24, f"Too many open files: RLIMIT_NOFILE (ulimit -n) is {limit}; raise it")
        data = rights[0][2] if rights else b""
        return text, [fd for (fd,) in integer.iter_unpack(data[: len(data) // integer.size * integer.size])]

    def _take_order(self, text: bytes, fds: Sequence[int]) -> tuple[int, ...]:
        """Take over the standard streams and the folder that come with the order; return its other descriptors."""
        if text[:1] != ORDER or not fds:
            return ()
        memfd, source, *rest = fds
        named = dict(zip(text[1:], rest, strict=False))
        lifelines = [named.pop(name) for name in (CONTINUE, END) if name in named]
        folder = [named.pop(FOLDER)] if FOLDER in named else []
        _take_over(named, folder)
        return memfd, source, *lifelines

    def _read_names(self) -> None:
        """Read names of modules that the host imports, each with a line end."""
        from goproc._proc import imports

        data = os.read(self._names, 1 << 16)
        *lines, self._part = (self._part + data).split(b"\n")
        if not data:
            os.close(self._names)
            self._names = -1
        if self.importer is not None:
            self.importer.add(imports.of_names([line.decode("utf-8", "surrogatepass") for line in lines]))

    def obey(self, order: Sequence[int]) -> Config:
        """Return the configuration of workers once this process is fit to fork them, or begin again by exec."""
        import gc

        from goproc._proc import launch

        source = order[1]
        with open(os.dup(source), "rb") as file:
            file.seek(0)
            config: Config = marshal.load(file)
        _set_ignored(config["surroundings"]["ignored"])
        os.umask(config["surroundings"]["umask"])
        if self._names >= 0:
            os.close(self._names)
            self._names = -1
        if self.importer is not None:
            if not self._fits(config):
                self.plan["flags"] = config["surroundings"]["flags"]
                self.plan["path"], self.plan["argv"] = config["path"], config["argv"]
                self.plan["beside"] = config["beside"]
                self._begin_again(config["surroundings"]["environ"], (), order)
            self.importer.unwatch()
            self.importer.prepare_fork()
        os.close(source)
        sys.path[:], sys.argv[:] = config["path"], config["argv"]
        sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
        names = config["preload"]
        if self.importer is not None and not self.importer.over:
            # The script's imports have stopped in the middle. A worker that needs this module imports it by itself.
            names = [name for name in names if name != launch.FOR_CLASSES]
        import_all(names)
        # A collection in a worker must not write to the pages that it shares with the zygote, and so copy them. Nor is
        # there anything to collect here: a first look at all that was imported takes 5 ms.
        gc.freeze()
        gc.enable()
        return config

    def _fits(self, config: Config) -> bool:
        """True if the host's own imports would give the same modules now, and no thread was started."""
        from goproc import _isolation
        from goproc._proc import launch, preload

        surroundings = config["surroundings"]
        if not preload.forkable() or surroundings["flags"] != self.plan["flags"]:
            return False
        if config["beside"] != _isolation.beside():
            return False
        ours = launch.origins()
        theirs = surroundings["origins"]
        if any(name in ours and ours[name] != origin for name, origin in theirs.items()):
            return False
        if config["path"] != self.plan["path"]:
            tops = [name for name in ours if name not in self._base]
            if any(ours[name] != _found(name, config["path"]) for name in tops):
                return False
        return self._take_environment(surroundings["environ"])

    def _take_environment(self, environ: Mapping[str, str]) -> bool:
        """Make the host's environment that of this process; return False if an import may have seen another.

        A variable is the same if it has not changed since the start, or if the imports have set it here too.
        """
        from goproc._proc.topology import blas_defaults

        wanted = {**environ, **blas_defaults(environ)}
        changed = {
            name: wanted.get(name)
            for name in wanted.keys() | self.environ.keys()
            if wanted.get(name) not in (self.environ.get(name), os.environ.get(name))
        }
        if any(name.startswith(_READ_AT_START) for name in changed):
            return False
        tops = {name.partition(".")[0] for name in sys.modules.keys() - self._base}
        if changed and not tops <= {"goproc", *sys.stdlib_module_names}:
            return False
        for name, value in changed.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        return True

    def _begin_again(
        self, environ: Mapping[str, str], statements: Sequence[Statement], order: Sequence[int]
    ) -> NoReturn:
        """Become a new zygote, without any of the imports.

        Args:
            environ: the environment of the new zygote.
            statements: the imports that it makes ahead.
            order: as zygote.main() has it.
        """
        from goproc._proc import launch
        from goproc._proc.topology import blas_defaults

        if self.importer is not None:
            self.importer.unwatch()
        plan: Plan = {
            **self.plan,
            "program": [],
            "statements": [(statement.module, statement.names) for statement in statements],
            "early": self.plan["early"] and not order,
            "follow": -1 if order else self._names,
        }
        source = launch.memory_file(marshal.dumps(plan))  # type: ignore[arg-type]
        for fd in launch.inheritable():
            os.set_inheritable(fd, False)  # a descriptor that an import has left open
        for fd in (self.control, source, plan["follow"], *order):
            if fd >= 0:
                os.set_inheritable(fd, True)
        words = [*plan["flags"], "-c", launch.BOOTSTRAP, *map(str, (self.control, source, *order))]
        os.execve(sys.executable, [sys.executable, *words], {**environ, **blas_defaults(environ)})


def import_all(names: Iterable[str]) -> None:
    from importlib import import_module

    from goproc._isolation import isolated

    for name in names:
        try:
            with isolated:
                import_module(name)
        except Exception:
            if name.startswith("goproc."):
                raise
            # A module of the program's or of others: the goroutine that needs it gets the error.


def _take_over(streams: Mapping[int, int], folder: Sequence[int]) -> None:
    """Make descriptors the standard streams, and a folder, if given, the current one."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    for number, fd in streams.items():
        os.dup2(fd, number)
        os.close(fd)
    for fd in folder:
        os.fchdir(fd)
        os.close(fd)
    if sys.__stdout__ is not None:
        sys.__stdout__.reconfigure(line_buffering=os.isatty(1))


def _set_ignored(numbers: Sequence[int]) -> None:
    """Ignore the signals that the host ignores: workers inherit that."""
    import signal

    for number in range(1, signal.NSIG):
        ours = signal.getsignal(number)
        if number in numbers and ours is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
        elif number not in numbers and ours is signal.SIG_IGN and number not in (2, 3, 13):
            signal.signal(number, signal.SIG_DFL)


def _found(name: str, path: Sequence[str]) -> str | None:
    """Return the file that an import of a top-level module would take from a search path."""
    from importlib.machinery import PathFinder

    if name in sys.builtin_module_names:
        return "built-in"
    try:
        spec = PathFinder.find_spec(name, path)
    except (ImportError, ValueError):
        return None
    if spec is None and name in sys.stdlib_module_names:
        return "frozen"
    return spec.origin if spec is not None else None
