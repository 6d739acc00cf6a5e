"""The zygote: a small single-threaded process that forks the workers.

Things that don't work:

- Forking the user's process. It has threads (ours, BLAS, a notebook kernel), and a lock that one of them
  holds at that moment stays locked in the child for ever.
- Starting every worker with exec. Each would load Python, greenlet and goproc anew, 60 ms of CPU a
  worker.

So the host starts one process, the zygote, with no code of the user's between fork and exec. The zygote imports what
workers need, once, and forks them: each fork takes under a millisecond, and the workers share its memory. The zygote
never maps the segment, starts no thread and runs no code of the user's.

Until it forks it imports what the program imports: boot.py.

The zygote is also the parent of the workers. They ask the kernel to die with it (PDEATHSIG); it reaps them and tells
the host of each death. The zygote must not outlive the host either. It sees the host's end by a pidfd of the host, and
by the end of the control socket (less surely: a child that the user forked keeps the socket open). Its own parent is
the keeper (shm/keeper/keeper.c), so that the program has no child that it did not start. If the zygote is stopped when
the host dies, the keeper continues it, or the kernel does (shm/proc/lifeline.c).

At the end (zygote_end.py) the zygote also ends the programs that goroutines have started and left (descendants.py). It
is a subreaper: the programs of a killed worker become its own children.

If the zygote itself dies, its workers go on, as children of the keeper. The host starts another zygote (number 2, 3,
...) and tells it of them. The new zygote signals them at the end; the coroner sees how they end. If the keeper dies,
the zygote goes on without a keeper, except with the policy `exit`.

    host ----------------- control, SOCK_SEQPACKET --------------- zygote ---- worker 1 .. N-1
         b"M": import what the host imports, with a descriptor (follow.py)
         b"G": fork, with descriptors   <IIii (kind, proc, pid, value)
         b"F" and a proc: fork a worker for its place
         b"W": answer, so that the coroner wakes
         b"Q": quit; b"I": quit, because of Ctrl-C
"""

from __future__ import annotations

import os
import sys

from goproc._proc import boot
from goproc._proc.letters import (
    DIED,
    FORK,
    FORK_FAILED,
    INTERRUPTED,
    MEMORY,
    QUIT,
    RECORD,
    STACK,
    STARTED,
    WAKE,
    WOKEN,
)

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from goproc._proc.plans import Config, Plan

PATIENCE = 2.0  # seconds for the fork of a replacement
AGAIN_MS = 50  # between two of its attempts
_KEPT_BYTES = 4 << 20  # a block of up to this size stays with the worker that has freed it
_AT_THE_END = ("resource", "goproc._proc.zygote_end")  # modules; os.wait4() imports the first


def main(plan: Plan, control: int, order: Sequence[int]) -> NoReturn:
    """Run the zygote: import, fork, then watch until the workers have gone. Does not return.

    Args:
        plan: the imports, and the settings of the host.
        control: the zygote's end of the control socket.
        order: the descriptors of the order to fork, if that has come already: the segment, the configuration, and,
            where there are lifelines, CONTINUE and END (shm/proc/lifeline.c).
    """
    status = 70
    try:
        status = _live(plan, control, order)
    except BaseException:
        # For any error: the workers die with the zygote, and the host sees the socket close.
        import traceback

        sys.stderr.write("goproc: the process that starts the workers failed:\n")
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _live(plan: Plan, control: int, order: Sequence[int]) -> int:
    import signal

    # A terminal sends these to all processes; the host alone answers them.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the keeper sends it when the host is dead
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGQUIT])
    os.set_blocking(control, False)
    for fd in (control, *order):
        os.set_inheritable(fd, False)
    beginning = boot.Beginning(plan, control)
    beginning.import_base()
    order = order or beginning.wait_for_order()
    if not order:
        return 0
    config = beginning.obey(order)
    return Zygote(config, control, order[0], order[2:]).run()


class Zygote:
    """The zygote from the first fork to its end."""

    def __init__(self, config: Config, control: int, memfd: int, lifelines: Sequence[int]) -> None:
        from goproc._proc import lifeline

        self.config = config
        self.control = control
        self.memfd = memfd
        self.to_continue = lifelines[0] if lifelines else -1
        self.lifeline = lifeline.Lifeline(lifelines[1] if lifelines else -1)
        self.workers: dict[int, int] = {}  # pid -> proc, of workers that are not reaped yet
        self.adopted: dict[int, int] = {}  # pid -> pidfd, of the workers of a zygote that died
        self.owed: dict[int, float] = {}  # proc -> until when its fork is tried again
        self.unsent: list[bytes] = []  # records that did not fit into the socket of the host
        self.quit = False
        self.interrupted = False
        self.orphaned = False  # the host has ended
        self.keeper = os.getppid()
        self.kept = True  # False: the keeper has died, and the zygote goes on
        self.searched: set[int] = set()  # workers that are killed here, once their programs have been found
        # True if another worker died, and not in order: programs that it had started may be left
        self.worker_died = False

    def run(self) -> int:
        self._begin()
        self._serve()
        from goproc._proc import zygote_end

        zygote_end.end(self)
        return 0

    def _begin(self) -> None:
        """Fork the workers, and prepare to serve."""
        import gc
        import signal

        from goproc._crashes import Crashes
        from goproc._proc.lifeline import continue_without_host
        from goproc.shm import _core, _keeper

        self.wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        signal.signal(signal.SIGTERM, _note)
        for number in (signal.SIGINT, signal.SIGQUIT):  # an import may have changed these
            signal.signal(number, signal.SIG_IGN)
        if self.to_continue >= 0:
            # from here on; the host may have died before
            continue_without_host(self.to_continue, self.control)
        self.host = self._watch_host()
        self.parent = _pidfd(self.keeper)
        _keeper.adopt_orphans()

        self.config["zygote_pid"] = os.getpid()
        self.config["keeper_pid"] = self.keeper if self.keeper != self.config["host_pid"] else 0
        self.adopted = {pid: fd for pid in self.config["adopted"] if (fd := _pidfd(pid)) >= 0}
        self.entry = self._entry()
        self.pipe = (self.wake, wake_end)
        self.crashes = Crashes()
        self.config["crashes"] = self.crashes.fd
        _core.keep_freed(_KEPT_BYTES)
        gc.freeze()  # again: see Beginning.obey()
        if self.config["zygote"] == 1:  # the coroner tells later zygotes which workers are missing
            for proc in range(1, self.config["procs"]):
                self._fork(proc)
        boot.import_all(_AT_THE_END)  # at the end there may be no descriptor to read a module with

    def _serve(self) -> None:
        """Obey the host, and tell it of deaths, until it quits or is gone."""
        import select

        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        for fd in (self.host, self.parent):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while not (self.quit or self.orphaned):
            self.send()
            if self.quit or self.orphaned:
                break
            poll.modify(self.control, select.POLLIN | (select.POLLOUT if self.unsent else 0))
            for fd, event in poll.poll(AGAIN_MS if self.owed else None if self.host >= 0 else 500):
                if fd == self.wake:
                    self._signals()
                elif fd == self.parent and self._goes_on_unkept():
                    poll.unregister(fd)
                elif fd in (self.host, self.parent):
                    self.orphaned = True
                elif fd == self.control and event & ~select.POLLOUT:
                    self._orders()
            for proc in list(self.owed):
                self._fork(proc)
            if self.host < 0 and not self._host_lives():
                self.orphaned = True

    def _watch_host(self) -> int:
        """Return a pidfd of the host, or -1 (old kernel, sandbox): the zygote then polls twice a second."""
        fd = _pidfd(self.config["host_pid"])
        if not self._host_lives():  # the host died before, and the pidfd may be another process's
            self.orphaned = True
        return fd

    def _goes_on_unkept(self) -> bool:
        """Return True if the zygote goes on although its keeper has died.

        The pidfd of the host alone tells of the host's end from then on.
        """
        gone = self.host_gone()
        if self.config["ends_with_keeper"] and not gone and not self.quit:
            self._hang_up()
        if self.config["ends_with_keeper"] or self.host < 0 or gone:
            return False
        self.kept = False
        self.config["keeper_pid"] = 0  # the next workers die with the zygote
        return True

    def _hang_up(self) -> None:
        """Close the socket: the host then reports the loss of the zygote, not that of a worker which is killed for it.

        The host kills the workers, too. The programs that they leave are children of this process.
        """
        os.close(self.control)
        self.control = -1
        self.unsent.clear()
        self.worker_died = True

    def _host_lives(self) -> bool:
        from goproc._proc import descendants

        if not self.kept:
            return not self.host_gone()
        host = self.config["host_pid"]
        parent = os.getppid()
        return parent == host or (parent == self.keeper and descendants.parent_of(parent) == host)

    def _entry(self) -> Callable[[int, Config, int], object]:
        from importlib import import_module

        module, _, function = self.config["entry"].partition(":")
        entry: Callable[[int, Config, int], object] = getattr(import_module(module), function)
        return entry

    def _fork(self, proc: int) -> None:
        if self.quit or self.orphaned:
            return
        import signal
        import warnings

        # A signal that hit the child before it closed the zygote's wake-up pipe would reach the zygote as its own.
        block = (signal.SIGTERM, signal.SIGCHLD)
        signal.pthread_sigmask(signal.SIG_BLOCK, block)
        pid = 0
        self.lifeline.prepare()
        try:
            # Python would warn of threads; here there are only those that preload.forkable() knows.
            with warnings.catch_warnings(action="ignore"):
                pid = os.fork()
            if pid == 0:
                self._become_worker(proc)
        except OSError as error:
            if not self._tries_again(proc):
                self.unsent.append(RECORD.pack(FORK_FAILED, proc, 0, error.errno or 0))
            return
        finally:
            self.lifeline.after_fork(pid)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, block)
        self.owed.pop(proc, None)
        self.workers[pid] = proc
        self.unsent.append(RECORD.pack(STARTED, proc, pid, 0))
        self.send()  # at once: the first worker can have work while the zygote forks the second

    def _tries_again(self, proc: int) -> bool:
        """Return True if a fork that has failed is tried once more: that of a replacement, for some time."""
        import time

        until = self.owed.get(proc, 0.0)
        if time.monotonic() < until:
            return True
        self.owed.pop(proc, None)
        return False

    def _become_worker(self, proc: int) -> NoReturn:
        import signal

        status = 70
        try:
            self.lifeline.hold()
            if self.to_continue >= 0:
                os.close(self.to_continue)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGURG, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD, signal.SIGTERM))
            for fd in (self.control, self.host, self.parent, *self.pipe, *self.adopted.values()):
                if fd >= 0:
                    os.close(fd)
            self.entry(proc, self.config, self.memfd)
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
            self.orphaned = not self._host_lives()
        self.reap()

    def reap(self) -> None:
        """Reap every worker that has ended, and queue a record of its death for the host."""
        from goproc._proc.zygote_end import may_leave_programs

        while self.workers:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            proc = self.workers.pop(ended.si_pid, None)
            if proc is not None and ended.si_pid not in self.searched:
                self.worker_died = self.worker_died or may_leave_programs(ended.si_pid, proc)
            pid, status, usage = os.wait4(ended.si_pid, 0)
            self.searched.discard(pid)
            if proc is not None:
                self.unsent.append(RECORD.pack(MEMORY, proc, pid, min(usage.ru_maxrss, 0x7FFFFFFF)))
                stack = self.crashes.stack(proc) if status & 0x7F else b""
                if stack:
                    self.unsent.append(RECORD.pack(STACK, proc, pid, 0) + stack)
                self.unsent.append(RECORD.pack(DIED, proc, pid, status))

    def _orders(self) -> None:
        import time

        while True:
            try:
                order = os.read(self.control, 64)
            except BlockingIOError:
                return
            except ConnectionResetError:
                # The host has left records unread; the next read gives the orders that it wrote before it closed its
                # end.
                continue
            except OSError:
                order = b""
            if order in (QUIT, INTERRUPTED):
                self.quit = True
                self.interrupted = order == INTERRUPTED
                return
            if order[:1] == FORK and len(order) == 2:
                self.owed[order[1]] = time.monotonic() + PATIENCE
                self._fork(order[1])
                continue
            if order == WAKE:
                self.unsent.append(RECORD.pack(WOKEN, 0, 0, 0))
                continue
            if not order:
                self.orphaned = True
                return

    def send(self) -> None:
        """Send records while the socket has room. Never wait for the host: it may be stopped, or busy for minutes."""
        while self.unsent:
            try:
                os.write(self.control, self.unsent[0])
            except BlockingIOError:
                return
            except OSError:  # the host has closed its end; if it did so in order, it has sent QUIT before
                self.unsent.clear()
                if not self.quit:
                    self._orders()
                return
            del self.unsent[0]

    def host_gone(self) -> bool:
        import select

        return self.host >= 0 and bool(select.select([self.host], [], [], 0)[0])


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _note(number: int, frame: object) -> None:
    """Do nothing: only with a handler does Python write the signal's number to the wake-up descriptor."""
