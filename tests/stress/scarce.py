"""Functions of the programs of test_exhaustion.py, which use up descriptors, address space and shared memory."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import goproc
from goproc import Atomic, Mutex, OutOfSharedMemory, chan, go

SIZES = (100_000, 30_000, 8_000, 2_000, 1_000, 500, 300, 200, 100, 57)


def use_up_files(left: int = 0, limit: int = 64) -> list[int]:
    """Open files until this process has as many as it may, close `left` of them, and return the others."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    held: list[int] = []
    with suppress(OSError):
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    for _ in range(left):
        os.close(held.pop())
    return held


def give_back_files(held: list[int]) -> None:
    while held:
        os.close(held.pop())


def address_space() -> int:
    """Return the bytes of address space that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


@contextmanager
def little_address_space(more: int) -> Iterator[None]:
    """Leave this process only `more` bytes of address space in a block."""
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + more, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


def fill(box: Any, sizes: tuple[int, ...] = SIZES) -> int:
    """Send texts of each size until no more fit into shared memory, and return how many went in."""
    count = 0
    for size in sizes:
        with suppress(OutOfSharedMemory):
            while box.try_send("x" * size):
                count += 1
    return count


def drain(box: Any) -> None:
    while len(box):
        box.recv()


@contextmanager
def full_memory() -> Iterator[None]:
    """Fill shared memory from each process in a block."""
    box = chan(1 << 16)
    for proc in range(goproc.procs() + 1):
        go.on(proc)(fill, box).result(30)
    fill(box)
    try:
        yield
    finally:
        drain(box)


def everything_works() -> None:
    """Use each worker and each kind of memory."""
    for proc in range(goproc.procs() + 1):
        ch = chan(2)
        g = go.on(proc)(_echo, ch, Mutex(), Atomic(0))
        for size in (10, 1000, 300_000):
            ch.send(b"x" * size)
        ch.close()
        assert g.result(30) == 301_010


def _echo(ch: Any, mutex: Mutex, count: Atomic) -> int:
    for value in ch:
        with mutex:
            count.add(len(value))
    return count.load()


def outcome(f: Callable[..., Any], *args: Any) -> str:
    """Call a function, and return the name of the exception that it raises; of an OSError that of its number."""
    try:
        f(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    except BaseException as error:
        return type(error).__name__
    return "nothing"
