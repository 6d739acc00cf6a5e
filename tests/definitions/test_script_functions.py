"""Functions of a script in its goroutines: their globals, and which of them are one object."""

from __future__ import annotations

import textwrap

import pytest
from programs import Run, ok

HEAD = """
    import functools, pickle, sys
    from goproc import chan, go

    def everywhere(f, *args):
        found = [go.on(p)(f, *args).result(30) for p in (0, 1, 2)]
        return found[0] if found[0] == found[1] == found[2] else found
"""


def script(text: str) -> str:
    return textwrap.dedent(HEAD) + textwrap.dedent(text)


def test_a_cached_function_reads_the_globals_of_the_script(run: Run) -> None:
    text = """
        CONFIG = {"n": 3}

        def decorated(f):
            @functools.wraps(f)
            def around(*args):
                return f(*args)
            return around

        @functools.cache
        def model(): return CONFIG["n"]
        @decorated
        @functools.cache
        def inner(): return CONFIG["n"]
        @decorated
        def plain(): return CONFIG["n"]
        class Loader:
            def get(self): return CONFIG["n"], model(), inner()

        def task():
            return Loader().get(), model(), inner(), plain()
        print(everywhere(Loader().get), everywhere(task))
    """
    assert ok(run(script(text))) == "(3, 3, 3) ((3, 3, 3), 3, 3, 3)\n"


def test_the_cache_of_a_decorated_function_is_filled_once_per_process(run: Run) -> None:
    text = """
        from goproc.sync import Atomic
        LOADS = Atomic(0)

        def decorated(f):
            @functools.wraps(f)
            def around(*args):
                return f(*args)
            return around

        @decorated
        @functools.cache
        def load(): return LOADS.add(1)
        for _ in range(3):
            go.on(1)(load).result(30)
        print(LOADS.load())
    """
    assert ok(run(script(text))) == "1\n"


def test_a_cached_function_in_a_container_reads_the_latest_globals(run: Run) -> None:
    text = """
        CONFIG = {"n": 3}
        @functools.lru_cache
        def model(n): return n * CONFIG["n"]
        TABLE = {"model": model}
        def task(n): return TABLE["model"](n)
        print(go.on(1)(task, 1).result(30))
        CONFIG["n"] = 4
        print(go.on(1)(task, 2).result(30))
    """
    assert ok(run(script(text))) == "3\n8\n"


def test_a_function_is_one_object_however_it_is_reached(run: Run) -> None:
    text = """
        CONFIG = {"n": 1}
        SCALE = 2
        def scaled(x): return x * SCALE
        def current(x): return CONFIG["n"] + x
        alias = current
        key = lambda x: CONFIG["n"]
        COSTS = {scaled: "scaled", current: "current", key: "key"}

        class Bus:
            def __init__(self): self.called = [scaled, current]
        bus = Bus()

        def keyed(): return COSTS[scaled], COSTS[alias], COSTS[key]
        def given(f): return COSTS[f]
        def default(f=current): return f is alias
        def left():
            bus.called.remove(current)
            bus.called.remove(scaled)
            return bus.called
        print(everywhere(keyed), everywhere(given, key), everywhere(default), everywhere(left))
    """
    assert ok(run(script(text))) == "('scaled', 'current', 'key') key True []\n"


def test_a_function_of_a_class_is_that_of_the_goroutine(run: Run) -> None:
    text = """
        def double(x): return x * 2
        class Item:
            convert = staticmethod(double)
            def get(self): return double
        def task():
            return Item.convert is double, Item().get() is double, Item().convert is double
        print(everywhere(task))
    """
    assert ok(run(script(text))) == "(True, True, True)\n"


def test_functions_of_one_code_are_several_objects(run: Run) -> None:
    text = """
        three = [lambda: 1 for _ in range(3)]
        def count(functions): return len(set(functions))
        print(everywhere(count, three), count(go.on(1)(lambda x: x, three).result(30)))
    """
    assert ok(run(script(text))) == "3 3\n"


def test_a_function_that_comes_back_is_that_of_the_script(run: Run) -> None:
    text = """
        SCALE = 2
        def scaled(x): return x * SCALE
        def plain(): return 1
        constant = lambda: 3
        class Item:
            def get(self): return 1
            make = staticmethod(plain)
        ALL = scaled, constant, Item.get, Item.make
        def reached(): return scaled, constant, Item.get, Item.make
        for p in (0, 1, 2):
            assert all(map(lambda a, b: a is b, go.on(p)(reached).result(30), ALL))
            assert all(map(lambda a, b: a is b, go.on(p)(lambda x: x, ALL).result(30), ALL))
        pending = go.on(1)(reached)
        pending.join()
        SCALE = 3
        assert pending.result()[0](1) == 2, "it used another constant"
    """
    assert ok(run(script(text))) == ""


def test_code_that_rebinds_a_global_and_a_reader_in_one_call(run: Run) -> None:
    text = """
        LIMIT = 1
        OTHER = 1
        def read(): return LIMIT, OTHER
        def write():
            global LIMIT
            LIMIT = 5
            globals()["OTHER"] = 6
        def both(first, second):
            first()
            return second()
        print(everywhere(both, write, read))
    """
    assert ok(run(script(text))) == "(5, 6)\n"


def test_functions_that_are_reached_by_the_module(run: Run) -> None:
    text = """
        import __main__ as itself
        import importlib
        LIMIT = 2
        def helper(): return LIMIT
        def by_import():
            import __main__
            return __main__.helper()
        def by_name():
            from __main__ import helper as found
            return found()
        def by_global(): return itself.helper()
        def by_modules(name): return getattr(sys.modules[__name__], name)()
        def by_importlib(): return importlib.import_module("__main__").helper()
        class Item:
            def get(self): return sys.modules[__name__].helper()
        for f in (by_import, by_name, by_global, by_importlib, Item().get):
            assert everywhere(f) == 2, f
        print(everywhere(by_modules, "helper"))
    """
    assert ok(run(script(text))) == "2\n"


def test_a_module_made_at_run_time_can_be_imported(run: Run) -> None:
    text = """
        import types
        made = types.ModuleType("made_here")
        exec("LIMIT = 1\\ndef read(): return LIMIT", made.__dict__)
        sys.modules["made_here"] = made
        def by_import():
            import made_here
            return made_here.LIMIT, made_here.read()
        def by_name():
            from made_here import read
            return read()
        def by_modules(): return sys.modules["made_here"].LIMIT
        print(everywhere(by_import), everywhere(by_name), everywhere(by_modules))
        made.LIMIT = 2
        print(everywhere(by_import), everywhere(by_name), everywhere(by_modules))
    """
    assert ok(run(script(text))) == "(1, 1) 1 1\n(2, 2) 2 2\n"


def test_objects_of_wrapt(run: Run) -> None:
    pytest.importorskip("wrapt", reason="wrapt is not installed")
    text = """
        import wrapt
        @wrapt.decorator
        def plus(wrapped, instance, args, kwargs): return wrapped(*args, **kwargs) + 1
        def adapter(a, b): ...
        @wrapt.decorator(adapter=adapter)
        def adapted(wrapped, instance, args, kwargs): return wrapped(args[0])
        class Counted(wrapt.ObjectProxy):
            def __init__(self, wrapped, count):
                super().__init__(wrapped)
                self._self_count = count

        @plus
        def double(x): return x * 2
        @adapted
        def same(x): return x
        class Item:
            @plus
            def get(self): return 1
            @plus
            @classmethod
            def make(cls): return 2
        counted = Counted([1, 2], 3)
        partial = wrapt.PartialCallableObjectProxy(double, 4)
        def task():
            return double(1), same(5, 6), Item().get(), Item.make(), partial(), len(counted), counted._self_count
        print(everywhere(task), everywhere(double, 1), everywhere(Item().get), type(go.on(1)(list, [counted]).result(30)[0]))
    """
    assert ok(run(script(text))) == "(3, 5, 2, 3, 9, 2, 3) 3 2 <class '__main__.Counted'>\n"


def test_a_shared_function_is_sent_on_with_those_that_call_it(run: Run) -> None:
    text = """
        SCALE = 2
        def scaled(x): return x * SCALE
        def total(values): return sum(map(scaled, values))
        class Item:
            convert = staticmethod(scaled)
            def total(self, values): return total(values), self.convert is scaled
        def first(): return Item().total([1])
        def second():
            there = go.on(2)(lambda: (total([1, 2]), Item().total([3]))).result(30)
            return there, total, scaled
        print(go.on(1)(first).result(30))
        found, *functions = go.on(1)(second).result(30)
        print(found, functions[0] is total, functions[1] is scaled)
    """
    assert ok(run(script(text))) == "(2, True)\n(6, (6, True)) True True\n"


def test_a_class_that_cannot_be_pickled_and_that_a_text_names(run: Run) -> None:
    """It is not there, which is no matter: the text may mean anything."""
    text = """
        import threading
        class Info: lock = threading.Lock()
        def f(): return "Info"
        def g(): return eval("Info")
        print(go.on(1)(f).result(30), type(go.on(1)(g).exception(30)).__name__)
    """
    assert ok(run(script(text))) == "Info NameError\n"
