"""Messages: what pickle does, and out-of-band buffers."""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
import pickle
import subprocess
import sys
import threading
import types
import weakref
from pathlib import Path
from typing import Any

import pytest
from programs import Run, ok
from wire import ROOT, run_main

from goproc._pickling import carried, large, messages
from goproc.errors import PickleError
from goproc.shm import _core

pytestmark = pytest.mark.usefixtures("wire")


def through(obj: Any) -> Any:
    return messages.loads(*messages.dumps(obj))


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "text",
        b"x" * 100_000,
        [1, (2, {3: {4}})],
        collections.OrderedDict(a=1),
        collections.Counter("abca"),
        range(3),
        1 + 2j,
        Path("/x"),
        int,
        len,
        dataclasses.dataclass,
        type(None),
        types.FunctionType,
        NotImplemented,
    ],
)
def test_round_trip(value):
    assert through(value) == value


def test_types_that_cloudpickle_adds():
    assert bytes(through(memoryview(b"abc"))) == b"abc"
    assert through(logging) is logging
    assert through(logging.getLogger("a.b")) is logging.getLogger("a.b")
    assert through(types.MappingProxyType({1: 2}))[1] == 2
    assert list(through({1: 2}.keys())) == [1]
    assert through(property(lambda self: 3)).fget(None) == 3
    assert through((lambda: 1).__code__).co_name == "<lambda>"
    module = types.ModuleType("made_up")
    module.x = 1
    assert through(module).x == 1
    (cell,) = (lambda: module).__closure__
    assert through(cell).cell_contents.x == 1
    assert isinstance(through(weakref.WeakSet()), weakref.WeakSet)
    assert through(functools.partial(max, 3))(2) == 3


def test_memo_is_kept():
    shared = [1]
    a, b = through((shared, shared))
    assert a is b
    loop: list[Any] = []
    loop.append(loop)
    got = through(loop)
    assert got[0] is got


def test_cloudpickle_is_imported_late():
    code = """
import sys
from goproc._pickling import messages
assert "cloudpickle" not in sys.modules
import decimal, collections, dataclasses, pathlib
messages.loads(*messages.dumps([1, decimal.Decimal(1), collections.Counter("ab"), pathlib.Path("/"), len, int]))
assert "cloudpickle" not in sys.modules
assert messages.loads(*messages.dumps([sys.stdout]))[0] is sys.stdout
assert "cloudpickle" not in sys.modules
assert list(messages.loads(*messages.dumps({1: 2}.keys()))) == [1]
assert "cloudpickle" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr


# -- Buffers -----------------------------------------------------------------------------------------------------------


def test_large_buffers_go_out_of_band():
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")
    big = numpy.arange(4096, dtype="i8")
    main, buffers = messages.dumps({"a": big, "small": numpy.arange(10)})
    assert len(main) < 1000 and [b.nbytes for b in buffers] == [32768]
    got = messages.loads(main, [bytearray(b) for b in buffers])
    assert (got["a"] == big).all() and (got["small"] == numpy.arange(10)).all()
    got["a"][0] = 7
    assert big[0] == 0


def test_threshold():
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")
    assert messages.dumps(numpy.zeros(16383, "u1"))[1] == []
    assert len(messages.dumps(numpy.zeros(16384, "u1"))[1]) == 1


def test_an_array_below_the_size_from_which_a_copy_pays_is_not_searched(monkeypatch):
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")

    class Own(numpy.ndarray):
        table = tuple(range(10))

    searched = []
    monkeypatch.setattr(carried, "_learn", lambda obj, _: bool(searched.append(obj)))
    small = numpy.zeros(large.LARGE // 8 + 1)
    objects = numpy.zeros(large.LARGE, dtype=object)
    for array in (small, small[::-1], numpy.zeros(2 * large.LARGE, "i2")[::2]):
        messages.dumps(array)
        assert not searched and large.reached([("a message", array, False)]) == []
    largest = numpy.zeros(_core.LARGE_BUFFER // 8)
    others = [
        largest,
        [small],
        {"a": small},
        (small, small),
        objects,
        small.view(Own),
        bytearray(2 * large.LARGE),
    ]
    for message in others:
        messages.dumps(message)
    assert [id(message) for message in searched] == [id(message) for message in others]


def test_fortran_and_strided_arrays():
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")
    fortran = numpy.asfortranarray(numpy.arange(10_000.0).reshape(100, 100))
    main, buffers = messages.dumps(fortran)
    assert len(buffers) == 1 and buffers[0].contiguous
    got = messages.loads(main, [bytearray(b) for b in buffers])
    assert (got == fortran).all() and got.flags.f_contiguous
    strided = numpy.arange(20_000.0)[::2]
    main, buffers = messages.dumps(strided)
    assert (messages.loads(main, buffers) == strided).all()


def test_non_contiguous_buffer_stays_in_band():
    view = memoryview(bytearray(100_000))[::2]

    class Holder:
        def __reduce_ex__(self, protocol):
            return bytes, (pickle.PickleBuffer(view),)

    with pytest.raises(PickleError):  # pickle itself refuses it in band
        messages.dumps(Holder())


def test_bytearray_and_pickle_buffer():
    data = bytearray(50_000)
    main, buffers = messages.dumps(pickle.PickleBuffer(data))
    assert len(buffers) == 1
    assert bytes(messages.loads(main, buffers)) == bytes(data)


def test_threads():
    class Local:
        def __init__(self, n):
            self.n = n

    errors: list[BaseException] = []

    def work(n):
        try:
            for i in range(200):
                assert through(Local(i)).n == i
                assert through(lambda i=i: i)() == i
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_marker_that_pickles_as_its_name_is_one_object(tmp_path):
    out = run_main(
        """
        class Sentinel:
            def __reduce__(self):
                return "MISSING"
        MISSING = Sentinel()
        MISSING.text = "missing"
        def is_missing(value):
            return value is MISSING
        send({"v": MISSING})
        send([MISSING])
        go(is_missing, MISSING)
        go(is_missing, 1)
        print(messages.loads(*messages.dumps(MISSING)) is MISSING)
        """,
        """
        print(load(0)["v"] is load(1)[0], load(0)["v"].text, run(2), run(3))
        """,
        tmp_path,
    )
    assert out == "True\nTrue missing True False\n"


def test_modules_are_references(wire):
    module = types

    def f():
        return module.__name__

    assert wire.far(f) == "types"
    assert wire.send(pickle) is pickle


def test_a_message_that_cannot_be_read_is_read_once_where_no_map_runs(run: Run) -> None:
    done = run(
        """
        import sys
        from goproc import chan
        class Bad:
            def __reduce__(self): return read, ()
        def read():
            print("read")
            raise LookupError("nothing there")
        ch = chan(1)
        ch.send(Bad())
        try: ch.recv()
        except LookupError as exc: print(exc)
        print("goproc._pickling.salvage" in sys.modules)
        """
    )
    assert ok(done) == "read\nnothing there\nFalse\n"
