"""Functions by value: snapshots, namespaces, what is kept."""

from __future__ import annotations

import functools
from typing import Any

import programs
import pytest
from wire import run_main


def test_lambda(wire):
    assert wire.far(lambda x: x + 1, 2) == 3


def test_loop_variables(wire):
    made = []
    for i in range(3):
        made.append(lambda: i)  # noqa: B023 (that all see the last value is the point)
        made.append(lambda i=i: i)
    blobs = [wire.pack(f) for f in made]
    wire.hop()
    assert [wire.call(blob) for blob in blobs] == [2, 0, 2, 1, 2, 2]


def test_snapshot_of_a_cell(wire):
    data = [1]

    def f():
        data.append(2)
        return list(data)

    blob = wire.pack(f)
    data.append(99)
    assert wire.call(blob) == [1, 2]
    assert wire.call(blob) == [1, 2]
    assert data == [1, 99]
    wire.hop()
    assert wire.call(blob) == [1, 2]


COUNTER = 0


TABLE: dict[str, int] = {"a": 1}


LIMIT = 10


def test_mutable_globals_are_a_snapshot(wire):
    def f():
        TABLE["a"] += 1
        return TABLE["a"]

    blob = wire.pack(f)
    assert [wire.call(blob), wire.call(blob)] == [2, 2]
    assert TABLE == {"a": 1}


def test_global_rebound_between_two_calls(wire):
    def f():
        return LIMIT

    global LIMIT
    first = wire.pack(f)
    LIMIT = 11
    second = wire.pack(f)
    LIMIT = 12
    third = wire.pack(f)
    LIMIT = 10
    wire.hop()
    assert [wire.call(blob) for blob in (first, second, third)] == [10, 11, 12]


def test_global_rebound_to_an_equal_value_of_another_type(wire):
    def f():
        return LIMIT

    global LIMIT
    LIMIT = 1
    first = wire.pack(f)
    LIMIT = True
    second = wire.pack(f)
    LIMIT = 10
    assert [wire.call(first), wire.call(second)] == [1, True]
    assert type(wire.call(second)) is bool


def test_a_rebound_global_does_not_make_new_templates_for_ever(wire):
    def f():
        return LIMIT

    global LIMIT
    for LIMIT in range(50):
        assert wire.call(wire.pack(f)) == LIMIT
    LIMIT = 10
    assert len(wire.store) <= 2


def test_global_that_hides_a_builtin_later(wire):
    def f():
        return abs(-3)

    first = wire.pack(f)
    globals()["abs"] = lambda _: -1
    try:
        second = wire.pack(f)
    finally:
        del globals()["abs"]
    assert [wire.call(first), wire.call(second), wire.call(wire.pack(f))] == [3, -1, 3]


def test_global_statement_is_local_to_the_call(wire):
    def bump():
        global COUNTER
        COUNTER += 1

    def f():
        bump()
        bump()
        return COUNTER

    blob = wire.pack(f)
    assert [wire.call(blob), wire.call(blob)] == [2, 2]
    assert COUNTER == 0


def test_global_rebound_by_a_callback_in_the_arguments(wire):
    def callback():
        global COUNTER
        COUNTER += 1

    def f(*callbacks):
        for call in callbacks:
            call()
        return COUNTER

    assert wire.far(f, callback, callback) == 2
    assert wire.far(f) == 0
    assert wire.far(lambda d: (d["call"](), COUNTER)[1], {"call": callback}) == 1
    assert COUNTER == 0


def test_empty_cell(wire):
    def f():
        return later

    def g():
        return f

    blob = wire.pack(g)
    wire.hop()
    with pytest.raises(NameError):
        wire.call(blob)()
    if False:
        later = 1


def test_defaults(wire):
    def f(a, b=2, *, c=3, d=[]):  # noqa: B006
        d.append(a)
        return a + b + c, list(d)

    assert wire.far(f, 1) == (6, [1])
    assert wire.call(wire.pack(f, 1)) == (6, [1])

    def g(a, b=[]):  # noqa: B006
        b.append(a)
        return b

    blob = wire.pack(g, 1)
    assert [wire.call(blob), wire.call(blob)] == [[1], [1]]


def test_function_attributes(wire):
    def f():
        return f.calls

    f.calls = 3
    assert wire.far(f) == 3


def test_attributes_kept_on_a_function_do_not_outlive_the_call(wire):
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("def f():\n    f.n = getattr(f, 'n', 0) + 1\n    return f.n", namespace)
    blob = wire.pack(namespace["f"])
    assert [wire.call(blob), wire.call(blob)] == [1, 1]


def test_names_doc_and_hints(wire):
    def f(x: int) -> str:
        """Say it."""

    g = wire.send(f)
    wire.hop()
    assert (g.__name__, g.__qualname__, g.__doc__, g.__module__) == (
        f.__name__,
        f.__qualname__,
        f.__doc__,
        f.__module__,
    )
    assert g.__annotations__ == f.__annotations__


def logged(f):
    @functools.wraps(f)
    def wrapper(*args):
        return f.__name__, f(*args)

    return wrapper


def test_decorated(wire):
    @logged
    def one(x):
        return x

    @logged
    def two(x):
        return x + x

    blobs = [wire.pack(one, 1), wire.pack(two, 1)]
    wire.hop()
    assert [wire.call(blob) for blob in blobs] == [("one", 1), ("two", 2)]
    assert [f.__name__ for f in wire.send((one, two))] == ["one", "two"]


def test_partial_and_bound_methods(wire):
    class Base:
        def run(self, x):
            return "base", x

    class Derived(Base):
        def run(self, x):
            return "derived", x

        def __hidden(self):
            return "hidden"

        def up(self):
            return super().run, self.__hidden

        @classmethod
        def make(cls, x):
            return cls.__name__, x

    derived = Derived()
    assert wire.far(derived.run, 1) == ("derived", 1)
    up, hidden = derived.up()
    assert wire.far(up, 1) == ("base", 1)
    assert wire.far(hidden) == "hidden"
    assert wire.far(Derived.make, 1) == ("Derived", 1)
    assert wire.far(functools.partial(lambda a, b: a - b, 5), 3) == 2
    assert wire.far(len, "abc") == 3
    assert wire.far("a,b".split, ",") == ["a", "b"]


def test_lru_cache(wire):
    @functools.cache
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert wire.far(fib, 50) == 12586269025
    assert wire.far(lambda n: fib(n), 50) == 12586269025


def test_class_body_reads_globals(wire):
    def f():
        class Local:
            limit = LIMIT

        return Local.limit

    assert wire.far(f) == 10


def test_submodule_reached_through_its_package(wire, tmp_path):
    out = run_main(
        """
        import concurrent.futures
        import xml.dom.minidom
        def f():
            return xml.dom.minidom.parseString("<a/>").documentElement.tagName
        go(f)
        """,
        "print(run(0))",
        tmp_path,
    )
    assert out == "a\n"


def test_main_functions(tmp_path):
    out = run_main(
        """
        import math
        FACTOR = 3
        table = {"k": 1}
        results = Handle()
        counter = 0

        def area(r):
            return math.pi * r * r

        def scaled(r):
            return FACTOR * area(r)

        def walk(n):
            return [n] + walk(n - 1) if n else [type(results).__name__]

        def ping(n):
            return "ping" if n == 0 else pong(n - 1)

        def pong(n):
            return "pong" if n == 0 else ping(n - 1)

        def bump():
            global counter
            counter += 1
            return emit(counter)

        def emit(x):
            return x, type(results).__name__, dict(table)

        def twice():
            bump()
            return bump(), counter

        go(scaled, 1)
        go(walk, 3)
        go(ping, 3)
        go(twice)
        table["k"] = 2
        go(emit, 0)
        FACTOR = 6
        go(scaled, 1)
        """,
        """
        import math
        print(run(0) / math.pi, run(5) / math.pi)
        print(run(1), run(2))
        print(run(3), run(3))
        print(run(4))
        """,
        tmp_path,
    )
    assert out.splitlines() == [
        "3.0 6.0",
        "[3, 2, 1, 'Handle'] pong",
        "((2, 'Handle', {'k': 1}), 2) ((2, 'Handle', {'k': 1}), 2)",
        "(0, 'Handle', {'k': 2})",
    ]


def test_global_that_was_deleted(wire):
    namespace: dict[str, Any] = {"__name__": "__main__", "items": [1]}
    exec("def f():\n    return items", namespace)
    assert wire.far(namespace["f"]) == [1]
    wire.pack(namespace["f"])
    del namespace["items"]
    with pytest.raises(NameError):
        wire.far(namespace["f"])
    namespace["items"] = [2]
    assert wire.far(namespace["f"]) == [2]


def test_defaults_changed_after_it_was_sent(wire):
    handle = [1]

    def f(a=1, *, b=2):
        return a, b, handle

    assert wire.far(f) == (1, 2, [1])
    first = wire.pack(f)
    f.__defaults__ = (3,)
    f.__kwdefaults__ = {"b": 4}
    second = wire.pack(f)
    f.__kwdefaults__ = None
    third = wire.pack(f, b=5)
    wire.hop()
    assert [wire.call(blob) for blob in (first, second, third)] == [(1, 2, [1]), (3, 4, [1]), (3, 5, [1])]
    with pytest.raises(TypeError):
        wire.far(f)


def test_generic_functions(tmp_path):
    """`singledispatch` remembers by class in a dictionary of weak keys."""
    script = """
        import collections.abc, functools, weakref
        from goproc import go
        @functools.singledispatch
        def kind(x): return "object"
        @kind.register
        def _(x: int): return "int"
        class Mine: pass
        @kind.register
        def _(x: Mine): return "mine"
        @functools.singledispatch
        def sized(x): return False
        @sized.register
        def _(x: collections.abc.Sized): return True
        class Method:
            @functools.singledispatchmethod
            def of(self, x): return "object"
            @of.register
            def _(self, x: str): return "str"
        for used in False, True:
            print(go.on(1)(kind, 5).result(), go.on(1)(lambda: [kind(x) for x in (1, "a", Mine())]).result())
            print(go.on(1)(lambda: (Method().of("x"), Method().of(1), sized([]), sized(1))).result())
            kind(5), kind("a"), sized([]), sized(1), Method().of("x")
        kind.register(str, lambda x: "string")
        print(go.on(1)(kind, "a").result(), go.on(1)(lambda: kind("a")).result())
        key = Mine()
        print(go.on(1)(len, weakref.WeakKeyDictionary({key: 1})).result())
    """
    done = programs.run(tmp_path, script)
    once = "int ['int', 'object', 'mine']\n('str', 'object', True, False)\n"
    assert (done.status, done.out, done.err) == (0, 2 * once + "string string\n1\n", ""), done
