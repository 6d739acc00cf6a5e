"""The type of a scenario of test_exhaustion.py, and the first lines of each program."""

from __future__ import annotations

from typing import NamedTuple

HEAD = """
    import errno, os, signal, sys
    import goproc
    from goproc import OutOfSharedMemory, WorkerDied, chan, go, kill, select, sleep
    from contextlib import suppress
    from scarce import *
    def started():
        for proc in goproc.workers(): go.on(proc)(everything_is_imported).result(30)
    def everything_is_imported(): import scarce, ctypes, logging, subprocess
"""


class Scenario(NamedTuple):
    """A short program that runs out of something, and how it is to end."""

    name: str
    text: str  # of the program, after HEAD
    out: str = ""  # a pattern for all of its output
    err: str = ""  # a pattern for all of standard error
    status: int = 0
    procs: int = 2
    how: str = "goproc"  # see programs.command()
    options: tuple[str, ...] = ()
    full: str = ""  # "out" or "err": that stream has no room
    shim: bool = False  # preload scarce.c


#: The line that says that a worker died and is replaced.
DEATH = r"goproc: proc \d \(pid \d+\) was killed[^\n]*; the worker is replaced\n"
#: The line that says that a zygote died.
ZYGOTE = r"goproc: the process that starts the workers \(the zygote\) died; another one is started\n"
