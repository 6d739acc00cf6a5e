"""Methods of a script's classes in its goroutines: the globals that they reach by a text only."""

from __future__ import annotations

import textwrap

from programs import Run, ok

HEAD = """
    from __future__ import annotations
    import pickle, sys, threading, typing
    from goproc import go

    def everywhere(f, *args):
        found = [go.on(p)(f, *args).result(30) for p in (0, 1, 2)]
        return found[0] if found[0] == found[1] == found[2] else found
"""


def script(text: str) -> str:
    return textwrap.dedent(HEAD) + textwrap.dedent(text)


def test_globals_that_only_a_text_in_a_method_names(run: Run) -> None:
    text = """
        LIMIT = 3
        TABLE = {"n": 4}
        def helper(): return LIMIT
        def in_caller(expression):
            return eval(expression, sys._getframe(1).f_globals)
        class Item:
            def value(self): return eval("LIMIT + TABLE['n'] + helper()")
            def by_dict(self): return globals()["TABLE"]["n"]
            def by_frame(self): return in_caller("LIMIT + TABLE['n']")
        def task():
            item = Item()
            return item.value(), item.by_dict(), item.by_frame()
        print(everywhere(task), everywhere(Item().value))
        TABLE["n"], LIMIT = 5, 4
        print(everywhere(task))
    """
    assert ok(run(script(text))) == "(10, 4, 7) 10\n(13, 5, 9)\n"


def test_globals_that_cannot_be_pickled_stay_behind(run: Run) -> None:
    text = """
        LOCK = threading.Lock()
        LIMIT = 3
        class Item:
            def value(self): return eval("LIMIT"), "no LOCK here"
        class Other:
            def all(self): return sorted(name for name in globals() if name.isupper())
        print(everywhere(Item().value), go.on(1)(Other().all).result(30))
    """
    assert ok(run(script(text))) == "(3, 'no LOCK here') ['LIMIT']\n"


def test_annotations_of_methods(run: Run) -> None:
    text = """
        class Point: pass
        class Node:
            def add(self, point: Point) -> list[Node]: ...
            @property
            def first(self) -> Point: ...
        def hints(cls):
            found = typing.get_type_hints(cls.add), typing.get_type_hints(cls.first.fget)
            return found == ({"point": Point, "return": list[Node]}, {"return": Point})
        print(everywhere(hints, Node))
    """
    assert ok(run(script(text))) == "True\n"


def test_pickle_finds_a_function_that_only_a_method_names(run: Run) -> None:
    text = """
        def rebuild(n):
            item = Item()
            item.n = n
            return item
        class Item:
            n = 0
            def __reduce__(self): return rebuild, (4,)
        def made(): return pickle.loads(pickle.dumps(Item())).n
        def given(item): return pickle.loads(pickle.dumps(item)).n
        print(everywhere(made), everywhere(given, Item()))
    """
    assert ok(run(script(text))) == "4 4\n"


def test_markers_of_dataclasses_in_annotations(run: Run) -> None:
    text = """
        import dataclasses
        from dataclasses import KW_ONLY, MISSING, dataclass
        @dataclass
        class Item:
            n: int
            _: KW_ONLY
            m: int = 3
        def made():
            @dataclass
            class Inner:
                n: int
                _: KW_ONLY
                m: int = 3
            return [field.kw_only for field in dataclasses.fields(Inner)]
        def known():
            hints = typing.get_type_hints(Item)
            return list(hints), hints["_"] is KW_ONLY, dataclasses.fields(Item)[0].default is MISSING
        print(everywhere(made), everywhere(known))
    """
    assert ok(run(script(text))) == "[False, True] (['n', '_', 'm'], True, True)\n"


def test_a_method_imports_a_module_made_at_run_time(run: Run) -> None:
    text = """
        import types
        made = types.ModuleType("made_here")
        made.LIMIT = [1]
        sys.modules["made_here"] = made
        class Item:
            def get(self):
                import made_here
                return made_here.LIMIT
        print(everywhere(Item().get))
        made.LIMIT = [2]
        print(everywhere(Item().get))
    """
    assert ok(run(script(text))) == "[1]\n[2]\n"


def test_globals_set_by_a_goroutine_are_its_own(run: Run) -> None:
    text = """
        LIMIT = 1
        def read(): return LIMIT
        def task():
            import __main__
            __main__.LIMIT = 5
            return read(), LIMIT
        print(everywhere(task), LIMIT)
    """
    assert ok(run(script(text))) == "(5, 5) 1\n"


def test_a_method_reads_the_globals_of_its_module(run: Run) -> None:
    text = """
        LIMIT = 3
        TABLE = {"n": 4}
        class Item:
            def get(self):
                import __main__
                from __main__ import LIMIT as limit
                return limit, __main__.TABLE["n"], getattr(sys.modules[__name__], "LIMIT")
        def task(): return Item().get()
        print(everywhere(task), everywhere(Item().get))
    """
    assert ok(run(script(text))) == "(3, 4, 3) (3, 4, 3)\n"
