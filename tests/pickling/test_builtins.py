"""C code that imports looks for __builtins__ in the globals of the function that called it, wherever that was made."""

from __future__ import annotations

import datetime
import functools

import numpy as np
import pytest

from goproc import go

FORMATS = ["%Y"]  # mutable: what reads it is copied with its message


def parse(text):
    return datetime.datetime.strptime(text, FORMATS[0]).year


def mean(x):
    return x.mean() + 0 * len(FORMATS)


class Parser:
    fmt = "%Y"

    def parse(self, text):
        return datetime.datetime.strptime(text, self.fmt).year + 0 * len(FORMATS)


def own(f):
    """As if it was the script's: by value, not by name."""
    import types

    copied = types.FunctionType(
        f.__code__, {**f.__globals__, "__name__": "__main__"}, f.__name__, f.__defaults__, f.__closure__
    )
    copied.__module__ = "__main__"
    return copied


@pytest.mark.parametrize("proc", [0, 1])
def test_calls_of_c_code_that_imports(runtime2, proc):
    a = np.ones(1000)
    assert go.on(proc)(own(lambda: a.sum())).result(20) == 1000
    assert go.on(proc)(own(mean), a).result(20) == 1
    assert go.on(proc)(own(parse), "2024").result(20) == 2024
    assert go.on(proc)(functools.partial(own(parse), "2024")).result(20) == 2024
    assert go.on(proc)(own(lambda f: f("2024")), own(parse)).result(20) == 2024
    assert go.on(proc)(Parser().parse, "2024").result(20) == 2024
    assert go.on(proc)(own(lambda: type(__builtins__).__name__ in ("module", "dict"))).result(20)
