"""Every value arrives equal, of the same type, and as a copy: whichever codec takes it."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import math
import operator
import os
import pathlib
import re
import socket
import struct
import sys
import uuid

import numpy
import pytest
from peek import until_waiting

import goproc
from goproc import Atomic, WaitGroup, chan, go


class Str(str):
    pass


class Int(int):
    pass


class Dict(dict):
    pass


class List(list):
    pass


Point = collections.namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = 1


class Flag(enum.IntFlag):
    A = 1
    B = 2


INTS = [s * (2**e + d) for s in (1, -1) for e in (0, 7, 8, 31, 32, 62, 63, 64, 200) for d in (-1, 0, 1)]
TEXTS = [
    "",
    "a",
    "ä" * 28,
    "x" * 55,
    "x" * 56,
    "x" * 57,
    "ä" * 29,
    "\0" * 56,
    "\U0001f600" * 14,
    "\U0001f600" * 15,
    "y" * 20_000,
]
ODD_TEXTS = ["\ud800", "a\udc80b", "\udfff" * 100, "\ud83d\ude00"]
PLAIN = [
    None, True, False, *INTS, 0.0, -0.0, 1.5, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, *TEXTS, *ODD_TEXTS,
    b"", b"a", b"\0" * 55, b"\0" * 56, b"\xff" * 57, b"z" * 255, b"z" * 256, b"q" * 16_383, b"q" * 16_384, b"w" * 1_000_000,
]  # fmt: skip
NESTED = [
    (), [], {}, (1,), [1, 2.5, "x", b"y", None, True], {"a": 1, 2: "b", None: [], (1, "k"): {}}, ((((((1,),),),),),),
    [[[[[[[[1]]]]]]]], [[[[[[[[[[1]]]]]]]]]], {"a": {"b": {"c": {"d": [1, (2, {"e": 3})]}}}}, list(range(255)), list(range(256)),
    tuple(range(1000)), {i: i for i in range(255)}, {i: str(i) for i in range(256)}, ["x" * 255], ["x" * 256], [2**63, -(2**63) - 1],
    ["\ud800"], {"\udc00": 1}, [[] for _ in range(40)], [0.1] * 113, [0.1] * 114, ["x" * 100] * 10, [True, 1, 1.0], (b"",) * 300,
    [math.inf, -0.0], [*INTS], [*TEXTS],
]  # fmt: skip
OTHERS = [
    Str("sub"), Int(5), Dict(a=1), List([1, 2]), Point(1, 2), Color.RED, Flag.A | Flag.B, 1j, set(), {1, 2}, frozenset("ab"),
    bytearray(b"abc"), bytearray(100_000), range(5), slice(1, 2, 3), Ellipsis, NotImplemented, datetime.datetime(2024, 1, 2, 3, 4, 5, 6),
    datetime.timedelta(1), decimal.Decimal("1.10"), fractions.Fraction(1, 3), pathlib.PurePosixPath("/a/b"), uuid.UUID(int=5),
    collections.OrderedDict(a=1, b=2), collections.Counter("aab"), collections.deque([1, 2], maxlen=5), collections.defaultdict(list, a=[1]),
    array.array("d", [1.0, 2.0]), re.compile("a+"), int, dict, len, math.sin, operator.attrgetter("x"), Str, os.path.join, type(None),
    [Str("x"), 1], {"k": Int(1)}, (Point(1, 2), [Color.RED]), ValueError, sys.version_info[:3], datetime.UTC,
]  # fmt: skip
ALL = PLAIN + NESTED + OTHERS


def equal(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return equal(list(a), list(b)) and equal(list(a.values()), list(b.values()))
    return bool(a == b) or repr(a) == repr(b)


def echo(a, b):
    for v in a:
        b.send(v)
        v = None
    b.close()


def test_every_value_makes_the_round_trip(place, some_cap):
    a, b = chan(some_cap), chan(some_cap)
    g = place.anyone(echo, a, b)
    for v in ALL:
        a.send(v)
        got = b.recv(timeout=10)
        assert equal(got, v), f"{v!r:.200} came back as {got!r:.200}"
    a.close()
    assert b.recv_ok() == (None, False)
    g.result(10)


def test_every_value_as_argument_and_result(place):
    for v in ALL[:: 3 if place.kind == "spread" else 1]:
        got = place.anyone(lambda v: v, v).result(10)
        assert equal(got, v), f"{v!r:.200} came back as {got!r:.200}"


def test_all_at_once_in_one_buffer(place):
    c = chan(len(ALL))
    g = place.sender(lambda c, vs: c.send_many(vs), c, ALL)
    assert g.result(20) == len(ALL)
    assert all(map(equal, c.recv_many(len(ALL)), ALL))


def test_nan_keeps_its_bits(place):
    quiet = struct.unpack("d", struct.pack("Q", 0x7FF8DEADBEEF0001))[0]
    c = chan(3)
    c.send(quiet)
    c.send([quiet])
    c.send({"nan": math.nan})
    assert struct.pack("d", c.recv()) == struct.pack("d", quiet)
    assert struct.pack("d", c.recv()[0]) == struct.pack("d", quiet)
    assert math.isnan(c.recv()["nan"])


@pytest.mark.parametrize("n", range(50, 62))
def test_lengths_around_the_inline_limit(runtime0, n):
    c = chan(1)
    for v in ("x" * n, b"x" * n, ("x" * n,), ["é" * (n // 2)], "é" * n):
        c.send(v)
        assert equal(c.recv(), v)


@pytest.mark.parametrize(
    "n", [*range(990, 1040, 3), *range(16_370, 16_400, 5), *range(32_700, 32_800, 7), 65_535, 65_536, 65_537]
)
def test_lengths_around_block_sizes(runtime0, n):
    c = chan(2)
    for v in ("x" * n, b"y" * n, ["z" * n], bytearray(n)):
        c.send(v)
        c.send(v)
        assert equal(c.recv(), v) and equal(c.recv(), v)


# -- identity inside a message ----------------------------------------------------------------------------------------


def test_shared_parts_stay_shared(place):
    inner = [1]
    c = chan(3)
    c.send([inner, inner, {"same": inner}])
    got = c.recv()
    assert got[0] is got[1] is got[2]["same"] and got[0] is not inner
    shared = {"k": 1}
    c.send((shared, shared))
    got = c.recv()
    assert got[0] is got[1]
    got = place.anyone(lambda a, b: (a is b, a, b), inner, inner).result(10)
    assert got[0] is True and got[1] is got[2]


def test_recursive_values(place):
    loop = [1]
    loop.append(loop)
    around = {"me": None}
    around["me"] = around
    c = chan(2)
    g = place.sender(lambda c, a, b: c.send_many([a, b]), c, loop, around)
    got, other = c.recv(timeout=10), c.recv(timeout=10)
    assert got[1] is got and other["me"] is other
    g.result(10)


def test_two_messages_share_nothing(runtime0):
    c, v = chan(2), [1]
    c.send(v)
    c.send(v)
    a, b = c.recv(), c.recv()
    assert a == b == v and a is not b and a is not v


# -- snapshots --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: [1], lambda: {"a": [1]}, lambda: bytearray(b"1" * 20_000), lambda: numpy.ones(5000)]
)
def test_value_is_as_it_was_at_the_send(place, make):
    c, v, unchanged = chan(1), make(), make()
    c.send(v)
    v.clear() if hasattr(v, "clear") else v.fill(0)
    got = c.recv()
    assert numpy.array_equal(got, unchanged) if isinstance(got, numpy.ndarray) else got == unchanged


def test_value_of_a_blocked_sender_is_as_it_was(runtime0):
    c, v = chan(), [1]
    g = go.local(c.send, v)
    until_waiting(c, senders=1)
    v.append(2)
    assert c.recv() == [1]
    g.result(10)


def test_closure_is_a_snapshot(place):
    x = [1]

    def see():
        x.append(2)
        return list(x)

    g = place.anyone(see)
    if place.kind == "local":
        assert g.result(10) == [1, 2] and x == [1, 2]
    else:
        x.append(99)
        assert g.result(10) == [1, 2] and x == [1, 99]


# -- arrays -----------------------------------------------------------------------------------------------------------


ARRAYS = {
    "small": numpy.arange(10),
    "empty": numpy.zeros((0, 5)),
    "scalar": numpy.array(3.5),
    "large": numpy.arange(100_000).reshape(100, 1000),
    "fortran": numpy.asfortranarray(numpy.random.default_rng(1).random((200, 300))),
    "strided": numpy.arange(100_000)[::3],
    "reversed": numpy.arange(50_000)[::-1],
    "readonly": numpy.frombuffer(b"x" * 50_000, dtype=numpy.uint8),
    "records": numpy.zeros(5000, dtype=[("a", "i4"), ("b", "f8")]),
    "objects": numpy.array([{"a": 1}, None, "x"], dtype=object),
    "strings": numpy.array(["abc", "de"] * 5000),
    "dates": numpy.arange("2020-01", "2023-01", dtype="datetime64[D]"),
    "bools": numpy.ones(30_000, dtype=bool),
    "big_endian": numpy.arange(5000, dtype=">i8"),
    "number": numpy.float32(1.5),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(place, kind):
    v = ARRAYS[kind]
    a, b = chan(1), chan(1)
    g = place.anyone(echo, a, b)
    a.send({"array": v, "twice": [v, v]})
    got = b.recv(timeout=10)
    a.close()
    g.result(10)
    for back in (got["array"], *got["twice"]):
        assert type(back) is type(v) and back.dtype == v.dtype and back.shape == v.shape
        assert numpy.array_equal(back, v)
    assert got["twice"][0] is got["twice"][1]


@pytest.mark.parametrize("kind", ["large", "fortran", "strided", "records", "small"])
def test_received_arrays_are_writable_and_aligned(place, kind):
    c = chan(2)
    g = place.sender(lambda c, v: c.send_many([v, v]), c, ARRAYS[kind])
    first, second = c.recv(timeout=10), c.recv(timeout=10)
    g.result(10)
    assert first.flags.writeable and first.flags.aligned
    if first.dtype.names is None:
        first += first.dtype.type(1)
    else:
        first["a"] = 5
    assert numpy.array_equal(second, ARRAYS[kind]) and not numpy.array_equal(first, second)


def test_array_passed_on_again_and_again(place):
    ends = [chan() for _ in range(6)]

    def stage(a, b):
        v = a.recv()
        v += 1
        b.send(v)

    gs = [place.anyone(stage, ends[i], ends[i + 1]) for i in range(5)]
    ends[0].send(numpy.zeros(20_000))
    assert ends[5].recv(timeout=10).sum() == 100_000
    for g in gs:
        g.result(10)


# -- functions, classes, exceptions -----------------------------------------------------------------------------------


def test_functions_and_classes_by_value(place):
    factor = 3

    class Local:
        shared = 7

        def __init__(self, v):
            self.v = v

        def times(self):
            return self.v * factor

    a, b = chan(1), chan(1)

    def apply(a, b):
        for f, v in a:
            b.send(f(v))

    g = place.anyone(apply, a, b)
    for f, v, expected in (
        (lambda v: v + factor, 1, 4),
        (Local, 5, None),
        (operator.neg, 2, -2),
        (Local(4).times.__func__, Local(4), 12),
    ):
        a.send((f, v))
        got = b.recv(timeout=10)
        if expected is None:
            assert type(got) is Local and got.times() == 15
        else:
            assert got == expected
    a.close()
    g.result(10)


def test_generic_values_of_main_are_sent(place):
    """A class of __main__ travels by value, and its instances compare equal on return."""
    namespace = {"__name__": "__main__"}
    exec(
        "class Pair:\n  def __init__(s, a): s.a = a\n  def __eq__(s, o): return type(s) is type(o) and s.a == o.a",
        namespace,
    )
    pair = namespace["Pair"]([1, 2])
    a, b = chan(1), chan(1)
    g = place.anyone(echo, a, b)
    a.send({"pair": pair})
    got = b.recv(timeout=10)["pair"]
    assert got == pair and type(got) is type(pair)
    a.close()
    g.result(10)


def test_exceptions_are_values(place):
    a, b = chan(2), chan(2)
    g = place.anyone(echo, a, b)
    for error in (
        ValueError("x", 1),
        KeyError("k"),
        OSError(2, "no"),
        goproc.ChanClosed("c"),
        UnicodeDecodeError("a", b"b", 0, 1, "r"),
    ):
        a.send(error)
        got = b.recv(timeout=10)
        assert type(got) is type(error) and got.args == error.args
    a.close()
    g.result(10)


# -- what cannot be sent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: (i for i in ()), socket.socket, sys._getframe], ids=["generator", "socket", "frame"]
)
def test_value_that_cannot_be_copied_is_refused_by_send(runtime0, make):
    bad = make()
    c = chan(2)
    try:
        for v in (bad, [bad], {"deep": {"er": [bad]}}):
            with pytest.raises(goproc.PickleError):
                c.send(v)
            with pytest.raises(goproc.PickleError):
                c.try_send(v)
        assert len(c) == 0
        c.send("still works")
        assert c.recv() == "still works"
    finally:
        if hasattr(bad, "close"):
            bad.close()


class Bomb:
    def __reduce__(self):
        raise KeyError("bomb")


class Dud:
    def __reduce__(self):
        return (_explode, ())


def _explode():
    raise KeyError("dud")


def test_error_in_the_sender_while_pickling(runtime0):
    c = chan(1)
    with pytest.raises(goproc.PickleError, match="bomb"):
        c.send([1, Bomb()])
    assert len(c) == 0


def test_error_in_the_receiver_while_unpickling(place):
    """The value is lost, the receiver gets the error, and the channel works on."""
    c = chan(2)
    c.send(Dud())
    c.send("next")

    def recv(c):
        try:
            c.recv()
        except KeyError as error:
            return [str(error), c.recv()]

    assert place.receiver(recv, c).result(10) == ["'dud'", "next"]


class Talker:
    """Uses goproc while it is being pickled, which must not disturb the message or the scheduler."""

    def __init__(self, a, n):
        self.a, self.n = a, n

    def __reduce__(self):
        for _ in range(self.n):
            self.a.load()
        return (Talker, (self.a, 0))


def test_pickling_that_uses_goproc_does_not_disturb_others(runtime0):
    """Enough operations inside a __reduce__ to be preempted there, with a goroutine ready that sends and blocks."""
    a, c, other = Atomic(5), chan(1), chan()
    g = go.local(lambda: [other.send([chan(), WaitGroup(), i]) for i in range(5)] and "sent")
    got = go.local(lambda: [other.recv()[2] for i in range(5)])
    c.send([chan(), Talker(a, 3000), chan()])
    v = c.recv()
    assert v[1].a is a and len(v) == 3
    for end in (g, got):
        end.cancel() if end.exception(10) else None
    assert [end.exception(0) for end in (g, got)] == [None, None]
    assert (g.result(10), got.result(10)) == ("sent", [0, 1, 2, 3, 4])


class Blocker:
    def __init__(self, c):
        self.c = c

    def __reduce__(self):
        self.c.recv(timeout=3)
        return (Blocker, (None,))


def test_blocking_while_pickling_is_refused(runtime0):
    c = chan(1)
    with pytest.raises(goproc.PickleError, match="inside a __reduce__ or __getstate__"):
        c.send(Blocker(chan()))
    c.send(1)
    assert c.recv() == 1


def test_blocking_while_pickling_an_argument_is_refused(runtime0):
    c = chan(1)
    with pytest.raises(goproc.PickleError, match="inside a __reduce__ or __getstate__"):
        go(lambda v: v, Blocker(chan()))
    c.send(1)
    assert c.recv() == 1


class Waker:
    """Blocks while it is being unpickled: that is allowed, nobody waits for the message any more."""

    def __init__(self, c):
        self.c = c

    def __setstate__(self, state):
        self.c = state["c"]
        self.got = self.c.recv()


def test_blocking_while_unpickling(place):
    c, inner = chan(1), chan()
    c.send([Waker(inner), numpy.ones(5000)])

    def recv(c):
        v = c.recv()
        return v[0].got, float(v[1].sum())

    g = place.receiver(recv, c)
    s = place.sender(lambda c: c.send("inside"), inner)
    assert g.result(10) == ("inside", 5000.0)
    s.result(10)
