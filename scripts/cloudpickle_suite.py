"""Run cloudpickle's own test suite with goproc in place of its processes.

    git clone https://github.com/cloudpipe/cloudpickle
    python scripts/cloudpickle_suite.py cloudpickle [--by channel] [options of pytest]

The suite's helpers that pickle an object and load it again, and those that have another process do so, are replaced: by a
goroutine on worker 1 that returns its argument, or by a channel whose other end is on worker 1. Tests that look at the
bytes of a pickle, at private functions of cloudpickle or at processes of their own run as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import goproc
from goproc import chan, go
from goproc._goroutine import pid_of

_open: Any = None  # the runtime of the current test


def begin() -> None:
    """Start a runtime whose worker has what this process has now: its path, above all."""
    global _open
    end()
    _open = goproc.runtime(procs=1)
    _open.__enter__()


def end() -> None:
    global _open
    if _open is not None:
        _open.__exit__(None, None, None)
        _open = None


def identity(value: Any) -> Any:
    return value


def echo(there: Any, back: Any) -> None:
    back.send(there.recv())


def by_goroutine(value: Any, *ignored: Any, **options: Any) -> Any:
    if _open is None:
        begin()
    return go.on(1)(identity, value).result(60)


def by_channel(value: Any, *ignored: Any, **options: Any) -> Any:
    if _open is None:
        begin()
    there, back = chan(1), chan(1)
    there.send(value)
    go.on(1)(echo, there, back).join(60)
    return back.recv(60)


class Worker:
    """Runs calls in another process, as the suite's own worker does."""

    def run(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return go.on(1)(function, *args, **kwargs).result(60)

    def memsize(self) -> int:
        import psutil

        return int(psutil.Process(pid_of(1)).memory_info().rss)


@contextlib.contextmanager
def worker(**options: Any) -> Iterator[Worker]:
    begin()
    yield Worker()


class Replace:
    """A plugin of pytest: puts goproc into the suite's modules once they are imported."""

    def __init__(self, copy: Any) -> None:
        self.copy = copy

    def pytest_collection_finish(self) -> None:
        suite = importlib.import_module("tests.cloudpickle_test")
        suite.pickle_depickle = self.copy
        suite.subprocess_pickle_echo = self.copy
        suite.subprocess_worker = worker

    def pytest_runtest_teardown(self) -> None:
        end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", help="a clone of cloudpickle")
    parser.add_argument("--by", choices=("goroutine", "channel"), default="goroutine")
    options, rest = parser.parse_known_args()
    os.chdir(options.suite)
    sys.path[:0] = [os.getcwd(), os.path.abspath(os.path.join("tests", "cloudpickle_testpkg"))]
    copy = by_channel if options.by == "channel" else by_goroutine
    words = ["-p", "no:cacheprovider", "-s", "-q", "tests/cloudpickle_test.py", *rest]
    return int(pytest.main(words, plugins=[Replace(copy)]))


if __name__ == "__main__":
    sys.exit(main())
