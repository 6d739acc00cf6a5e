"""The message that starts a goroutine."""

from __future__ import annotations

import textwrap

import pytest
from wire import Handle

from goproc._pickling import calls, messages


def test_keyword_arguments(wire):
    def f(a, *, b):
        return a, b

    assert wire.far(f, 1, b=2) == (1, 2)


def test_importable_function_is_a_reference(wire):
    blob = wire.pack(textwrap.dedent, "  x")
    assert wire.call(blob) == "x"
    wire.hop()
    f, _, _, _ = calls.unpack_call(messages.loads(*blob))
    assert f is textwrap.dedent


def test_plain_payload_for_scalars(wire):
    n = 5

    def f(x):
        return n + x

    payload = calls.pack_call(f, (1,), {})
    assert payload == (payload[0], (1,), None, None, (5,), None)


def test_handles_stay_out_of_blobs(wire):
    handle = Handle(7)

    def f(x):
        return handle.key + x

    payload = calls.pack_call(f, (1,), {})
    assert any(handle in part for part in payload if isinstance(part, tuple))
    assert all(b"Handle" not in blob for blob in wire.store.values())
    function, args, kwargs, _ = calls.unpack_call(payload)
    assert function(*args, **kwargs) == 8


def test_recursive_nested_function(wire):
    def fact(n):
        return 1 if n == 0 else n * fact(n - 1)

    assert type(calls.pack_call(fact, (5,), {})[0]) is int
    assert calls.pack_call(fact, (5,), {})[0] != 0
    assert wire.far(fact, 5) == 120


def test_mutually_recursive_nested_functions(wire):
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert wire.far(even, 10) is True


def test_shared_cell_stays_shared(wire):
    count = 0

    def bump():
        nonlocal count
        count += 1

    def f():
        bump()
        bump()
        return count

    assert wire.far(f) == 2
    assert wire.far(lambda g, h: (g(), h())[1], bump, f) == 3
    assert count == 0


TABLE: dict[str, int] = {"a": 1}


def test_shared_mutable_global_stays_shared(wire):
    def f(table):
        table["a"] = 5
        return TABLE["a"]

    assert wire.far(f, TABLE) == 5
    assert TABLE["a"] == 1


def test_not_callable(wire):
    with pytest.raises(TypeError, match="go of nil func value"):
        calls.pack_call(None, (), {})
    with pytest.raises(TypeError, match="'int' object is not callable"):
        calls.pack_call(3, (), {})


def test_sent_on_under_the_same_reference(wire):
    n = 4

    def f(x):
        return n + x

    blob = wire.pack(f, 1)
    wire.hop()
    g, _, _, _ = calls.unpack_call(messages.loads(*blob))
    before = len(wire.store)
    blob = wire.pack(g, 2)
    assert len(wire.store) == before
    wire.hop()
    assert wire.call(blob) == 6
