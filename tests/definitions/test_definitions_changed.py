"""The next goroutine sees a change of a class, a function or a global; definitions that nothing uses go."""

from __future__ import annotations

import textwrap

import pytest
from definition_scripts import script
from programs import Run, ok

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


def test_functions_in_use_keep_their_globals(run: Run) -> None:
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
