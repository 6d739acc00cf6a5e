"""cloudpickle is imported for the first object that only cloudpickle can pickle. Nothing may come out wrong before."""

from __future__ import annotations

import pytest
from programs import Run, ok

MADE = {
    "a mapping proxy": ("types.MappingProxyType({'a': 1})", "value['a']", "1"),
    "the keys of a dictionary": ("{'a': 1}.keys()", "list(value)", "['a']"),
    "a property": ("property(operator.itemgetter(0))", "value.fget('a')", "a"),
    "a static method": ("staticmethod(len)", "value('abc')", "3"),
    "a weak set": ("weakref.WeakSet([os.path])", "len(value)", "1"),
    "a logger": ("logging.getLogger('x.y')", "value.name", "x.y"),
    "a type variable": (
        "typing.TypeVar('T', bound=int)",
        "(value.__name__, value.__bound__)",
        "('T', <class 'int'>)",
    ),
    "one of a library": ("typing.AnyStr", "value is typing.AnyStr", "True"),
}


@pytest.mark.parametrize("way", ["argument", "global", "default", "closure", "message", "result"])
@pytest.mark.parametrize("what", MADE)
def test_first_object_of_that_kind(run: Run, what: str, way: str) -> None:
    made, look, seen = MADE[what]
    done = run(
        f"""
        import logging, operator, os, types, typing, weakref
        from goproc import chan, go
        T = {made}
        ch = chan(1)
        def by_argument(value): return str({look})
        def by_global():
            value = T
            return str({look})
        def by_default(value=T): return str({look})
        def make(value): return lambda: str({look})
        by_closure = make(T)
        def by_message(ch):
            value = ch.recv()
            return str({look})
        def by_result(ch): return {made}
        way, ch = {way!r}, chan(1)
        args = {{"argument": (T,), "message": (ch,), "result": (ch,)}}.get(way, ())
        g = go.on(1)(globals()["by_" + way], *args)
        if way == "message": ch.send(T)
        print(g.result() if way != "result" else by_argument(g.result()))
        """
    )
    assert ok(done) == f"{seen}\n"
