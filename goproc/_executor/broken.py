"""The exceptions of a broken Executor. Apart, since concurrent.futures.process takes 40 ms to import."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from goproc.errors import GoprocError, PickleError


class BrokenExecutor(GoprocError, BrokenProcessPool):
    """A worker of the Executor died, or its initializer failed. All its futures fail: make a new Executor."""


class UnreadableCall(PickleError, BrokenProcessPool):
    """The arguments of a call could not be read by the worker, or the result by the caller.

    Only the future of that call fails. It is a BrokenProcessPool because ProcessPoolExecutor breaks there.
    """
