"""The zygote and the start of a worker, with workers that do next to nothing: zygotes.py."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from zygotes import LIMIT, ROOT, WORKERS, Start, Started, starting

from goproc._proc import launch, letters


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as begin:
        yield begin


def facts(started: Started, proc: int) -> dict[str, Any]:
    text = os.pread(started.memfd, 8192, proc * 8192).rstrip(b"\0")
    return dict(eval(text))


# -- starting ------------------------------------------------------------------------------------------------


def test_workers_are_the_hosts_alike(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", "an argument", "b\udcff"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    inherited = os.dup(2)
    os.set_inheritable(inherited, True)
    try:
        z = start("tell", argv=sys.argv)
    finally:
        os.close(inherited)
    z.read(lambda: len(z.of(letters.DIED)) == 2)
    for proc in (1, 2):
        seen = facts(z, proc)
        assert seen["proc"] == proc
        assert seen["argv"] == ["script.py", "an argument", "b\udcff"]
        assert seen["path"][1:] == sys.path
        assert seen["cwd"] == os.getcwd()
        assert seen["parent"] == seen["zygote"] == z.pid
        assert seen["omp"] == "1"
        assert seen["sigmask"] == []
        assert seen["extra"] == {"key": [1, "two"]}
        # 0, 1, 2, the segment, the file for the stacks of crashes, and the folder being listed: no control socket, no
        # pidfd, no pipe of the zygote's
        assert len(seen["fds"]) == 6
    assert [value for _, _, _, value in z.of(letters.DIED)] == [0, 0]


def test_every_worker_reports(start: Start) -> None:
    z = start("sleep", procs=9)
    pids = z.wait_started(8)
    assert [proc for _, proc, _, _ in z.of(letters.STARTED)] == list(range(1, 9))
    assert len(set(pids)) == 8
    assert all(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_config_of_any_size(start: Start) -> None:
    z = start("sleep", procs=2, argv=["x" * 3_000_000])
    z.wait_started(1)


def test_descriptors_in_each_others_place(start: Start) -> None:
    """spawn() moves three descriptors to low numbers: whatever theirs are, none may overwrite another."""
    low = [os.dup(2) for _ in range(8)]
    for fd in low[::2]:
        os.close(fd)
    try:
        z = start("tell", procs=2)
        z.read(lambda: len(z.of(letters.DIED)) == 1)
        assert facts(z, 1)["proc"] == 1
    finally:
        for fd in low[1::2]:
            os.close(fd)


def test_one_process_needs_no_worker(start: Start) -> None:
    z = start("sleep", procs=1)
    os.write(z.control, letters.QUIT)
    assert z.wait_ended() == 0
    assert z.records == []


def test_a_module_that_cannot_be_preloaded_is_no_harm(start: Start) -> None:
    z = start("sleep", procs=2, preload=["no_such_module_anywhere"])
    z.wait_started(1)


def test_a_broken_entry_is_reported(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    z = start("no_such_function")
    assert z.wait_ended() == 70
    z.read(lambda: False)  # until the socket closes
    assert z.records == []
    assert "no_such_function" in capfd.readouterr().err


def test_fork_failure_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    """In a process of its own, as os.fork is replaced; main() never returns, so it is forked off."""
    code = f"""
        import os, sys
        sys.path.insert(0, {str(tmp_path)!r})
        from goproc._proc import launch, letters, zygote
        import _socket
        import marshal
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        memfd, real, calls = os.memfd_create("x"), os.fork, []
        config = launch.host_config(4, [None] * 4)
        config.update(entry="workers_of_test:sleep", preload=[])
        def fork():
            calls.append(1)
            if len(calls) == 2:
                raise BlockingIOError({errno.EAGAIN}, "Resource temporarily unavailable")
            return real()
        pid = real()
        if pid == 0:
            os.fork = fork
            ours.close()
            plan = dict(preload=[], program=[], statements=[], follow=-1, early=False, beside=None)
            zygote.main(plan, theirs.fileno(), [memfd, launch.memory_file(marshal.dumps(config))])
        for _ in range(3):
            print(*letters.RECORD.unpack(ours.recv(64))[::3], flush=True)
        ours.send(b"Q")
        print(os.waitpid(pid, 0)[1])
    """
    (tmp_path / "workers_of_test.py").write_text(WORKERS)
    done = run_python(code)
    assert done.stdout.split("\n") == ["1 0", f"3 {errno.EAGAIN}", "1 0", "0", ""], done.stderr


def test_it_says_so_when_python_is_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match=r"sys\.executable"):
        launch.launch_and_order(launch.host_config(2, [None, None]), 0)


# -- the worker's own start ----------------------------------------------------------------------------------

# The worker proper, with the core and the scheduler replaced: what it prints is what it has become.
WORKER = """
    import os, random, signal, sys, time
    from types import ModuleType
    core, scheduler = ModuleType("goproc.shm._core"), ModuleType("goproc._sched.scheduler")
    calls = []
    core.die_with_parent = lambda pid, keeper: calls.append(("parent", pid == config["zygote_pid"]))
    core.set_name = lambda name: calls.append(("name", name))
    core.output_lock_note = core.output_lock = core.output_lock_there = core.output_unlock = lambda *args: None
    core.attach = lambda memfd, proc, zygote: calls.append(("attach", proc))
    def run_worker():
        {run}
    scheduler.run_worker = run_worker
    core.definition_put = core.definition_get = None
    core.stopping = lambda: True
    core.dump_ready = lambda yes: None
    core.cpu = lambda: min(os.sched_getaffinity(0))
    scheduler.on_nudge = []
    scheduler.start = lambda make, name, leave: calls.append(("start", name))
    names = ("_life", "_wiring", "_pickling.store", "_dump", "_sched.slices")
    life, wiring, store, report, slices = (ModuleType("goproc." + n) for n in names)
    life.make = store.connect = slices.start = lambda *args: None
    report.on_worker_quit = lambda number, frame: None
    import goproc, goproc.shm, goproc._pickling, goproc._proc, goproc._sched
    for module in (core, scheduler, life, wiring, store, report, slices):
        sys.modules[module.__name__] = module
    goproc._sched.scheduler, goproc.shm._core, goproc._life, goproc._wiring = scheduler, core, life, wiring
    goproc._pickling.store, goproc._dump, goproc._sched.slices = store, report, slices
    from goproc._proc import launch, worker
    config = launch.host_config(3, [None, min(os.sched_getaffinity(0)), None])
    memfd = os.memfd_create("x")
    random.seed(1)
    sys.setrecursionlimit(1234)
    config["recursion_limit"] = 4321
    config["zygote_pid"] = os.getpid()
    config["codecs"] = [("utf-8", "strict"), None]
    pid = os.fork()
    if pid == 0:
        worker.main(1, config, memfd)
    {parent}
    print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def run_worker(run: str, parent: str = "") -> SimpleNamespace:
    lines = textwrap.dedent(run).strip().replace("\n", "\n        ")
    return run_python(WORKER.format(run=lines, parent=parent))


def run_python(code: str) -> SimpleNamespace:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    return SimpleNamespace(stdout=done.stdout, stderr=done.stderr, lines=done.stdout.splitlines())


def test_worker_has_its_name_core_streams_and_signals() -> None:
    done = run_worker(
        """
        print(calls)
        print(len(os.sched_getaffinity(0)), sys.getrecursionlimit(), random.random() == 0.13436424411240122)
        main = sys.modules["__main__"]
        print(main.__name__, hasattr(main, "config"), hasattr(main, "__file__"))
        print(signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN, type(sys.stdout).__name__)
        os.kill(os.getpid(), signal.SIGINT)
        print("unfinished", end="")
        """
    )
    assert done.lines == [
        "[('parent', True), ('name', b'goproc-1'), ('attach', 1), ('start', 'scheduler')]",
        "1 4321 False",
        "__main__ False False",
        "True TextStream",
        "unfinishedstatus 0",
    ], done.stderr


def test_programs_a_worker_starts_still_see_ctrl_c() -> None:
    done = run_worker(
        """
        import subprocess
        code = "import signal; print(signal.getsignal(2) == signal.SIG_IGN)"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip())
        """
    )
    assert done.lines == ["False", "status 0"], done.stderr


def test_worker_that_fails_says_why() -> None:
    done = run_worker('print("half", end=""); raise ValueError("broken")')
    assert done.lines == ["halfstatus 70"]
    assert "goproc: worker 1 (pid " in done.stderr
    assert done.stderr.endswith("ValueError: broken\n")


def test_sigterm_ends_a_worker_with_its_output_written() -> None:
    done = run_worker(
        'print("kept", end=""); os.write(memfd, b"1"); time.sleep(60)',
        "while not os.fstat(memfd).st_size: time.sleep(0.01)\n    os.kill(pid, signal.SIGTERM)",
    )
    assert done.lines == ["keptstatus 0"], done.stderr


# -- the flags of the interpreter ----------------------------------------------------------------------------


FLAGS = f"import sys; sys.path.insert(0, {ROOT!r}); from goproc._proc.launch import interpreter_flags; "


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-O"],
        ["-OO", "-B"],
        ["-I"],
        ["-E", "-s"],
        ["-P"],
        ["-bb"],
        ["-X", "utf8"],
        ["-X", "dev"],
        ["-Werror"],
        ["-q"],
    ],
    ids=" ".join,
)
def test_interpreter_flags(flags: list[str]) -> None:
    """A Python started with the flags that it gives has the same flags, and so gives the same again."""
    code = FLAGS + "print(interpreter_flags(), sys.flags)"
    first = subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=LIMIT
    )
    again = eval(first.stdout.partition("]")[0] + "]")
    second = subprocess.run(
        [sys.executable, *again, "-c", code], capture_output=True, text=True, timeout=LIMIT
    )
    assert first.stdout == second.stdout != ""
    assert bool(again) or not flags


def test_importtime_is_for_the_program_only() -> None:
    code = FLAGS + "print(interpreter_flags())"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, timeout=LIMIT
    )
    assert "importtime" not in done.stdout and done.stdout
