"""Output of many processes on one standard output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import programs
import pytest


@pytest.mark.parametrize("target", ["pipe", "file"])
def test_output_is_never_torn(tmp_path: Path, target: str) -> None:
    script = """
        import sys
        from goproc import go, procs
        def chatter(name):
            for i in range(10_000):
                print(name, i, "x" * (8000 if i % 100 == 0 else i % 60), sep=":")
        handles = [go.on(i)(chatter, i) for i in range(8)]
        for h in handles: h.join()
    """
    path = tmp_path / "out"
    with path.open("wb") as file:
        if target == "file":
            done = programs.run(tmp_path, script, procs=8, stdout=file)
        else:
            done = programs.run(tmp_path, script, procs=8)
    out = done.out if target == "pipe" else path.read_text()
    assert (done.status, done.err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 80_000 and out.endswith("\n")
    expected = [0] * 8
    for line in lines:
        name, i, text = line.split(":")
        assert int(i) == expected[int(name)], line[:100]
        assert text == "x" * (8000 if int(i) % 100 == 0 else int(i) % 60)
        expected[int(name)] += 1


def test_output_and_errors_through_one_pipe(tmp_path: Path) -> None:
    script = """
        import sys
        from goproc import go, procs
        def chatter(name):
            for i in range(500):
                print(name, i, "o", "y" * 5000, file=sys.stdout if i % 2 else sys.stderr)
        for h in [go.on(i % procs())(chatter, i) for i in range(4)]: h.join()
    """
    done = programs.run(tmp_path, script, procs=2, stderr=subprocess.STDOUT)
    assert done.status == 0
    assert sorted(done.out.splitlines()) == sorted(
        f"{n} {i} o " + "y" * 5000 for n in range(4) for i in range(500)
    )


def test_nobody_reads_the_output(tmp_path: Path) -> None:
    """`program | head -1`: the program ends silently, and is gone."""
    script = """
        from goproc import go, chan, procs
        def chatter():
            while True: print("line")
        for i in range(1, procs() + 1): go.on(i)(chatter)
        chan().recv()
    """
    line, variables = programs.command(tmp_path, script)
    shell = " ".join(line) + " | head -1"
    with programs.start_command(["/bin/sh", "-c", shell], tmp_path, variables) as program:
        done = program.wait()
    assert (done.out, done.err) == ("line\n", "")
    assert sys.executable and os.path.exists("/bin/sh")
