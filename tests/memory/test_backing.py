"""Memory is taken and given back on the mapping: no descriptor of the program is touched, and limits are named."""

from __future__ import annotations

import pytest
from programs import Run, ok

USER_FILES = """
    import os
    from goproc import chan, go
    MIB = 1 << 20
    class Files:
        def __init__(self):
            os.closerange(3, 256)
            self.files = [open(f"user{os.getpid()}.{i}", "wb+") for i in range(12)]
            for f in self.files:
                f.write(b"A" * (8 * MIB))
                f.flush()
        def check(self):
            for f in self.files:
                f.seek(0)
                assert f.read() == b"A" * (8 * MIB), f.name
                assert os.fstat(f.fileno()).st_size == 8 * MIB, f.name
"""


def test_the_files_of_main_are_left_alone(run: Run) -> None:
    script = """
    go.on(1)(int).result()
    box = chan(64)
    for _ in range(20):
        box.send(os.urandom(4 * MIB))
    files = Files()
    for _ in range(20):
        box.recv()
    for size in (100, 5_000, 200_000, 9_000_000):
        for _ in range(30):
            box.send(os.urandom(size))
        for _ in range(30):
            box.recv()
    files.check()
    print("checked", flush=True)
    os._exit(0)
    """
    done = run(USER_FILES + script)
    assert done.out == "checked\n", done


def test_the_files_of_a_worker_are_left_alone(run: Run) -> None:
    script = """
    def use(box):
        files = Files()
        for _ in range(20):
            box.recv()
        for size in (100, 5_000, 200_000, 9_000_000):
            for _ in range(30):
                box.send(os.urandom(size))
            for _ in range(30):
                box.recv()
        files.check()
        return "checked"
    box = chan(64)
    for _ in range(20):
        box.send(os.urandom(4 * MIB))
    print(go.on(1)(use, box).result(), flush=True)
    os._exit(0)
    """
    done = run(USER_FILES + script)
    assert done.out == "checked\n", done


def test_shared_copies_need_no_descriptor(run: Run) -> None:
    script = """
    import numpy
    def same(array):
        return float(array.sum())
    array = numpy.ones(1_000_000)
    print(go.on(1)(same, array).result(), go.on(1)(same, array).result())
    def closes():
        os.closerange(3, 256)
    go.on(1)(closes).result()
    print(go.on(1)(same, array).result(), flush=True)
    os._exit(0)
    """
    done = run(USER_FILES + script)
    assert done.out == "1000000.0 1000000.0\n1000000.0\n", done


def test_a_runtime_that_stops_closes_no_file_of_the_program(run: Run) -> None:
    script = """
        import os
        import goproc
        with goproc.runtime(procs=0):
            goproc.chan(1).send(b"x" * 100_000)
            segment = []
            for fd in os.listdir("/proc/self/fd"):
                if os.path.lexists(f"/proc/self/fd/{fd}") and "/memfd:goproc (" in os.readlink(f"/proc/self/fd/{fd}"):
                    segment.append(int(fd))
            assert len(segment) == 1
            os.close(segment[0])
            file = open(os.devnull, "rb")
            assert file.fileno() == segment[0]
        assert file.read() == b""
        print("open")
    """
    assert ok(run(script, how="python", procs=None)) == "open\n"


@pytest.mark.parametrize(
    ("limit", "size", "words"),
    [
        ("RLIMIT_AS", "{used} + (200 << 20)", ["address space", "RLIMIT_AS (ulimit -v)", "--procs"]),
        ("RLIMIT_FSIZE", "100 << 20", ["a file", "RLIMIT_FSIZE (ulimit -f)", "--procs"]),
    ],
)
def test_a_limit_that_leaves_no_room_is_named(run: Run, limit: str, size: str, words: list[str]) -> None:
    script = f"""
        import resource
        import goproc
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.{limit}, ({size.format(used="used")},) * 2)
        try:
            goproc.runtime(procs=2).__enter__()
        except OSError as error:
            print(error)
    """
    out = ok(run(script, how="python", procs=None))
    assert all(word in out for word in words), out


@pytest.mark.parametrize(
    ("limit", "size"), [("RLIMIT_AS", "used + (900 << 20)"), ("RLIMIT_FSIZE", "400 << 20")]
)
def test_a_limit_makes_the_part_of_a_process_small(run: Run, limit: str, size: str) -> None:
    """Address space is short then, and not the memory that --memory allows."""
    script = f"""
        import resource
        import goproc
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.{limit}, ({size},) * 2)
        with goproc.runtime(procs=0, memory="8G"):
            box = goproc.chan(1000)
            try:
                for _ in range(1000):
                    box.send(b"x" * (8 << 20))
            except goproc.OutOfSharedMemory as error:
                print(error)
            n = len(box)
            for _ in range(n):
                assert len(box.recv()) == 8 << 20
            box.send(b"x" * (8 << 20))
            print(n > 3)
    """
    first, second = ok(run(script, how="python", procs=None)).splitlines()
    assert "in one piece" in first and "ulimit -v, -f" in first and second == "True", first
