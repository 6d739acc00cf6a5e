"""The definitions of a script are there by their names wherever its goroutines run: for pickle, eval() and typing."""

from __future__ import annotations

import textwrap

import pytest
from definition_scripts import script
from programs import Run, ok


def test_pickle_finds_the_definitions_of_the_script(run: Run) -> None:
    text = """
        class Item:
            def __init__(self, n): self.n = n
        class Color(enum.Enum):
            RED = 1
        Pair = namedtuple("Pair", "a b")
        def helper(x): return x + 1
        def roundtrip(item):
            values = pickle.loads(pickle.dumps((item, Pair(1, Color.RED), helper)))
            return values[0].n, values[1] == Pair(1, Color.RED), type(values[0]) is type(item), values[2](1)
        print(everywhere(roundtrip, Item(5)))
    """
    assert ok(run(script(text))) == "(5, True, True, 2)\n"


def test_the_module_main_has_the_attributes_of_the_script(run: Run) -> None:
    text = '''
        """About it."""
        import sys
        from goproc import go
        TABLE = {"a": 1}
        def f():
            import __main__
            TABLE["b"] = 2
            __main__.NEW = 3
            return (__main__.__name__, __main__.__doc__, __main__.__file__ == sys.argv[0], __main__.__spec__,
                    __main__.TABLE, NEW, hasattr(__main__, "missing"))
        print(go.on(1)(f).result(30))
        print(TABLE)
    '''
    assert ok(run(textwrap.dedent(text))) == (
        "('__main__', 'About it.', True, None, {'a': 1, 'b': 2}, 3, False)\n{'a': 1}\n"
    )


def test_each_goroutine_has_its_own_globals_there(run: Run) -> None:
    text = """
        import goproc
        STATE = [0]
        def f(i, ready, end):
            import __main__
            STATE[0] = i
            ready.send(None)
            end.recv_ok()
            return __main__.STATE[0], eval("STATE")[0]
        ready, end = chan(), chan()
        gs = [go.on(1)(f, i, ready, end) for i in (1, 2, 3)]
        for _ in gs:
            ready.recv()
        end.close()
        print([g.result(30) for g in gs], STATE)
    """
    assert ok(run(script(text))) == "[(1, 1), (2, 2), (3, 3)] [0]\n"


NAMED = {
    "eval": ("LIMIT = 3", 'eval("LIMIT + 1")', "4"),
    "globals": ("LIMIT = 3", '"{LIMIT}".format(**globals())', "3"),
    "frame": ("LIMIT = 3", 'sys._getframe().f_globals["LIMIT"]', "3"),
    "text": ("LIMIT = [3]", 'query("x > @LIMIT")', "[3]"),
    "function": ("def limit(): return helper()\ndef helper(): return 3", 'eval("limit()")', "3"),
    "module": ("import math", 'eval("math.sqrt(4)")', "2.0"),
    "class": ("class Limit:\n    n = 3", 'eval("Limit").n', "3"),
}
QUERY = """
    def query(text):
        return sys._getframe(1).f_globals[text.split("@")[1]]
"""


@pytest.mark.parametrize("name", NAMED)
def test_a_global_that_the_code_only_mentions(run: Run, name: str) -> None:
    definition, expression, expected = NAMED[name]
    text = f"{definition}\ndef f(): return {expression}\nprint(everywhere(f))\n"
    assert ok(run(script(QUERY) + text)) == f"{expected}\n"


def test_a_mentioned_global_is_as_of_the_go_line(run: Run) -> None:
    text = """
        def f(): return eval("LATER")
        def g(): return f"{globals()['LATER']}"
        try:
            go.on(1)(f).result(30)
        except NameError as error:
            print(error)
        for LATER in ("one", 2, [3]):
            print(everywhere(f), everywhere(g))
    """
    assert ok(run(script(text))) == "name 'LATER' is not defined\none one\n2 2\n[3] [3]\n"


def test_a_mentioned_global_that_cannot_travel_is_named(run: Run) -> None:
    text = """
        import threading
        LOCK = threading.Lock()
        def f(): return eval("LOCK")
        for p in (0, 1):
            try:
                go.on(p)(f).result(30)
            except NameError as error:
                print(error.__notes__[0])
        print(everywhere(lambda: "LOCK"))
    """
    reason = "the global 'LOCK' of the script is not in the goroutine: TypeError: cannot pickle '_thread.lock' object"
    assert ok(run(script(text))) == f"goproc: {reason}\n" * 2 + "LOCK\n"


def test_words_of_docstrings_and_keywords_mention_nothing(run: Run) -> None:
    text = '''
        import threading
        class Heavy:
            def __reduce__(self):
                print("pickled")
                return Heavy, ()
        heavy = table = Heavy()
        def f():
            """Not the heavy table."""
            return dict(heavy=1, table=2)
        print(everywhere(f))
    '''
    assert ok(run(script(text))) == "{'heavy': 1, 'table': 2}\n"


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_annotations_resolve(run: Run, future: str) -> None:
    text = """
        @dataclasses.dataclass
        class Point:
            x: int
        @dataclasses.dataclass
        class Line:
            start: Point
            ends: "list[Point]"
        def length(line: Line, unit: "Unit") -> Point: ...
        class Unit: ...
        def of_class():
            hints = typing.get_type_hints(Line)
            return hints["start"] is type(Line(Point(1), []).start), str(hints["ends"])
        def of_function():
            return {k: v.__name__ for k, v in typing.get_type_hints(length).items()}
        print(everywhere(of_class))
        print(everywhere(of_function))
    """
    assert ok(run(future + script(text))) == (
        "(True, 'list[__main__.Point]')\n{'line': 'Line', 'unit': 'Unit', 'return': 'Point'}\n"
    )


def test_a_module_that_only_the_script_has(run: Run, tmp_path) -> None:
    path = tmp_path / "some_file.py"
    path.write_text(
        "import dataclasses\nRATE = 2\n@dataclasses.dataclass\nclass Item:\n    n: int\n"
        "def work(n):\n    return Item(n * RATE)\n"
    )
    text = f"""
        import importlib.util, types
        spec = importlib.util.spec_from_file_location("plugin_of_the_day", {str(path)!r})
        plugin = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = plugin
        spec.loader.exec_module(plugin)
        made = types.ModuleType("made")
        exec("def double(x): return 2 * x", made.__dict__)
        def call(n):
            return plugin.work(n)
        def roundtrip(item):
            return pickle.loads(pickle.dumps(item)) == item
        for f in (plugin.work, call):
            items = [go.on(p)(f, 1).result(30) for p in (0, 1)]
            print(items, [type(item) is plugin.Item for item in items])
        print(everywhere(roundtrip, plugin.Item(1)), everywhere(lambda: made.double(2)))
        plugin.RATE = 5
        print(go.on(1)(plugin.work, 1).result(30))
    """
    assert ok(run(script(text))) == "[Item(n=2), Item(n=2)] [True, True]\n" * 2 + "True 4\nItem(n=5)\n"


def test_a_decorator_that_pickles_as_the_name_of_the_function(run: Run) -> None:
    text = """
        class cached:
            def __init__(self, function):
                functools.update_wrapper(self, function)
                self.cache, self.calls = {}, 0
            def __call__(self, x):
                self.calls += 1
                if x not in self.cache:
                    self.cache[x] = self.__wrapped__(x)
                return self.cache[x]
            def __reduce__(self):
                return self.__qualname__
        @cached
        def square(x): return x * x
        def use(): return square(3), square.calls
        print([go.on(p)(use).result(30) for p in (1, 1, 2)], square.calls)
    """
    assert ok(run(script(text))) == "[(9, 1), (9, 2), (9, 1)] 0\n"


def test_settings_of_the_interpreter_hold_in_workers(run: Run) -> None:
    text = """
        import copyreg, warnings
        sys.set_int_max_str_digits(700)
        warnings.filterwarnings("error", message="serious", category=UserWarning)
        class Odd:
            def __init__(self, lock): self.lock = lock
        def rebuild(): return Odd("made anew")
        copyreg.pickle(Odd, lambda odd: (rebuild, ()))
        def digits():
            try: int("1" * 701)
            except ValueError: return "too long"
        def warned():
            try: warnings.warn("serious")
            except UserWarning as warning: return str(warning)
        def odd(): return pickle.loads(pickle.dumps(Odd(print))).lock
        print(everywhere(digits), everywhere(warned), everywhere(odd))
    """
    assert ok(run(script(text))) == "too long serious made anew\n"


def test_a_filter_for_a_category_that_is_imported_later(run: Run, tmp_path) -> None:
    (tmp_path / "warns_of_things.py").write_text("class Odd(UserWarning): ...\n")
    text = f"""
        sys.path.insert(0, {str(tmp_path)!r})
        import warnings
        warnings.simplefilter("error", __import__("warns_of_things").Odd)
        def f():
            import warnings, importlib
            Odd = importlib.import_module("warns_of_" + "things").Odd
            try: warnings.warn("odd", Odd)
            except Odd: return "raised"
        print(everywhere(f))
    """
    assert ok(run(script(text))) == "raised\n"


def test_streams_that_the_script_has_kept(run: Run) -> None:
    text = """
        import logging
        out, err = sys.stdout, sys.stderr
        handler = logging.StreamHandler(sys.stdout)
        log = logging.Logger("mine")
        log.addHandler(handler)
        def f():
            print("printed", file=out, flush=True)
            print("noted", file=err, flush=True)
            return out is sys.stdout
        print(everywhere(f))
    """
    done = run(script(text))
    assert (done.status, done.out, done.err) == (0, "printed\n" * 3 + "True\n", "noted\n" * 3)


def test_a_copy_of_a_function_is_found_by_its_name_in_the_host(run: Run) -> None:
    text = """
        import __main__
        from concurrent.futures import ProcessPoolExecutor
        RATE = 2
        def helper(x): return x * RATE
        def f():
            assert pickle.loads(pickle.dumps(helper)) is helper is __main__.helper
            return helper(2), __main__.RATE
        def pool():
            with ProcessPoolExecutor(1) as pool:
                return list(pool.map(helper, [1, 2]))
        print(go.on(1)(pool).result(30))
        print(everywhere(f), __main__.helper is helper, type(__main__) is type(sys))
        g = go.on(0)(f)
        RATE = 3
        print(g.result(30), f())
    """
    assert ok(run(script(text))) == "[2, 4]\n(4, 2) True False\n(4, 2) (6, 3)\n"


def test_words_keep_no_handle_alive(run: Run) -> None:
    """The failure is reported when the handle of main goes: no other goroutine has it, whatever it prints."""
    text = """
        from goproc import sleep
        def fails(): raise ValueError("nobody knows")
        def f(ready, end):
            print("g is ready", flush=True)
            ready.send(1)
            end.recv_ok()
        ready, end = chan(), chan()
        g = go.on(1)(fails)
        while g.state != "failed": sleep(0.001)
        other = go.on(2)(f, ready, end)
        ready.recv()
        del g
        print("dropped", file=sys.stderr)
        end.close()
        other.join()
    """
    done = run(script(text))
    assert done.err.index("ValueError: nobody knows") < done.err.index("dropped"), done


def test_eval_finds_a_channel(run: Run) -> None:
    text = """
        ch = chan(3)
        def f(): eval("ch").send(1)
        everywhere(f)
        print(len(ch))
    """
    assert ok(run(script(text))) == "3\n"
