"""Output: whole lines, in order, from many processes and threads, and the manners of a TextIOWrapper."""

from __future__ import annotations

import ast
import errno
import fcntl
import io
import os
import pickle
import pty
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import goproc
from goproc._proc import line_output, stdio

ROOT = str(Path(goproc.__path__[0]).parent)
LIMIT = 20.0


def run_python(
    code: str, *flags: str, stdout: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": ROOT, "PYTHONIOENCODING": "utf-8"},
    )


class Pipe:
    """A stream that writes into a pipe, and what has come out of it."""

    def __init__(self) -> None:
        self.out, self.fd = os.pipe()
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.set_blocking(self.out, False)
        self.key: object = "main"
        self.lines = line_output.Lines(self.fd, lambda: self.key)
        self.stream = stdio.TextStream(self.lines, "<stdout>", "utf-8", "strict")

    def read(self) -> bytes:
        try:
            return os.read(self.out, 1 << 20)
        except BlockingIOError:
            return b""


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    memfd = os.memfd_create("lock")
    lock = os.open(f"/proc/self/fd/{memfd}", os.O_RDWR)
    monkeypatch.setattr(line_output, "_lock_fd", lock)
    one = Pipe()
    monkeypatch.setattr(line_output, "active", [one.lines])
    yield one
    for fd in (one.out, one.fd, lock, memfd):
        try:
            os.close(fd)
        except OSError:
            pass


# -- lines ---------------------------------------------------------------------------------------------------


def test_a_line_goes_out_with_its_newline(pipe: Pipe) -> None:
    print("a", 1, end="", file=pipe.stream)
    assert pipe.read() == b""
    print(file=pipe.stream)
    assert pipe.read() == b"a 1\n"


def test_text_after_a_newline_begins_the_next_line(pipe: Pipe) -> None:
    assert pipe.stream.write("one\ntwo\nthr") == 11
    assert pipe.read() == b"one\ntwo\n"
    pipe.stream.writelines(["ee", "\n", "", "four\n"])
    assert pipe.read() == b"three\nfour\n"
    assert pipe.lines.partial == {}


def test_each_goroutine_has_its_own_unfinished_line(pipe: Pipe) -> None:
    for word in ("alpha", "beta", "\n"):
        for pipe.key in (1, 2):
            pipe.stream.write(word)
    assert pipe.read() == b"alphabeta\nalphabeta\n"


def test_flush_is_for_the_goroutine_that_calls_it(pipe: Pipe) -> None:
    for pipe.key in (1, 2):
        pipe.stream.write(f"line of {pipe.key}")
    pipe.stream.flush()
    assert pipe.read() == b"line of 2"
    pipe.stream.flush()
    line_output.finish(1)
    assert pipe.read() == b"line of 1"
    line_output.finish(1)
    line_output.finish("never wrote")
    assert pipe.read() == b""


def test_flush_all(pipe: Pipe) -> None:
    for pipe.key in (3, 1, 2):
        pipe.stream.write(f"<{pipe.key}>")
    line_output.flush_all()
    assert pipe.read() == b"<3><1><2>"
    assert pipe.lines.partial == {}


def test_an_endless_line_does_not_fill_the_memory(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_output, "_MAX_PARTIAL", 10_000)
    for _ in range(5000):
        pipe.stream.write("12345")
    assert len(pipe.read()) >= 15_000
    pipe.stream.flush()
    pipe.read()
    pipe.stream.write("x")
    pipe.stream.write("y" * 65536)
    assert pipe.lines.partial == {} and pipe.read().startswith(b"xyy")


def test_bytes_and_text_share_the_line(pipe: Pipe) -> None:
    pipe.stream.write("text ")
    assert pipe.stream.buffer.write(b"bytes ") == 6
    pipe.stream.write("text\n")
    assert pipe.read() == b"text bytes text\n"
    assert pipe.stream.buffer.write(memoryview(bytearray(b"\x00\xff\n"))) == 3
    assert pipe.read() == b"\x00\xff\n"
    pipe.stream.buffer.write(b"end")
    pipe.stream.buffer.flush()
    assert pipe.read() == b"end"
    pipe.stream.buffer.raw.write(b"raw")
    assert pipe.read() == b"raw"
    with pytest.raises(TypeError, match="bytes-like"):
        pipe.stream.buffer.write("text")  # type: ignore[arg-type]


# -- a TextIOWrapper's manners -------------------------------------------------------------------------------


def test_attributes(pipe: Pipe) -> None:
    s = pipe.stream
    assert isinstance(s, io.TextIOBase) and isinstance(s.buffer, io.BufferedIOBase)
    assert (s.name, s.mode, s.encoding, s.errors, s.newlines) == ("<stdout>", "w", "utf-8", "strict", None)
    assert (s.fileno(), s.isatty(), s.closed, s.line_buffering, s.write_through) == (
        pipe.fd,
        False,
        False,
        True,
        False,
    )
    assert (s.readable(), s.writable(), s.seekable()) == (False, True, False)
    assert (s.buffer.name, s.buffer.mode, s.buffer.fileno(), s.buffer.writable()) == (
        "<stdout>",
        "wb",
        pipe.fd,
        True,
    )
    assert "<stdout>" in repr(s)
    with pytest.raises(TypeError, match="write\\(\\) argument must be str, not bytes"):
        s.write(b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be str, not int"):
        s.write(1)  # type: ignore[arg-type]
    for wrong in (s.read, s.detach, s.tell, lambda: s.seek(0), s.truncate):
        with pytest.raises(io.UnsupportedOperation):
            wrong()


def test_close(pipe: Pipe) -> None:
    pipe.stream.write("rest")
    pipe.stream.close()
    pipe.stream.close()
    assert pipe.read() == b"rest"
    assert pipe.stream.closed and pipe.stream.buffer.closed
    os.fstat(pipe.fd)
    for use in (lambda: pipe.stream.write("x"), pipe.stream.flush, lambda: pipe.stream.buffer.write(b"x")):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_reconfigure(pipe: Pipe) -> None:
    s = pipe.stream
    with pytest.raises(UnicodeEncodeError):
        s.write("\udcff\n")
    s.reconfigure(errors="surrogateescape")
    s.write("\udcff\n")
    assert pipe.read() == b"\xff\n"
    s.reconfigure(encoding="latin-1")
    assert (s.encoding, s.errors) == ("latin-1", "strict")
    s.write("\xe9\n")
    assert pipe.read() == b"\xe9\n"
    s.reconfigure(newline="\r\n")
    s.write("a\nb\n")
    assert pipe.read() == b"a\r\nb\r\n"
    s.reconfigure(newline="", encoding="utf-8", line_buffering=False)
    assert s.line_buffering
    s.reconfigure(write_through=True)
    s.write("now")
    assert pipe.read() == b"now" and s.write_through
    with pytest.raises(LookupError):
        s.reconfigure(encoding="no such")
    with pytest.raises(ValueError, match="newline"):
        s.reconfigure(newline="x")


def test_pickled_it_means_the_stream_of_the_other_side(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    data, raw = pickle.dumps(pipe.stream), pickle.dumps(pipe.stream.buffer)
    other = Pipe()
    monkeypatch.setattr(sys, "stdout", other.stream)
    assert pickle.loads(data) is other.stream
    assert pickle.loads(raw) is other.stream.buffer
    os.close(other.fd)
    os.close(other.out)


def test_broken_pipe_is_an_exception_once(pipe: Pipe) -> None:
    os.close(pipe.out)
    with pytest.raises(BrokenPipeError):
        pipe.stream.write("x\n")
    pipe.stream.write("x")
    line_output.flush_all()  # silent
    assert pipe.lines.partial == {}
    pipe.stream.write("x")
    line_output.finish("main")


def test_non_blocking_descriptor(pipe: Pipe) -> None:
    os.set_blocking(pipe.fd, False)
    os.set_blocking(pipe.out, True)
    text = "0123456789" * 50_000 + "\n"
    writer = threading.Thread(target=lambda: pipe.stream.write(text))
    writer.start()
    got = b""
    while len(got) < len(text):
        time.sleep(0.001)  # a slow reader
        got += os.read(pipe.out, 30_000)
    writer.join(LIMIT)
    assert got == text.encode()


def test_without_a_lock_it_still_writes(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_output, "_lock_fd", -1)
    pipe.stream.write("x\n")
    assert pipe.read() == b"x\n" and not pipe.lines.locked


# -- many writers --------------------------------------------------------------------------------------------

# Lines of 3 to 60 000 characters, so that the pipe (64 KiB) is full most of the time and long writes are cut
# up.
TORN = """
    import os, sys, threading
    from greenlet import getcurrent
    from goproc._proc import line_output, stdio
    memfd = os.memfd_create("x")
    procs, count = 6, 60
    def write(who):
        for i in range(count):
            size = (3, 500, 5000, 60000)[i % 4]
            print(who, i, str(who % 10) * size, sep="|")
            sys.stdout.write(f"{who}|"), sys.stdout.write("short|"), sys.stdout.write(str(who % 10) * 3 +
            "\\n")
    for proc in range(procs):
        if os.fork() == 0:
            stdio.install_worker(memfd, getcurrent)
            threads = [threading.Thread(target=write, args=(proc * 10 + t,)) for t in range(2)]
            [t.start() for t in threads], [t.join() for t in threads]
            line_output.flush_all()
            os._exit(0)
    for proc in range(procs):
        assert os.wait()[1] == 0
"""


def check_lines(data: bytes) -> None:
    lines = data.decode().split("\n")
    assert lines.pop() == ""
    assert len(lines) == 6 * 2 * 60 * 2
    seen: dict[str, list[int]] = {}
    for line in lines:
        who, what, digits = line.split("|")
        assert set(digits) == {str(int(who) % 10)}
        if what != "short":
            assert len(digits) == (3, 500, 5000, 60000)[int(what) % 4]
            seen.setdefault(who, []).append(int(what))
    assert all(order == list(range(60)) for order in seen.values())


def test_never_torn_in_a_pipe() -> None:
    done = run_python(TORN)
    assert done.stderr == b"" and done.returncode == 0
    check_lines(done.stdout)


def test_never_torn_in_a_file(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        done = run_python(TORN, stdout=file)
    assert done.stderr == b""
    check_lines((tmp_path / "out").read_bytes())


def test_never_torn_on_a_terminal() -> None:
    main, side = pty.openpty()
    got: list[bytes] = []

    def read() -> None:
        while True:
            try:
                got.append(os.read(main, 65536))
            except OSError as error:
                assert error.errno == errno.EIO
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(side, "wb") as file:
            done = run_python(TORN, stdout=file)
    finally:
        reader.join(LIMIT)
        os.close(main)
    assert done.stderr == b""
    check_lines(b"".join(got).replace(b"\r\n", b"\n"))


def test_a_writer_killed_in_the_middle_leaves_no_lock() -> None:
    done = run_python(
        """
        import os, select, signal, sys, time
        from greenlet import getcurrent
        from goproc._proc import line_output, stdio
        memfd = os.memfd_create("x")
        out, fd = os.pipe()
        os.dup2(fd, 1)
        def child(text):
            pid = os.fork()
            if pid == 0:
                stdio.install_worker(memfd, getcurrent)
                print(text)
                os._exit(0)
            return pid
        def sleeps(pid):
            with open(f"/proc/{pid}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "S"
        first = child("x" * 1_000_000)    # blocks in the full pipe, with the lock
        while select.select([], [1], [], 0)[1] or not sleeps(first): time.sleep(0.001)
        second = child("second")          # waits for the lock
        while not sleeps(second): time.sleep(0.001)
        assert os.waitpid(first, os.WNOHANG) == os.waitpid(second, os.WNOHANG) == (0, 0)
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        os.set_blocking(out, False)
        data = b""
        while not data.endswith(b"xsecond\\n"):
            try:
                data += os.read(out, 65536)
            except BlockingIOError:
                time.sleep(0.01)
        assert os.waitpid(second, 0)[1] == 0
        """
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_sigterm_in_the_middle_of_a_line_lets_it_out_first() -> None:
    done = run_python(
        """
        import os, signal, sys, time
        from goproc._proc import line_output, stdio
        memfd = os.memfd_create("x")
        key = 1
        stdio.install_worker(memfd, lambda: key)
        signal.signal(signal.SIGTERM, lambda n, frame: line_output.after_write(frame, leave))
        def leave():
            line_output.flush_all()
            os._exit(0)
        sys.stdout.write("unfinished of another")
        key = 2
        write = os.write
        def interrupted(fd, data):
            os.write = write
            os.kill(os.getpid(), signal.SIGTERM)
            return write(fd, data)
        os.write = interrupted
        print("the line", "being written")
        print("never reached")
        """
    )
    assert done.stdout == b"the line being written\nunfinished of another"
    assert done.stderr == b""


# -- in place of the host's streams --------------------------------------------------------------------------

HOST = """
    import os, sys
    from greenlet import getcurrent
    from goproc._proc import line_output, stdio
    memfd = os.memfd_create("x")
"""


def test_host_streams_are_replaced_and_given_back() -> None:
    done = run_python(
        HOST
        + """
    print("before")
    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        stdio.install_host(memfd, getcurrent, 2)
        assert type(sys.stdout).__name__ == type(sys.stderr).__name__ == "TextStream"
        stdio.install_host(memfd, getcurrent, 2)
        print("through ours")
        print("through the old one", file=sys.__stdout__)
        ours = sys.stdout
        print("rest", end="")
        stdio.uninstall_host()
        assert sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__ and not sys.stdout.line_buffering
        print("\\nafter"), sys.stdout.flush()
        ours.write("kept by someone\\n")
        assert len(os.listdir("/proc/self/fd")) == fds
    """
    )
    round_ = b"through ours\nthrough the old one\nrest\nafter\nkept by someone\n"
    assert (done.stdout, done.stderr) == (b"before\n" + round_ * 2, b"")


@pytest.mark.parametrize(
    ("before", "procs"),
    [
        ("", 1),
        ("sys.stdout = sys.stderr = __import__('io').StringIO()", 2),
        ("sys.stdout = sys.stderr = None", 2),
    ],
)
def test_host_streams_that_are_not_ours_to_replace(before: str, procs: int) -> None:
    done = run_python(
        HOST
        + f"""
    {before}
    both = sys.stdout, sys.stderr
    stdio.install_host(memfd, getcurrent, {procs})
    assert both == (sys.stdout, sys.stderr)
    stdio.uninstall_host()
    """
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_closed_descriptors() -> None:
    for closing in ("os.close(1)", "sys.stdout.close()", "sys.stdout = None"):
        done = run_python(
            HOST
            + f"""
    {closing}
    stdio.install_host(memfd, getcurrent, 2)
    stdio.uninstall_host()
    os._exit(0)
    """
        )
        assert (done.returncode, done.stderr) == (0, b"")
        done = run_python(
            HOST
            + """
    sys.stdout = None
    stdio.install_worker(memfd, getcurrent)
    assert sys.stdout is None
    print("x")
    """
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_input_and_exit() -> None:
    """input() works with our stream, and an unfinished line of main comes out at exit."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(HOST) + "stdio.install_host(memfd, getcurrent, 2)\nprint(input('? '), end='')",
        ],
        input=b"answer\n",
        capture_output=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"? answer", b"", 0)


def test_a_fork_of_the_user_gets_a_lock_of_its_own() -> None:
    done = run_python(
        HOST
        + """
    import fcntl
    stdio.install_host(memfd, getcurrent, 2)
    fcntl.flock(line_output._lock_fd, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:
        print("child")      # waits for the parent
        os._exit(0)
    import time
    def state():
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    while state() != "S": time.sleep(0.001)
    sys.__stdout__.write("parent\\n")
    fcntl.flock(line_output._lock_fd, fcntl.LOCK_UN)
    os.waitpid(pid, 0)
    """
    )
    assert (done.stdout, done.stderr) == (b"parent\nchild\n", b"")


def test_broken_pipe_in_the_host_is_reported_as_by_python() -> None:
    out, fd = os.pipe()
    os.close(out)
    try:
        done = run_python(HOST + "    stdio.install_host(memfd, getcurrent, 2)\n    print('x')", stdout=fd)
    finally:
        os.close(fd)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(b"BrokenPipeError: [Errno 32] Broken pipe")
    assert done.stderr.count(b"Traceback") == 1


def test_ctrl_c_during_output_leaves_no_lock() -> None:
    """The lock is free again wherever in a print the interrupt is raised."""
    done = run_python(
        HOST
        + """
    import fcntl, signal, threading, time
    stdio.install_host(memfd, getcurrent, 2)
    other = os.open(f"/proc/self/fd/{memfd}", os.O_RDWR)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    hits, end = 0, time.monotonic() + 1.0
    while time.monotonic() < end or hits <= 50:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            while True:
                print("line", 1)
        except KeyboardInterrupt:
            hits += 1
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_UN)
    free = []
    def look():
        free.append(line_output._mutex.acquire(False))
        if free[0]: line_output._mutex.release()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    sys.stderr.write(f"{free}\\n")
    """,
    )
    assert done.stderr == b"[True]\n"


# -- cost ----------------------------------------------------------------------------------------------------


def test_a_print_costs_few_calls() -> None:
    """A line on a pipe is one write between lock and unlock. Its four pieces take some fifty calls of functions."""
    code = (
        HOST
        + """
    import collections
    stdio.install_host(memfd, getcurrent, 2)
    print("the first line")
    calls = collections.Counter()
    def count(frame, event, function):
        if event == "call": calls["Python"] += 1
        elif event == "c_call": calls[f"{function.__module__}.{function.__name__}"] += 1
    sys.setprofile(count)
    for i in range(100): print("a line of", i)
    sys.setprofile(None)
    sys.stderr.write(repr(dict(calls)))
    """
    )
    calls = ast.literal_eval(run_python(code).stderr.decode())
    within_python = ("Python", "None.", "builtins.", "greenlet.", "sys.")  # None: methods of builtin types
    assert {name: n for name, n in calls.items() if not name.startswith(within_python)} == {
        "goproc.shm._core.output_lock_there": 100,
        "fcntl.flock": 100,
        "posix.write": 100,
        "goproc.shm._core.output_unlock": 100,
    }
    assert sum(calls.values()) < 100 * 60, calls
