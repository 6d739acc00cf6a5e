"""Real programs for the tests: a script text, run as a user would, watched from outside.

A program is marked by a variable in its environment, which every process it starts inherits. So all of them are
found, whoever their parent is by then, and a test ends with the proof that none is left.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from starved import PAUSE, Patience

LIMIT = 30.0  # no program of ours runs longer, but for its waits for a CPU
LONGEST = 50.0  # with them; the watchdog of a test comes at 60 s
GONE = 1.0  # seconds after the end of a program in which the rest of it must be gone
_NOT_PASSED_ON = ("GOPROC_", "PYTEST_")
_MARK = "PROGRAM_UNDER_TEST"


class Done(NamedTuple):
    """A program that ended."""

    status: int  # as subprocess has it: negative for a signal
    out: str
    err: str
    seconds: float


def ok(done: Done) -> str:
    """The output of a program that ended well and had nothing to complain about."""
    assert (done.status, done.err) == (0, ""), done
    return done.out


class Process(NamedTuple):
    pid: int
    parent: int
    name: str


class _Tail:
    """The bytes that arrive on a pipe, collected by a thread so that the program never waits for us."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.data = bytearray()
        self._stream = stream
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while chunk := os.read(self._stream.fileno(), 1 << 16):
            with self._changed:
                self.data += chunk
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, text: str, patience: Patience) -> bool:
        found = text.encode()

        def has_come() -> bool:
            return self._ended or found in self.data

        with self._changed:
            while not self._changed.wait_for(has_come, PAUSE) and not patience.is_over():
                pass
            return found in self.data

    def finish(self, seconds: float) -> bool:
        self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        self._stream.close()
        return True


class Program:
    """A program that runs. Use `start`, which ends it at the end of the block, whatever happened."""

    def __init__(self, command: Sequence[str], cwd: Path, env: dict[str, str], **options: Any) -> None:
        self._mark = uuid.uuid4().hex
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("start_new_session", True)
        self._begun = time.monotonic()
        self.process = subprocess.Popen(command, cwd=cwd, env={**env, _MARK: self._mark}, **options)
        self.pid = self.process.pid
        self._tails = [
            _Tail(s) if s is not None else None for s in (self.process.stdout, self.process.stderr)
        ]

    # -- what it consists of

    def alive(self) -> list[Process]:
        """Every process of the program that has not ended; a zombie has."""
        wanted = f"{_MARK}={self._mark}".encode()
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if wanted not in file.read().split(b"\0"):
                        continue
                with open(f"/proc/{name}/stat") as file:
                    head, _, rest = file.read().rpartition(")")
            except OSError:  # it ended while we looked
                continue
            state, parent = rest.split()[:2]
            if state not in "ZX":
                found.append(Process(int(name), int(parent), head.partition("(")[2]))
        return found

    def zygote(self) -> int:
        """Pid of the zygote: the parent of the workers."""
        worker = self.worker(1)
        return next(p.parent for p in self.alive() if p.pid == worker)

    def worker(self, proc: int, seconds: float = 10.0) -> int:
        """Pid of a worker, waiting for it to exist."""
        end = time.monotonic() + seconds
        while True:
            for process in self.alive():
                if process.name == f"goproc-{proc}":
                    return process.pid
            assert time.monotonic() < end, f"proc {proc} did not start: {self.alive()}, {self.texts()}"
            time.sleep(0.005)

    # -- talking to it

    def wait_for(self, text: str, where: str = "out", seconds: float = 15.0) -> None:
        """Wait until it has written ``text`` to its standard output (or "err"). Waits for a CPU do not count."""
        tail, patience = self._tails[where == "err"], Patience(self._pids, seconds, LONGEST)
        assert tail is not None and tail.wait(text, patience), f"{text!r} did not come: {self.texts()}"

    def texts(self) -> tuple[str, str]:
        """Return the texts that the program has written so far: (output, errors)."""
        out, err = (t.data.decode("utf-8", "replace") if t is not None else "" for t in self._tails)
        return out, err

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Ctrl-C: a terminal sends SIGINT to every process of the group."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self, pid: int | None = None, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid if pid is None else pid, number)

    # -- its end

    def wait(self, seconds: float = LIMIT, gone: float = GONE) -> Done:
        """Wait for its end, and prove that nothing of it is left ``gone`` seconds later.

        Time in which its processes wait for a CPU does not count.
        """
        try:
            status = self._status(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"it did not end within {seconds} s: {self.alive()}, {self.texts()}{self._stacks()}"
            ) from None
        ended = time.monotonic()
        patience = Patience(self._pids, gone, LONGEST)
        looks = 0  # a machine so busy that we hardly get to look is no proof
        while (
            left := self.alive() or self.alive()
        ):  # one that forks and ends while we look hides its child once
            if patience.is_over() and looks > 20:
                raise AssertionError(f"left {gone} s after its end: {left}, {self.texts()}")
            looks += 1
            time.sleep(0.002 if looks < 20 else 0.02)
        for tail in self._tails:
            assert tail is None or tail.finish(5.0), f"somebody else holds a pipe: {self.texts()}"
        return Done(status, *self.texts(), ended - self._begun)

    def _status(self, seconds: float) -> int:
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:  # it has been waited for, or the kernel is an old one
            return self.process.wait(seconds)
        patience = Patience(self._pids, seconds, LONGEST)
        try:  # Popen.wait() looks every 50 ms: a third of what most programs take
            while not select.select([fd], [], [], min(PAUSE, seconds))[0]:
                if patience.is_over():
                    break
        finally:
            os.close(fd)
        return self.process.wait(0.01)

    def _pids(self) -> list[int]:
        return [process.pid for process in self.alive()]

    def _stacks(self) -> str:
        """Return the place of each process in the kernel: a word or two that says much about a hang."""
        lines = []
        for process in self.alive():
            try:
                with open(f"/proc/{process.pid}/wchan") as file:
                    lines.append(f"\n{process.name} {process.pid}: {file.read()}")
            except OSError:
                pass
        return "".join(lines)

    def close(self) -> None:
        self.process.kill()  # first: in the middle of its exec it has no environment yet to be found by
        for process in self.alive():
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        for tail in self._tails:
            if tail is not None:
                tail.finish(5.0)


def environment(**changes: str | None) -> dict[str, str]:
    """Our environment without what is set for goproc and by pytest; None removes a variable."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)}
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return env


def command(
    folder: Path,
    text: str,
    *words: str,
    procs: int | None = 2,
    how: str = "goproc",
    options: Sequence[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """Write ``text`` to script.py in ``folder``; return the command that runs it, and its environment.

    Args:
        how: "goproc" is ``goproc run script.py --procs N``, "python" is ``GOPROC_PROCS=N python script.py``.
        options: further options of ``goproc run`` or of Python.
    """
    script = folder / "script.py"
    draft = folder / "script.py.new"
    draft.write_text(textwrap.dedent(text))
    draft.replace(script)  # at once: a program started before may be about to read the same one
    if how == "goproc":
        count = [] if procs is None else ["--procs", str(procs)]
        return [sys.executable, "-m", "goproc", "run", str(script), *count, *options, *words], environment()
    count_env = {} if procs is None else {"GOPROC_PROCS": str(procs)}
    return [sys.executable, *options, str(script), *words], environment(**count_env)


@contextmanager
def start(
    folder: Path,
    text: str,
    *words: str,
    procs: int | None = 2,
    how: str = "goproc",
    options: Sequence[str] = (),
    env: dict[str, str | None] | None = None,
    cwd: Path | None = None,
    **popen: Any,
) -> Iterator[Program]:
    """Run a script and give the running Program. See `command` for the arguments."""
    line, variables = command(folder, text, *words, procs=procs, how=how, options=options)
    with start_command(line, cwd or folder, variables, env, **popen) as program:
        yield program


@contextmanager
def start_command(
    line: Sequence[str],
    cwd: Path,
    variables: dict[str, str],
    env: dict[str, str | None] | None = None,
    **popen: Any,
) -> Iterator[Program]:
    for name, value in (env or {}).items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = value
    program = Program(line, cwd, variables, **popen)
    try:
        yield program
    finally:
        program.close()


def run(
    folder: Path, text: str, *words: str, gone: float = GONE, limit: float = LIMIT, **options: Any
) -> Done:
    """Run a script to its end. See `start` for the arguments; ``stdin`` may be a text."""
    stdin = options.get("stdin")
    if not isinstance(stdin, str):
        with start(folder, text, *words, **options) as program:
            return program.wait(limit, gone)
    with tempfile.TemporaryFile() as file:
        file.write(stdin.encode())
        file.seek(0)
        options["stdin"] = file
        with start(folder, text, *words, **options) as program:
            return program.wait(limit, gone)


def eventually(check: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Return True if ``check`` becomes true in time, or at one of the first looks, each of which may take long."""
    end = time.monotonic() + seconds
    looks = 1
    while not check():
        if time.monotonic() > end and looks >= 10:
            return False
        looks += 1
        time.sleep(0.005)
    return True


#: What the fixtures `run` and `start` give: the functions above, in a folder of the test's own.
Run = Callable[..., Done]
Start = Callable[..., AbstractContextManager[Program]]
