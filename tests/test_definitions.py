"""The definitions of a script are there by their names wherever its goroutines run: for pickle, eval() and typing."""

from __future__ import annotations

import textwrap

import pytest
from programs import Run, ok

HEAD = """
    import dataclasses, enum, functools, pickle, sys, typing
    from collections import namedtuple
    from goproc import chan, go

    def everywhere(f, *args):
        found = [go.on(p)(f, *args).result(30) for p in (0, 1, 2)]
        return found[0] if found[0] == found[1] == found[2] else found
"""


def script(text: str) -> str:
    return textwrap.dedent(HEAD) + textwrap.dedent(text)


def test_pickle_finds_what_the_script_defines(run: Run) -> None:
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


def test_a_class_that_comes_with_a_message_only(run: Run) -> None:
    text = """
        class Item:
            def __init__(self, n): self.n = n
        def roundtrip(ch):
            item = ch.recv()
            return pickle.loads(pickle.dumps(item)).n, type(item).__name__ in vars(sys.modules["__main__"])
        for p in (0, 1, 2):
            ch = chan(1)
            ch.send(Item(p))
            print(go.on(p)(roundtrip, ch).result(30))
    """
    assert ok(run(script(text))) == "(0, True)\n(1, True)\n(2, True)\n"


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


def test_a_dataclass_made_in_a_goroutine(run: Run) -> None:
    text = """
        def make():
            @dataclasses.dataclass
            class Row:
                kind: typing.ClassVar[str] = "row"
                n: int = 1
                hidden: dataclasses.InitVar[int] = 2
            return [f.name for f in dataclasses.fields(Row)]
        print(everywhere(make))
    """
    assert ok(run("from __future__ import annotations\n" + script(text))) == "['n']\n"


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


def test_a_class_that_reaches_itself(run: Run) -> None:
    text = """
        class Codec:
            decoders = {}
            @classmethod
            def upper(cls, text): return cls.__name__ + text.upper()
            def lower(self, text): return text.lower()
        class Special(Codec): ...
        Codec.decoders["upper"] = Codec.upper
        Codec.decoders["of special"] = Special.upper
        Codec.decoders["lower"] = Codec().lower
        Codec.decoders["partial"] = functools.partial(Codec.upper, "c")
        def f():
            d = Codec.decoders
            return d["upper"]("a"), d["of special"]("b"), d["lower"]("C"), d["partial"](), d["upper"].__self__ is Codec
        print(everywhere(f))
    """
    assert ok(run(script(text))) == "('CodecA', 'SpecialB', 'c', 'CodecC', True)\n"


def test_instances_in_sets_of_their_class(run: Run) -> None:
    text = """
        class Currency:
            def __init__(self, code): self.code = code
            def __hash__(self): return hash(self.code)
            def __eq__(self, other): return self.code == other.code
        Currency.known = {Currency("EUR")}
        Currency.rates = {Currency("EUR"): 1.5}
        def f(more):
            return Currency("EUR") in Currency.known, Currency.rates[Currency("EUR")], Currency("USD") in more
        print(everywhere(f, {Currency("USD")}))
    """
    assert ok(run(script(text))) == "(True, 1.5, True)\n"


def test_what_a_library_has_cached_on_a_class_stays_behind(run: Run) -> None:
    text = """
        import threading
        class Row:
            def __init__(self, n): self.n = n
        Row.__codec_cache__ = threading.Lock()
        def f(row): return row.n, hasattr(Row, "__codec_cache__")
        print([go.on(p)(f, Row(3)).result(30) for p in (0, 1)])
        class Bad:
            lock = threading.Lock()
        try:
            go(lambda: Bad)
        except Exception as error:
            print(type(error).__name__)
    """
    assert ok(run(script(text))) == "[(3, True), (3, False)]\nPickleError\n"


def test_what_is_registered_for_pickling_by_value(run: Run, tmp_path) -> None:
    (tmp_path / "settings_of_mine.py").write_text(
        "RATE = 1\nclass Row:\n    def rate(self): return RATE\ndef rate(): return RATE\n"
    )
    text = f"""
        sys.path.insert(0, {str(tmp_path)!r})
        import cloudpickle, settings_of_mine
        from settings_of_mine import Row, rate
        def f(): return rate(), Row().rate()
        cloudpickle.register_pickle_by_value(settings_of_mine)
        settings_of_mine.RATE = 2
        print(everywhere(f), everywhere(rate))
    """
    assert ok(run(script(text))) == "(2, 2) 2\n"


CHANGES = {
    "an attribute": ("class C: n = 0", "C.n", "C.n += 1"),
    "an attribute of a base": ("class B: n = 0\nclass C(B): ...", "C.n", "B.n += 1"),
    "a new attribute": (
        "class C: ...",
        "len([k for k in vars(C) if k[0] == 'x'])",
        "setattr(C, f'x{turn}', 0)",
    ),
    "a dict": ("class C: items = {}", "len(C.items)", "C.items[turn] = turn"),
    "a list": ("class C: items = [0]", "sum(C.items)", "C.items[0] += 1"),
    "a set": ("class C: items = set()", "len(C.items)", "C.items.add(turn)"),
    "deep inside": ("class C: items = {'a': [[]]}", "len(C.items['a'][0])", "C.items['a'][0].append(1)"),
    "a method": (
        "class C:\n    def n(self): return 0",
        "C().n()",
        "C.n = eval(f'lambda self: {turn}')",
    ),
    "a global of a method": ("n = 0\nclass C:\n    def get(self): return n", "C().get()", "n += 1"),
    "a class that a method uses": (
        "class A: n = 0\nclass C:\n    def get(self): return A.n",
        "C().get()",
        "A.n += 1",
    ),
    "a class that has been sent before": (
        "class A: n = 0\nclass C:\n    a = A\n    def get(self): return self.a.n\neverywhere(lambda: A)",
        "C().get()",
        "A.n += 1",
    ),
    "an instance": (
        "class C:\n    def __init__(self): self.n = 0\nC.default = C()",
        "C.default.n",
        "C.default.n += 1",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_of_a_class_is_seen_by_the_next_goroutine(run: Run, kind: str) -> None:
    definition, expression, change = CHANGES[kind]
    text = f"""
{definition}
def f(): return {expression}
def g(c): return {expression.replace("C.", "type(c).").replace("C()", "c").replace("vars(C)", "vars(type(c))")}
for turn in range(1, 5):
    {change}
    print(everywhere(f), everywhere(g, C()))
"""
    assert ok(run(script("") + text)) == "1 1\n2 2\n3 3\n4 4\n"


CACHED = """
    import os
    loads = chan(100)
    OFFSET = [0]
    @functools.lru_cache
    def model(n=1):
        loads.send(os.getpid())
        return helper(n)
    def helper(n): return n + OFFSET[0]
    def read(n): return model() + n
    def other(): return model()
"""


def test_a_cached_function_is_filled_once_in_each_process(run: Run) -> None:
    text = """
        print(sum(go.on(p)(read, i).result(30) for i in range(5) for p in (1, 2)), len(loads))
        print([go.on(p)(other).result(30) for p in (1, 2)], len(loads))
        print([go.on(p)(model).result(30) for p in (1, 2)], len(loads))
        send = chan(1)
        send.send((model,))
        print(go.on(1)(lambda: send.recv()[0]()).result(30), len(loads))
        print(go.on(0)(other).result(30), go.on(0)(read, 1).result(30), model(), len(loads))
        print(go.on(1)(lambda: model).result(30) is model)
    """
    assert ok(run(script(CACHED) + textwrap.dedent(text))) == "30 2\n[1, 1] 2\n[1, 1] 2\n1 2\n1 2 1 3\nTrue\n"


def test_a_cached_function_has_the_globals_of_the_latest_go_line(run: Run) -> None:
    text = """
        def fresh(n): return model(n)
        print(go.on(1)(fresh, 1).result(30))
        OFFSET[0] = 10
        print(go.on(1)(fresh, 2).result(30), go.on(1)(fresh, 1).result(30))
        @functools.lru_cache
        def model(n=1):
            return -helper(n)
        print(go.on(1)(fresh, 1).result(30))
    """
    assert ok(run(script(CACHED) + textwrap.dedent(text))) == "1\n12 1\n-11\n"


def test_a_cached_recursive_function(run: Run) -> None:
    text = """
        @functools.cache
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        def f(n): return fib(n), fib.cache_info().misses
        print(go.on(1)(f, 80).result(30), go.on(1)(f, 80).result(30), fib.cache_info().misses)
    """
    assert ok(run(script(text))) == "(23416728348467685, 81) (23416728348467685, 81) 0\n"


def test_the_globals_of_a_goroutine_go_with_it(run: Run) -> None:
    """Without the cyclic collector, although a function and its globals refer to each other."""
    text = """
        import gc, threading
        from goproc import Atomic, WaitGroup, yield_now
        freed, wg = Atomic(0), WaitGroup()
        class Big:
            def __init__(self, n): self.n = n
            def __del__(self):
                if self.n: freed.add(1)
        BIG = Big(0)
        def f(n): return helper(n)
        def helper(n): return BIG.n or (n and f(n - 1))
        go.on(1)(gc.disable).result(30)
        BIG.n = 1
        for _ in range(5):
            go.on(1)(f, 1).result(30)
            wg.go(f, 1)
        wg.wait()
        while freed.load() < 10: yield_now()
        BIG.n = 0
        print("freed")
    """
    assert ok(run(script(text), procs=1)) == "freed\n"


def test_what_is_still_used_keeps_its_globals(run: Run) -> None:
    text = """
        import threading
        TABLE = {"a": 1}
        def read(): return TABLE["a"]
        def later(started, end, out):
            started.send(1)
            end.recv()
            out.send(read())
        def keep(how, *channels):
            if how == "function": sys.kept = read
            if how == "thread": threading.Thread(target=later, args=channels).start()
            if how == "generator": sys.kept = (read() for _ in range(3)).__next__
            if how == "class":
                class Reader:
                    def __call__(self): return read()
                sys.kept = Reader()
            return read()
        for how in ("function", "generator", "class"):
            print(how, go.on(1)(keep, how).result(30), go.on(1)(lambda: sys.kept()).result(30))
        started, end, out = chan(1), chan(1), chan(1)
        print(go.on(1)(keep, "thread", started, end, out).result(30))
        started.recv(); end.send(1)
        print(out.recv())
    """
    assert ok(run(script(text))) == "function 1 1\ngenerator 1 1\nclass 1 1\n1\n1\n"


def test_classes_that_only_annotations_name(run: Run) -> None:
    text = """
        @dataclasses.dataclass
        class Point:
            x: "X"
        class X: ...
        @dataclasses.dataclass
        class Line:
            start: "Point"
            links: "typing.Optional[Line]"
        def f(kind):
            start = typing.get_type_hints(kind)["start"]
            return start.__name__, typing.get_type_hints(start)["x"].__name__
        print(everywhere(f, Line))
    """
    assert ok(run(script(text))) == "('Point', 'X')\n"


ALTERED = {
    "keyword default": ("f(*, k=0): return k", "f()", 'f.__kwdefaults__["k"] = turn'),
    "default": ("f(k=0): return k", "f()", "f.__defaults__ = (turn,)"),
    "name": ("f(): return 1", "int(f.__name__[1:])", "f.__name__ = f'f{turn}'"),
    "qualified name": ("f(): return 1", "int(f.__qualname__[1:])", "f.__qualname__ = f'f{turn}'"),
    "annotation": ("f(k: int): return 1", "f.__annotations__['k']", "f.__annotations__['k'] = turn"),
    "attribute": ("f(): return f.n", "f()", "f.n = turn"),
}


@pytest.mark.parametrize("kind", ALTERED)
def test_a_change_of_a_function_is_seen_by_the_next_goroutine(run: Run, kind: str) -> None:
    definition, expression, change = ALTERED[kind]
    text = f"""
def {definition}
def g(): return {expression}
def h(f): return {expression}
for turn in range(1, 4):
    {change}
    print(everywhere(g), everywhere(h, f))
"""
    assert ok(run(script("") + text)) == "1 1\n2 2\n3 3\n"


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


def test_classes_of_libraries_that_reach_their_methods(run: Run) -> None:
    text = """
        class Fields:
            def __init__(self, cls): self.check = cls.check
        def remember(cls):
            cls.__library_fields__ = Fields(cls)
            return cls
        @remember
        class Row:
            @classmethod
            def check(cls, n): return cls.__name__, n
        def f(): return Row.__library_fields__.check(1), Row.__library_fields__.check.__self__ is Row
        print(everywhere(f))
    """
    assert ok(run(script(text))) == "(('Row', 1), True)\n"


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


def test_a_local_class_keeps_its_full_name(run: Run) -> None:
    text = """
        class Outer:
            class Inner: n = 1
        def make():
            class Local: n = 2
            return Local
        def f(*classes):
            return [(c.__qualname__, c.n, hasattr(sys.modules["__main__"], c.__name__)) for c in classes]
        print(everywhere(f, Outer.Inner, make()))
        print(everywhere(lambda: pickle.loads(pickle.dumps(Outer.Inner())).n))
    """
    assert ok(run(script(text))) == "[('Outer.Inner', 1, False), ('make.<locals>.Local', 2, False)]\n1\n"


def test_classes_that_were_sent_are_not_kept(run: Run) -> None:
    text = """
        import gc, weakref
        ch, made = chan(1), []
        def make(i):
            class Base: v = i
            class A(Base):
                def get(self): return super().v
            return A
        class B: ...
        for i in range(400):
            A = make(i)
            class B:
                v = i
                def get(self): return __class__.v
            made += [weakref.ref(A), weakref.ref(B)]
            ch.send((A(), B()))
            a, b = ch.recv()
            assert a.get() == b.get() == i
        del A, a, b
        gc.collect()
        print(sum(ref() is not None for ref in made) <= 300)
    """
    assert ok(run(script(text))) == "True\n"


def test_a_class_without_a_module(run: Run) -> None:
    text = """
        class Nowhere:
            __module__ = None
            def __init__(self, n): self.n = n
        print(everywhere(lambda item: item.n, Nowhere(4)))
    """
    assert ok(run(script(text))) == "4\n"


def test_a_new_type_of_the_script_is_one_object(run: Run) -> None:
    text = """
        from typing import NewType, Optional, get_type_hints
        class Record: pass
        UserId = NewType("UserId", int)
        RecordId = NewType("RecordId", Record)
        Inner = NewType("Inner", UserId)
        NAMES = {UserId: "user", Inner: "inner"}
        @dataclasses.dataclass
        class Row:
            user: UserId
            record: "RecordId"
        def parse(text: UserId, other: "Inner" = None) -> Optional[RecordId]: return UserId(int(text))
        def f():
            hints = get_type_hints(parse)
            return (parse("5"), hints["text"] is UserId, hints["other"] is Inner, hints["return"] == Optional[RecordId],
                    get_type_hints(Row) == {"user": UserId, "record": RecordId}, RecordId.__supertype__ is Record,
                    Inner.__supertype__ is UserId, NAMES[UserId], repr(UserId), pickle.loads(pickle.dumps(UserId)) is UserId)
        def same(kind): return kind is UserId, kind
        print(everywhere(f))
        print([found is UserId and there for there, found in [go.on(p)(same, UserId).result() for p in (0, 1, 2)]])
        ch = chan(1)
        ch.send({UserId: [UserId]})
        def receive(): return ch.recv()[UserId][0] is UserId
        print(go.on(1)(receive).result())
        first, UserId = UserId, NewType("UserId", str)
        def both(): return first.__supertype__, UserId.__supertype__
        print(everywhere(both))
    """
    found = (5, *[True] * 6, "user", "__main__.UserId", True)
    kinds = "(<class 'int'>, <class 'str'>)"
    assert ok(run(script(text))) == f"{found}\n[True, True, True]\nTrue\n{kinds}\n"
