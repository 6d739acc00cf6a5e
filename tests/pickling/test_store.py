"""The blob store: which values go into it, and which do not."""

from __future__ import annotations

import inspect
import types

import pytest

from goproc._pickling import calls, messages, store
from goproc.errors import PickleError


def test_definition_is_stored_once(wire):
    def f(x):
        return x

    for i in range(10):
        wire.pack(f, i)
        wire.send([f])
    assert len(wire.store) == 1


def test_new_code_for_ever_does_not_fill_the_store(wire):
    for i in range(200):
        assert wire.call(wire.pack(eval(f"lambda x: x + {i}"), 1)) == i + 1
    assert len(wire.store) < 100


def test_new_classes_for_ever_do_not_fill_the_store(wire):
    for i in range(200):

        class Local:
            def get(self):
                return i  # noqa: B023

        local = wire.send(Local())
        assert type(local) is Local
        assert local.get() == i
    assert len(wire.store) < 150


def test_without_a_store(wire):
    store.disconnect()

    class Local:
        pass

    assert wire.call(wire.pack(lambda x: x + 1, 1)) == 2
    assert isinstance(wire.send(Local()), Local)


def test_stopped_runtime(wire):
    blob = wire.pack(lambda: 1)
    store.disconnect()
    with pytest.raises(PickleError, match="stopped"):
        wire.call(blob)


def test_many_importable_functions_are_references(wire):
    functions = {f for f in vars(inspect).values() if type(f) is types.FunctionType}
    assert len(functions) > 64
    assert all(type(calls.pack_call(f, (), {})[0]) is int for f in functions)


def test_definition_loaded_twice_is_one_object(wire):
    class Local:
        pass

    blobs = [messages.dumps(Local), messages.dumps(lambda: 1)]
    wire.hop()
    for blob in blobs:
        assert messages.loads(*blob) is messages.loads(*blob)
