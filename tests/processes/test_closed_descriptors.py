"""Programs that close descriptors they have not opened, and open files that get the numbers of goproc's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from programs import Run, Start, ok

HEAD = """
    import os, signal, socket, sys, time
    from goproc import chan, go, runtime, sleep
    files, pairs, kept = [], [], []
    def close():
        os.closerange(3, 65536)
    def close_and_open():
        close()
        files[:] = [os.open(f"file{i}", os.O_RDWR | os.O_CREAT | os.O_TRUNC) for i in range(300)]
        for file in files: os.write(file, b"mine")
    def close_and_connect():
        close()
        kept.extend(pairs)
        pairs[:] = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(200)]
        for a, b in pairs:
            a.send(b"to b")
            b.send(b"to a")
    def warm():
        "What is needed later has its memory."
        for proc in (1, 2):
            for _ in range(40): go.on(proc)(int).result()
"""
WAYS = ["close", "close_and_open", "close_and_connect"]
#: In some containers no thread may have descriptors of its own.
FORBID_UNSHARE = """
    import ctypes, platform, struct
    number = {"x86_64": 272, "aarch64": 97}[platform.machine()]
    code = struct.pack("=" + "HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, number, 0x06, 0, 0, 0x50001, 0x06, 0, 0, 0x7fff0000)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_char_p(program)) == 0
    assert libc.unshare(0x400) == -1
"""


def untouched(folder: Path) -> bool:
    texts = {path.read_text() for path in folder.glob("file*")}
    return texts in (set(), {"mine"})


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("way", WAYS)
def test_after_the_start(run: Run, tmp_path: Path, way: str, how: str) -> None:
    script = f"{HEAD}\n    warm()\n    {way}()\n    print(go.on(1)(abs, -7).result(), go.on(2)(abs, -8).result())\n"
    assert ok(run(script, how=how)) == "7 8\n"
    assert untouched(tmp_path)


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("way", WAYS)
def test_before_the_first_use(run: Run, tmp_path: Path, way: str, how: str) -> None:
    script = f"{HEAD}\n    go\n    {way}()\n    print(go.on(1)(abs, -7).result())\n"
    assert ok(run(script, how=how)) == "7\n"
    assert untouched(tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_in_a_worker(run: Run, tmp_path: Path, way: str) -> None:
    script = f"""{HEAD}
    warm()
    def work():
        {way}()
        print("x" * 5000)  # needs the lock for output
        return 7
    print(go.on(1)(work).result(), go.on(2)(abs, -8).result())
    """
    done = run(script)
    assert (done.status, done.out, done.err) == (0, "x" * 5000 + "\n7 8\n", ""), done
    assert untouched(tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_a_runtime_and_another(run: Run, tmp_path: Path, way: str) -> None:
    """Nothing of the program's is closed when a runtime ends."""
    script = f"""{HEAD}
    for _ in range(2):
        with runtime(procs=2):
            warm()
            {way}()
    for file in files: os.close(file)
    for a, b in pairs:
        assert (a.recv(10), b.recv(10)) == (b"to a", b"to b")
    print("done")
    """
    assert ok(run(script, how="python")) == "done\n"
    assert untouched(tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_a_death_is_seen(run: Run, tmp_path: Path, way: str) -> None:
    script = f"{HEAD}\n    warm()\n    pid = go.on(1)(os.getpid).result()\n    {way}()\n    os.kill(pid, 9)\n    sleep(60)\n"
    done = run(script, env={"GOPROC_ON_DEATH": "exit"})
    assert done.status == 2, done
    assert re.match(r"fatal error: proc 1 \(pid \d+\) was killed by signal 9 ", done.err), done
    assert done.err.count("fatal error") == 1 and untouched(tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_lost_descriptor_ends_a_program_whose_threads_share_them_all(
    run: Run, tmp_path: Path, way: str
) -> None:
    """Then the loss of one ends the program, at the next time that it is needed."""
    script = f"""{FORBID_UNSHARE}{HEAD}
    warm()
    pid = go.on(1)(os.getpid).result()
    {way}()
    try: os.kill(pid, 9)
    except ProcessLookupError: pass  # the zygote has taken the closed socket for the end of the host
    sleep(60)
    """
    done = run(script)
    assert done.status == 2, done
    assert re.match(
        r"fatal error: the program has closed or replaced descriptor \d+, by which goproc ", done.err
    ), done
    assert done.err.count("fatal error") == 1 and untouched(tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_the_end_where_no_thread_may_have_descriptors_of_its_own(run: Run, tmp_path: Path, way: str) -> None:
    """The program may be over before the loss is noticed; either end is one."""
    done = run(f"{FORBID_UNSHARE}{HEAD}\n    warm()\n    {way}()\n")
    assert (done.status, done.err) == (0, "") or (done.status, done.err.count("fatal error")) == (2, 1), done
    assert untouched(tmp_path)


@pytest.mark.parametrize("forbid", ["", FORBID_UNSHARE])
def test_a_death_where_nothing_was_closed(run: Run, forbid: str) -> None:
    done = run(
        f"{forbid}{HEAD}\n    os.kill(go.on(1)(os.getpid).result(), 9)\n    sleep(60)\n",
        env={"GOPROC_ON_DEATH": "exit"},
    )
    assert done.status == 2, done
    assert re.match(r"fatal error: proc 1 \(pid \d+\) was killed by signal 9 ", done.err), done


def test_a_pipe_of_the_program_ends_when_the_program_closes_it(run: Run) -> None:
    """The coroner keeps no file of the program's open."""
    script = f"""{HEAD}
    r, w = os.pipe()
    out = os.dup(1)
    go.on(1)(int).result()
    os.close(w)
    print(os.read(r, 10))
    """
    assert ok(run(script)) == "b''\n"


DAEMON = """
    os.chdir("/")
    if os.fork(): os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
    os.closerange(0, 65536)
    for _ in range(3): os.open(os.devnull, os.O_RDWR)
"""


def test_a_daemon(run: Run, tmp_path: Path) -> None:
    """It is made before goproc is used, as it must be; the early zygote is the parent's, and ends with it."""
    result = tmp_path / "result"
    script = f"""{HEAD}
    go  # loaded
    {DAEMON}
    with open({str(result)!r}, "w") as file: print(go.on(1)(abs, -7).result(), file=file)
    """
    assert ok(run(script, gone=20.0)) == ""
    assert result.read_text() == "7\n"


def test_a_daemon_that_used_goproc_before(run: Run, tmp_path: Path) -> None:
    result = tmp_path / "result"
    script = f"""{HEAD}
    go.on(1)(int).result()
    {DAEMON}
    with open({str(result)!r}, "w") as file:
        try: go.on(1)(int)
        except RuntimeError as error: print(error, file=file)
    """
    run(script, gone=20.0)
    assert "os.fork()" in result.read_text()


# -- the zygote is stopped -------------------------------------------------------------------------------------

DEATHS = {
    "SIGKILL": ("os.kill(os.getpid(), 9)", r"was killed by signal 9 \(SIGKILL\)"),
    "a crash": ("os.kill(os.getpid(), 11)", r"was killed by signal 11 \(SIGSEGV\)"),
    "os._exit(7)": ("os._exit(7)", "ended by itself with status 7"),
    "os._exit(0)": ("os._exit(0)", "ended; how is not known, as its parent process does not answer"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_death_while_the_zygote_is_stopped(start: Start, death: str) -> None:
    line, text = DEATHS[death]
    script = f"""{HEAD}
    def die():
        {line}
    warm()
    print("ready", flush=True)
    sys.stdin.readline()
    go.on(1)(die).join()
    """
    with start(script, stdin=-1, env={"GOPROC_ON_DEATH": "exit"}) as program:
        program.wait_for("ready")
        program.kill(program.zygote(), 19)
        program.type("\n")
        done = program.wait(10)
    assert done.status == 2, done
    assert re.match(rf"fatal error: proc 1 \(pid \d+\) {text}", done.err), done
    assert done.err.count("fatal error") == 1
